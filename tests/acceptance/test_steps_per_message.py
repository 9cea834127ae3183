"""Several steps for one message of the queue: each is a task that Flower shows, and nobody waits for their end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from agentkit import AgentKit
from agentkit.queue.application import celery_app
from agentkit.settings import Settings
from tests.acceptance.ledger import Ledger
from tests.acceptance.lookups import LOOKUPS, STEPS, agent
from tests.acceptance.stack import WorkerProcess, environment
from tests.servers import ValkeyServer
from tests.waiting import wait_until

POOLS = {
    "threads": ("-P", "threads", "-c", "4"),
    "prefork": ("-P", "prefork", "-c", "2"),
    "gevent": ("-P", "gevent", "-c", "4"),
    "solo": ("-P", "solo"),
}


class Place:
    """A store, the client's kit, and the worker that a test starts."""

    def __init__(self, folder: Path, server: ValkeyServer) -> None:
        self.folder = folder
        self.server = server
        self.settings = Settings(redis_url=server.url)
        self.kit = AgentKit([agent], settings=self.settings)
        self.ledger = Ledger(folder / "ledger.jsonl")
        env = environment(
            AGENTKIT_APP="tests.acceptance.lookups:kit",
            AGENTKIT_REDIS_URL=server.url,
            AGENTKIT_STEPS_PER_MESSAGE="32",
            ACCEPTANCE_LEDGER=str(self.ledger.path),
        )
        self._env = env
        self.worker: WorkerProcess | None = None

    def start(self, pool: tuple[str, ...]) -> None:
        self.worker = WorkerProcess("worker", self._env, self.folder, pool, ("-E",))
        self.worker.start()

    def close(self) -> None:
        if self.worker is not None:
            self.worker.kill()
        self.kit.close()

    def messages(self) -> int:
        """Count the messages that steps had in the queue."""
        with redis.Redis.from_url(self.server.url) as client:
            return int(client.info("commandstats").get("cmdstat_lpush", {}).get("calls", 0))

    @contextmanager
    def task_events(self) -> Iterator[list[dict[str, Any]]]:
        """Celery's events of tasks, as Flower receives them."""
        events: list[dict[str, Any]] = []
        app, over, there = celery_app(self.settings), threading.Event(), threading.Event()

        def receive() -> None:
            with app.connection_for_read() as connection:
                receiver = app.events.Receiver(connection, handlers={"*": events.append})
                with receiver.consumer_context() as (receiving, _, _):
                    there.set()
                    while not over.is_set():
                        try:
                            receiving.drain_events(timeout=0.1)
                        except TimeoutError:
                            continue

        thread = threading.Thread(target=receive)
        thread.start()
        assert there.wait(10)
        try:
            yield events
        finally:
            over.set()
            thread.join()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ValkeyServer(tmp_path / "valkey") as server:
        place = Place(tmp_path, server)
        try:
            yield place
        finally:
            place.close()


@pytest.mark.parametrize("pool", POOLS)
def test_each_step_is_a_task_with_an_id_and_events_of_its_own_and_hardly_any_is_a_message(
    place: Place, pool: str
) -> None:
    place.start(POOLS[pool])
    with place.task_events() as events:
        run = place.kit.start("clerk", "go").wait(20)
        assert run.status == "completed"
        ends = wait_until(
            lambda: done if len(done := steps_of(events, "task-succeeded")) == STEPS else None,
            what="the events of all steps",
        )
    received = {event["uuid"]: event for event in steps_of(events, "task-received")}
    started = [event["uuid"] for event in steps_of(events, "task-started")]
    assert len(received) == STEPS
    assert sorted(received) == sorted(started) == sorted(event["uuid"] for event in ends)
    by_step = sorted(received.values(), key=lambda event: int(event["args"].rsplit(", ", 1)[1].rstrip(")")))
    assert [event["name"] for event in by_step] == [
        *(["agentkit.model_call", "agentkit.tool_call"] * LOOKUPS),
        "agentkit.model_call",
    ]
    assert {event["root_id"] for event in by_step} == {by_step[0]["uuid"]}
    assert [event["parent_id"] for event in by_step[1:]] == [event["uuid"] for event in by_step[:-1]]
    assert len({event["hostname"] for event in events if event["type"].startswith("task-")}) == 1
    assert place.messages() < STEPS // 2


def steps_of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Filter the events of a kind that are of steps."""
    of_steps = {event["uuid"] for event in events if event.get("name", "").endswith("_call")}
    return [event for event in events if event["type"] == kind and event["uuid"] in of_steps]


ONE_SLOT = {
    "threads": ("-P", "threads", "-c", "1"),
    "prefork": ("-P", "prefork", "-c", "1"),
    # With its greenlets busy this pool acknowledges what it has taken every two seconds only.
    "gevent": ("-P", "gevent", "-c", "1", "--prefetch-multiplier", "16"),
    "solo": ("-P", "solo"),
}


@pytest.mark.parametrize("pool", POOLS)
def test_where_runs_wait_for_the_only_slot_all_get_turns(place: Place, pool: str) -> None:
    runs = [place.kit.start("clerk", "go") for _ in range(3)]
    place.start(ONE_SLOT[pool])
    for run in runs:
        assert run.wait(30).status == "completed"
    order = [entry["run"] for entry in place.ledger.entries(tool="look_up")]
    firsts = {run.id: order.index(run.id) for run in runs}
    lasts = {run.id: len(order) - 1 - order[::-1].index(run.id) for run in runs}
    assert max(firsts.values()) < min(lasts.values()), "one began only after another had ended"
