"""How often the broker is connected to for those who ask whether it is reachable: anybody may, at any rate."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from agentkit.queue import celery
from agentkit.queue.celery import CeleryQueue
from agentkit.settings import Settings


class Connection:
    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def ensure_connection(self, **options: Any) -> None:
        pass


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connections that were opened; an exception in it is raised in place of the next one."""
    opened: list[Any] = []

    def connect(**options: Any) -> Connection:
        opened.append(options)
        if isinstance(opened[0], Exception):
            raise opened[0]
        return Connection()

    conf = SimpleNamespace(broker_write_url="redis://broker.example")
    app = SimpleNamespace(connection_for_write=connect, conf=conf)
    monkeypatch.setattr(celery, "celery_app", lambda settings: app)
    return opened


def make_queue() -> CeleryQueue:
    return CeleryQueue(Settings(redis_url="redis://store.example", broker_url="redis://broker.example"))


def test_who_asks_together_or_within_a_second_gets_one_answer(connected: list[Any]) -> None:
    queue = make_queue()
    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(lambda _: queue.reachable(), range(200)))
    assert len(connected) == 1


def test_after_a_second_the_broker_is_asked_again(connected: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(celery, "time", SimpleNamespace(monotonic=lambda: now[0]))
    queue = make_queue()
    answers = []
    for at in (1000.0, 1000.9, 1001.0, 1001.9, 1002.1):
        now[0] = at
        answers.append(queue.reachable())
    assert answers == [True] * 5
    assert len(connected) == 3


def test_that_it_is_away_is_remembered_as_long_and_no_longer(
    connected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(celery, "time", SimpleNamespace(monotonic=lambda: now[0]))
    connected.append(OSError("refused"))
    queue = make_queue()
    assert [queue.reachable() for _ in range(5)] == [False] * 5
    assert len(connected) == 2
    connected.clear()
    now[0] += 1
    assert queue.reachable()
