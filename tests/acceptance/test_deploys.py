"""Workers and web processes that are stopped and started again, as a deploy does it, while runs are under way."""

from __future__ import annotations

import itertools
import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.model import script
from tests.acceptance.stack import Process, Stack, WebProcess, WorkerProcess
from tests.turns import call
from tests.waiting import wait_until

POOLS = {
    "threads": ("-P", "threads", "-c", "2"),
    "prefork": ("-P", "prefork", "-c", "2"),
    "gevent": ("-P", "gevent", "-c", "4"),
}
ANSWER = "It takes a while to say all this, but not so long that a worker which is to stop could not say it to its end."
AT_ONCE_SECONDS = 10.0
"""A heartbeat, and what a busy machine adds to it: far from the 30 seconds that the leases of these workers last."""


class Workers:
    """Workers of one test, which come and go."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._started: list[WorkerProcess] = []

    def start(self, name: str, pool: tuple[str, ...], **settings: str) -> WorkerProcess:
        env = {**self._stack.env, "AGENTKIT_LEASE_SECONDS": "30", **settings}
        self._started.append(WorkerProcess(name, env, self._folder, pool))
        self._started[-1].start()
        return self._started[-1]

    def kill(self) -> None:
        for worker in self._started:
            worker.kill()


@pytest.fixture
def workers(stack: Stack, tmp_path: Path) -> Iterator[Workers]:
    stack.kill_workers()
    workers = Workers(stack, tmp_path)
    yield workers
    workers.kill()


@pytest.fixture(params=["1", "32"])
def steps_per_message(stack: Stack, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """How many steps the stack's workers execute for one message."""
    stack.kill_workers()
    monkeypatch.setitem(stack.env, "AGENTKIT_STEPS_PER_MESSAGE", request.param)
    stack.repair()
    yield request.param
    stack.kill_workers()


def signal_process(process: Process, number: int) -> None:
    assert process.process is not None
    process.process.send_signal(number)


def wait_for_end(process: Process) -> None:
    assert process.process is not None
    process.process.wait(20)


def next_of(events: Iterator[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(event for event in events if event["type"] == kind)


WARM: tuple[dict[str, int], dict[str, str]] = (
    dict.fromkeys(POOLS, signal.SIGTERM),
    {"AGENTKIT_STOP_GRACE_SECONDS": "0.3"},
)
COLD: tuple[dict[str, int], dict[str, str]] = (
    {"threads": signal.SIGTERM, "prefork": signal.SIGQUIT, "gevent": signal.SIGTERM},
    {"AGENTKIT_STOP_GRACE_SECONDS": "60", "REMAP_SIGTERM": "SIGQUIT"},
)


SERIES: tuple[dict[str, int], dict[str, str]] = (WARM[0], {**WARM[1], "AGENTKIT_STEPS_PER_MESSAGE": "32"})


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("signals", "settings"), [WARM, COLD, SERIES], ids=["warm", "cold", "warm-32-steps"])
def test_every_pool_hands_its_model_call_to_the_next_worker_at_once(
    stack: Stack, workers: Workers, signals: dict[str, int], settings: dict[str, str], request: pytest.FixtureRequest
) -> None:
    name = f"silent {request.node.callspec.id}"
    chain = list(POOLS.items())
    worker = workers.start(*chain[0], **settings)
    run_id = stack.web_a.begin("support", script("This is never said to its end.", name=name, silent=True))
    with closing(stack.web_b.follow(run_id)) as watching:
        next_of(watching, "message_update")
        for (pool, _), (successor, options) in itertools.pairwise([*chain, ("last", POOLS["threads"])]):
            then = workers.start(successor, options, **settings)
            began = time.monotonic()
            signal_process(worker, signals[pool])
            next_of(watching, "message_discard")
            assert time.monotonic() - began < AT_ONCE_SECONDS, pool
            next_of(watching, "message_update")
            wait_for_end(worker)
            worker = then
    assert len(stack.ledger.entries(model=name)) == 4
    stack.web_a.abort(run_id)
    stack.wait_for(run_id, "aborted")
    events = stack.checked(run_id, "aborted")
    assert [event["type"] for event in events].count("message_discard") == 3


def test_an_answer_that_ends_within_the_grace_is_kept_and_what_waits_in_the_worker_is_passed_on(
    stack: Stack, workers: Workers
) -> None:
    worker = workers.start("stopping", ("-P", "threads", "-c", "1"), AGENTKIT_STOP_GRACE_SECONDS="40")
    message = script(
        [{"type": "text", "text": ANSWER}, call("look_up", order_id="A-1")], "Done.", name="slow", delay=0.9
    )
    slow = stack.web_a.begin("support", message)
    with closing(stack.web_b.follow(slow)) as watching:
        next_of(watching, "message_update")
    waiting = stack.web_a.begin("support", script("Here I am."))
    wait_until(lambda: stack.queued() == 0, what="the only worker to take the message")
    workers.start("next", ("-P", "threads", "-c", "8"))
    signal_process(worker, signal.SIGTERM)
    stack.wait_for(waiting, "completed")
    assert stack.web_a.get(slow)["messages"][1:] == [], "the stopping worker is still at its first answer"
    wait_for_end(worker)
    stack.wait_for(slow, "completed")
    events = stack.checked(slow)
    assert "message_discard" not in [event["type"] for event in events]
    assert len(stack.ledger.entries(model="slow")) == 2
    [entry] = stack.ledger.entries(run=slow, tool="look_up")
    assert entry["pid"] != worker.pid
    stack.checked(waiting)


# -- a rolling restart -----------------------------------------------------------------------------


TURNS = (
    [{"type": "text", "text": ANSWER}, call("refund", order_id="A-1", cents=5)],
    [{"type": "text", "text": "Let me see."}, call("look_up", order_id="A-1"), call("look_up", order_id="A-2")],
    ANSWER,
)


def watch(stack: Stack, run_id: str, first: int) -> list[dict[str, Any]]:
    """Every event of a run as a client gets them that reconnects, to either web process, until the run's end."""
    seen: list[dict[str, Any]] = []
    for web in itertools.islice(itertools.cycle((stack.web_a, stack.web_b)), first, 5000):
        headers = {"Last-Event-ID": str(seen[-1]["seq"])} if seen else {}
        try:
            with httpx.stream(
                "GET", f"http://127.0.0.1:{web.port}/runs/{run_id}/events", headers=headers, timeout=20
            ) as response:
                assert response.status_code == 200, response.read()
                for line in response.iter_lines():
                    if line.startswith("data: "):
                        seen.append(json.loads(line.removeprefix("data: ")))
        except httpx.TransportError:
            pass  # this one is away: ask the other
        if seen and seen[-1]["type"] == "agent_end":
            return seen
    raise AssertionError(f"no end after {len(seen)} events")


def decide(stack: Stack, run_id: str, first: int) -> None:
    """Answer the run's decision when it comes, by whichever web process is there."""
    for web in itertools.islice(itertools.cycle((stack.web_a, stack.web_b)), first, 5000):
        url = f"http://127.0.0.1:{web.port}/runs/{run_id}"
        try:
            with httpx.Client(timeout=20) as http:
                wait_until(lambda http=http, url=url: http.get(url).json()["pending"], every=0.05)  # type: ignore[misc]
                answer = http.post(f"{url}/resume", json={"decision": {"approved": True}})
        except httpx.TransportError:
            continue
        assert answer.status_code == 202, answer.text
        return


@pytest.mark.timeout(180)
def test_a_rolling_restart_under_load_loses_no_run_no_event_and_no_decision(
    stack: Stack, steps_per_message: str
) -> None:
    started: list[str] = []
    watchers: list[Future[list[dict[str, Any]]]] = []
    deciders: list[Future[None]] = []
    with ThreadPoolExecutor(32) as clients:

        def begin(count: int, by: WebProcess) -> None:
            for _ in range(count):
                run_id = by.begin(
                    "support", script(*TURNS, name=f"rolling {steps_per_message}.{len(started)}", delay=0.05)
                )
                watchers.append(clients.submit(watch, stack, run_id, len(started) % 2))
                deciders.append(clients.submit(decide, stack, run_id, len(started) % 2))
                started.append(run_id)

        begin(4, stack.web_a)
        for process in (*stack.workers, stack.web_a, stack.web_b):
            begin(2, stack.web_b if process is stack.web_a else stack.web_a)
            process.stop()
            process.start()
        for decider in deciders:
            decider.result(20)
        seen = [watcher.result(20) for watcher in watchers]
    for number, run_id in enumerate(started):
        assert stack.checked(run_id) == seen[number]
        assert "message_discard" not in [event["type"] for event in seen[number]], "every answer ended within the grace"
        assert len(stack.ledger.entries(model=f"rolling {steps_per_message}.{number}")) == len(TURNS)
        tools = [(entry["tool"], entry["attempt"]) for entry in stack.ledger.entries(run=run_id)]
        assert sorted(tools) == [("look_up", 1), ("look_up", 1), ("refund", 1)]
