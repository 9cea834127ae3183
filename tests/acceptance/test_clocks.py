"""Real workers on hosts with wrong clocks: one an hour ahead, one an hour behind, and web processes that are right."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.model import script
from tests.acceptance.stack import LEASE_SECONDS, Stack, WorkerProcess
from tests.turns import call
from tests.waiting import wait_until

HOUR = 3600
ASKS = script([call("ask")], "Done.")
SURVEYS = script([call("survey")], "Done.")

SITE = """
import os, time
read, read_ns, shift = time.time, time.time_ns, int(os.environ["CLOCK_SHIFT"])
time.time = lambda: read() + shift
time.time_ns = lambda: read_ns() + shift * 1_000_000_000
"""


@pytest.fixture(scope="module")
def clock_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose workers have wrong clocks."""
    folder: Path = tmp_path_factory.mktemp("clocks")
    (folder / "sitecustomize.py").write_text(SITE)
    stack = Stack(folder)
    stack.workers = [
        WorkerProcess(f"worker-{shift}", stack.env | {"PYTHONPATH": str(folder), "CLOCK_SHIFT": str(shift)}, folder)
        for shift in (HOUR, -HOUR)
    ]
    try:
        yield stack
    finally:
        stack.close()


@pytest.fixture(params=[0, 1], ids=["ahead", "behind"])
def stack(clock_stack: Stack, request: pytest.FixtureRequest) -> Stack:
    """The stack with one of its two workers."""
    clock_stack.repair()
    clock_stack.workers[1 - request.param].kill()
    return clock_stack


def test_a_run_with_a_timeout_and_a_question_that_expires_goes_its_way(stack: Stack) -> None:
    started = stack.web_a.http.post("/runs", json={"agent": "desk", "input": ASKS, "limits": {"timeout": 60}})
    assert started.status_code == 202, started.text
    run_id = started.json()["id"]
    run = stack.wait_for(run_id, "paused")
    [item] = run["pending"]
    assert abs(item["createdAt"] - time.time() * 1000) < 30_000
    assert item["expiresAt"] - item["createdAt"] == 2000
    assert stack.web_b.resume(run_id, decision={"approved": True}).status_code == 202
    ended = stack.wait_for(run_id, "completed")
    assert all(abs(message["timestamp"] - time.time() * 1000) < 30_000 for message in ended["messages"])
    stack.checked(run_id)


def test_what_nobody_answers_expires_in_its_time(stack: Stack) -> None:
    run = stack.wait_for(stack.web_a.begin("desk", ASKS), "paused")
    [item] = run["pending"]
    stack.wait_for(run["id"], "completed")
    late = time.time() * 1000 - item["expiresAt"]
    assert 0 <= late < 5000


def test_a_dead_workers_step_is_found_within_the_lease_time(stack: Stack) -> None:
    run_id = stack.web_a.begin("office", SURVEYS)
    wait_until(lambda: stack.ledger.entries(run=run_id, tool="survey"), what="the tool's first execution")
    [worker] = [each for each in stack.workers if each.process is not None]
    worker.kill()
    worker.start()
    stack.wait_for(run_id, "completed", timeout=4 * LEASE_SECONDS + 4)
