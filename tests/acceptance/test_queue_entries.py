"""Entries of the queue that are no steps: workers drop them, say so, and live. Also a fuzz of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import kombu
import pytest
import redis

from agentkit.settings import Settings
from tests.acceptance.model import script
from tests.acceptance.stack import Stack, WorkerProcess
from tests.queue_entries import malformed, mutations, valid
from tests.turns import call
from tests.waiting import wait_until

POOLS = {"threads": ("-P", "threads", "-c", "4"), "prefork": ("-P", "prefork", "-c", "2")}
FUZZED = 400
QUEUE = Settings().queue


@pytest.fixture
def worker(stack: Stack, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[WorkerProcess]:
    stack.kill_workers()
    pool = POOLS[request.param]
    # Not lost: what the valid ones among the entries name is in no store, and goes back a few times.
    worker = WorkerProcess(f"worker-{request.param}", stack.env, tmp_path, pool)
    worker.start()
    yield worker
    worker.kill()


def check_that_it_lives(stack: Stack, worker: WorkerProcess, pid: int) -> None:
    assert worker.process is not None
    assert worker.process.poll() is None, worker.log()[-3000:]
    run_id = stack.web_a.begin("support", script([call("look_up", order_id="A-1")], "I live."))
    stack.wait_for(run_id, "completed", timeout=20)
    stack.checked(run_id)
    assert worker.pid == pid
    assert "Unrecoverable error" not in worker.log()


@pytest.mark.parametrize("worker", POOLS, indirect=True)
def test_a_worker_outlives_every_malformed_entry_and_serves_the_next_run(stack: Stack, worker: WorkerProcess) -> None:
    entries = list(malformed())
    assert len(entries) > 300
    pid = worker.pid
    with redis.Redis.from_url(stack.store.url) as client:
        for first in range(0, len(entries), 40):
            client.lpush(QUEUE, *(entry for _, entry in entries[first : first + 40]))
            wait_until(
                lambda: client.llen(QUEUE) < 5, timeout=20, what=f"the entries from {entries[first][0]} to be read"
            )
            assert worker.process is not None
            assert worker.process.poll() is None, worker.log()[-3000:]
    check_that_it_lives(stack, worker, pid)
    assert "is no message and was dropped" in worker.log()


@pytest.mark.parametrize("worker", POOLS, indirect=True)
def test_a_worker_outlives_a_fuzz_of_its_queue(stack: Stack, worker: WorkerProcess) -> None:
    pid = worker.pid
    with redis.Redis.from_url(stack.store.url) as client:
        for entry in mutations("queue", FUZZED):
            client.lpush(QUEUE, entry)
        wait_until(lambda: client.llen(QUEUE) < 5, timeout=30, what="the fuzzed entries to be read")
    check_that_it_lives(stack, worker, pid)


@pytest.mark.brokers("rabbitmq")
@pytest.mark.parametrize("worker", ["threads"], indirect=True)
def test_a_worker_on_rabbitmq_outlives_messages_that_it_cannot_use(stack: Stack, worker: WorkerProcess) -> None:
    pid = worker.pid
    with kombu.Connection(stack.broker.url) as connection:
        channel = connection.channel()

        def publish(body: bytes, headers: object, content_type: object, encoding: object) -> None:
            message = channel.prepare_message(
                body, content_type=content_type, content_encoding=encoding, headers=headers, properties={}
            )
            channel.basic_publish(message, exchange="", routing_key=QUEUE)

        count = 0
        for _, entry in malformed():
            try:
                message = json.loads(entry)
                body = base64.b64decode(message["body"])
                headers = message["headers"]
                kinds = message.get("content-type"), message.get("content-encoding")
                if not isinstance(headers, dict) or not all(kind is None or isinstance(kind, str) for kind in kinds):
                    continue
                publish(body, headers, *kinds)
                count += 1
            except Exception:  # what AMQP itself cannot carry
                continue
        publish(b"", {}, None, None)
        publish(b"\xff", valid()["headers"], "application/json", "utf-8")
        assert count > 150
    wait_until(lambda: stack.queued() < 5, timeout=30, what="the messages to be read")
    check_that_it_lives(stack, worker, pid)
