"""The queue on Celery: its name, its messages, and the broker that a worker must listen on."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import signals

from agentkit import Agent, AgentKit, ScriptedModel
from agentkit.queue import celery as celery_queue
from agentkit.queue.application import TASKS, celery_app, differing_brokers
from agentkit.queue.celery import CeleryQueue, send
from agentkit.settings import Settings
from agentkit.store.memory import MemoryStore
from tests.apps import in_background

HOSTS_URL = "redis://:hunter2@one:1/3"


@pytest.mark.parametrize(
    ("settings", "queue"),
    [
        ({}, "agentkit"),
        ({"key_prefix": "shop:"}, "shop"),
        ({"key_prefix": "shop:prod:"}, "shop:prod"),
        ({"key_prefix": "shop"}, "shop"),
        ({"key_prefix": ":"}, ":"),
        ({"key_prefix": "shop:", "queue": "slow"}, "slow"),
    ],
)
def test_the_queue_is_the_prefix_without_its_last_colon_unless_it_is_named(
    settings: dict[str, str], queue: str
) -> None:
    made = Settings(**settings)
    assert made.queue == queue
    assert celery_app(made).conf.task_default_queue == queue
    push = CeleryQueue(made).push("r", 1, "model")
    assert push is not None
    assert push.queue == queue
    assert json.loads(push.message)["properties"]["delivery_info"]["routing_key"] == queue


def test_threads_that_send_their_first_steps_at_once_name_each_the_task_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both = threading.Barrier(2)

    def send_together(*args: Any, **options: Any) -> None:
        send(*args, **options)
        both.wait(30)

    monkeypatch.setattr(celery_queue, "send", send_together)
    for _ in range(12):  # of two messages in one queue, each thread may find its own by chance
        queue = CeleryQueue(Settings())
        first = [in_background(functools.partial(queue.push, "r", 1, kind)) for kind in TASKS]
        for thread in first:
            thread.join(30)
        for kind, task in TASKS.items():
            push = queue.push("r", 1, kind)
            assert push is not None
            assert json.loads(push.message)["headers"]["task"] == task


def test_the_environment_names_the_queue() -> None:
    assert Settings.from_env({"AGENTKIT_KEY_PREFIX": "a:b:"}).queue == "a:b"
    assert Settings.from_env({"AGENTKIT_KEY_PREFIX": "a:b:", "AGENTKIT_QUEUE": "q"}).queue == "q"


def test_installations_on_one_broker_share_neither_queue_nor_control_nor_events() -> None:
    one, other = (celery_app(Settings(redis_url=HOSTS_URL, key_prefix=prefix)).conf for prefix in ("agentkit:", "b:"))
    for name in ("task_default_queue", "control_exchange", "event_exchange"):
        assert one[name] != other[name], name


class Headers:
    """A handler of `before_task_publish` that adds what belongs to this one message."""

    def __init__(self) -> None:
        self.calls = 0
        self.sent: list[dict[str, Any]] = []

    def __call__(self, headers: dict[str, Any] | None = None, **_: Any) -> None:
        self.calls += 1
        assert headers is not None
        headers["trace"] = f"trace {self.calls}"
        self.sent.append(headers)


@pytest.fixture(params=["before_task_publish", "after_task_publish"])
def signal(request: pytest.FixtureRequest) -> Any:
    return getattr(signals, request.param)


@pytest.fixture
def handler(signal: Any) -> Iterator[Headers]:
    handler = Headers()
    signal.connect(handler, weak=False)
    yield handler
    signal.disconnect(handler)


def test_where_somebody_is_called_for_each_message_celery_sends_each(handler: Headers) -> None:
    app_queue = CeleryQueue(Settings(redis_url=HOSTS_URL, key_prefix=f"{id(handler)}:"))
    assert app_queue.push("r", 1, "model") is None


def test_each_message_has_what_its_own_publishing_gave_it() -> None:
    handler = Headers()
    settings = Settings(redis_url=HOSTS_URL, broker_url="memory://", key_prefix="memory:")
    queue = CeleryQueue(settings)
    signals.before_task_publish.connect(handler, weak=False)
    try:
        for step in (1, 2, 3):
            queue.enqueue("r", step, "tool")
    finally:
        signals.before_task_publish.disconnect(handler)
    assert [headers["trace"] for headers in handler.sent] == ["trace 1", "trace 2", "trace 3"]
    assert [headers["argsrepr"] for headers in handler.sent] == [f"('r', {step})" for step in (1, 2, 3)]


@pytest.mark.parametrize("kind", ["model", "tool"])
def test_a_template_keeps_no_header_of_a_handler_that_is_gone(kind: Any) -> None:
    queue = CeleryQueue(Settings(redis_url=HOSTS_URL, key_prefix=f"gone-{kind}:"))
    handler = Headers()
    signals.before_task_publish.connect(handler, weak=False)
    try:
        assert queue.push("r", 1, kind) is None
    finally:
        signals.before_task_publish.disconnect(handler)
    for step in (1, 2):
        push = queue.push("r", step, kind)
        assert push is not None
        assert "trace" not in json.loads(push.message)["headers"]


@pytest.mark.parametrize(
    ("store_url", "is_pushed"), [(None, True), (HOSTS_URL, True), ("redis://two:1/3", False), ("", False)]
)
def test_a_commit_pushes_messages_only_where_its_store_is_the_broker(store_url: str | None, is_pushed: bool) -> None:
    queue = CeleryQueue(Settings(redis_url=HOSTS_URL), store_url)
    assert (queue.push("r", 1, "model") is not None) is is_pushed


def test_a_kit_whose_store_is_no_server_sends_its_messages() -> None:
    kit = AgentKit([Agent("a", ScriptedModel(["x"]))], settings=Settings(redis_url=HOSTS_URL), store=MemoryStore())
    assert kit._engine.queue.push("r", 1, "model") is None


@pytest.mark.parametrize(
    ("worker", "kit"),
    [
        ("redis://one:1/3", "redis://two:1/3"),
        ("redis://one:1/3", "redis://one:2/3"),
        ("redis://one:1/3", "redis://one:1/4"),
        ("redis://one:1/3", "amqp://one//"),
        ("amqp://one/a", "amqp://one/b"),
        ("redis://:hunter2@one:1/3", "redis://:hunter2@two:1/3"),
        ("redis+sentinel://:hunter2@one/runs", "redis+sentinel://:hunter2@one,two/runs"),
    ],
)
def test_a_worker_on_another_broker_is_found_and_both_are_named_without_a_password(worker: str, kit: str) -> None:
    names = differing_brokers(celery_app(Settings(redis_url=worker, broker_url=worker)), Settings(broker_url=kit))
    assert names is not None
    assert names[0] != names[1]
    assert "hunter2" not in "".join(names)
    assert all("one" in name or "two" in name for name in names)


@pytest.mark.parametrize(
    ("worker", "kit"),
    [
        ("redis://one", "redis://one:6379/0"),
        ("redis://one/", "redis://one:6379/0"),
        ("redis://:hunter2@one/3", "redis://:hunter2@one:6379/3"),
        ("amqp://one//", "amqp://guest:guest@one:5672//"),
        ("rediss://one/0", "rediss://one/0?ssl_cert_reqs=required"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock?db=0"),
        ("redis+sentinel://one,two/runs", "redis+sentinel://one,two:26379/runs/0"),
    ],
)
def test_one_broker_written_in_two_ways_is_one(worker: str, kit: str) -> None:
    app = celery_app(Settings(redis_url="redis://x", broker_url=worker))
    assert differing_brokers(app, Settings(broker_url=kit)) is None
