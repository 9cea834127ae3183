"""What agentkit asks of RabbitMQ, and what a RabbitMQ that does not answer may cost a request."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentkit.queue.celery import CeleryQueue, send
from agentkit.settings import Settings
from tests.rabbitmq import RabbitServer
from tests.waiting import wait_until

VHOST = "messages"


@pytest.fixture
def queue(rabbitmq: RabbitServer) -> CeleryQueue:
    if not rabbitmq.running:
        rabbitmq.start()
    rabbitmq.purge(VHOST)
    return CeleryQueue(Settings(broker_url=rabbitmq.url(VHOST)))


def test_the_first_message_declares_a_quorum_queue(queue: CeleryQueue, rabbitmq: RabbitServer) -> None:
    CeleryQueue(Settings(broker_url=rabbitmq.url("new"))).enqueue("a-run", 1, "model")
    assert rabbitmq.queued("new") >= 1
    assert rabbitmq.has_quorum_queue("new")


def test_many_threads_enqueue_and_no_message_is_lost(queue: CeleryQueue, rabbitmq: RabbitServer) -> None:
    with ThreadPoolExecutor(32) as threads:
        list(threads.map(lambda step: send(queue.app, "a-run", step, "model"), range(300)))
    assert rabbitmq.queued(VHOST) == 300
    assert queue.queued(queue.name("model")) == 300
    assert queue.reachable()


def test_connections_that_died_in_the_pool_are_made_anew_without_losing_a_message(
    queue: CeleryQueue, rabbitmq: RabbitServer
) -> None:
    def send_many() -> None:
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda step: send(queue.app, "a-run", step, "tool"), range(32)))

    send_many()
    rabbitmq.kill()
    assert not queue.reachable()
    rabbitmq.start()
    send_many()
    assert rabbitmq.queued(VHOST) == 64


def test_a_rabbitmq_that_hangs_holds_one_caller_for_seconds_and_the_others_not_at_all(
    queue: CeleryQueue, rabbitmq: RabbitServer
) -> None:
    queue.enqueue("a-run", 1, "model")
    os.killpg(rabbitmq.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        queue.enqueue("a-run", 2, "model")
        assert time.monotonic() - began < 12
        began = time.monotonic()
        for step in range(100):
            queue.enqueue("a-run", step, "model")
        assert not queue.reachable()
        assert time.monotonic() - began < 4
    finally:
        os.killpg(rabbitmq.pid, signal.SIGCONT)

    def arrives() -> bool:
        before = rabbitmq.queued(VHOST)
        queue.enqueue("a-run", 3, "model")
        return rabbitmq.queued(VHOST) > before

    wait_until(arrives, what="a message to arrive again", every=0.2)
