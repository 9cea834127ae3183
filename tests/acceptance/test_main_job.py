"""The main job: a run pauses, processes die and start again, and it completes after its decision."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.acceptance.model import script
from tests.acceptance.stack import ROOT, Stack, WorkerProcess, environment, events_of
from tests.turns import call

pytestmark = pytest.mark.brokers

REFUND = script(
    [call("look_up", order_id="A-1")],
    [{"type": "text", "text": "I will ask for it."}, call("refund", order_id="A-1", cents=250)],
    "Done: you get $2.50 back.",
)
PAUSED_SHAPE = ["tool_decision_pending", "agent_pause"]
RESUMED_SHAPE = ["tool_decision_resolved", "agent_resume", "tool_execution_start", "tool_execution_end"]


def kinds(events: list[dict[str, object]]) -> list[object]:
    return [event["type"] for event in events]


@pytest.mark.parametrize("everything", [False, True], ids=["workers-and-web", "everything"])
def test_a_run_survives_that_all_is_killed_while_it_waits(stack: Stack, everything: bool) -> None:
    run_id = stack.web_a.begin("support", REFUND)
    stack.wait_for(run_id, "paused")
    paused = stack.checked(run_id, "paused")
    with ThreadPoolExecutor() as threads:
        watching = None if everything else threads.submit(stack.web_b.sse, run_id)
        if everything:
            stack.kill_everything()
        else:
            stack.kill_workers()
            stack.web_a.kill()
        stack.repair()
        assert stack.checked(run_id, "paused") == paused
        assert stack.web_b.resume(run_id, decision={"approved": True}).status_code == 202
        run = stack.wait_for(run_id, "completed")
        if watching is not None:
            assert watching.result(timeout=10) == stack.web_b.sse(run_id)
    events = stack.checked(run_id)
    assert events[: len(paused)] == paused
    assert kinds(paused)[-2:] == PAUSED_SHAPE
    assert kinds(events[len(paused) :])[:4] == RESUMED_SHAPE
    assert run["messages"][-1]["content"] == [{"type": "text", "text": "Done: you get $2.50 back."}]
    assert len(stack.ledger.entries(run=run_id, tool="refund")) == 1
    assert len(stack.ledger.entries(run=run_id, tool="look_up")) == 1


def test_the_same_over_event_streams(stack: Stack) -> None:
    first = stack.web_a.stream("/runs", {"agent": "support", "input": REFUND})
    paused = events_of(first)
    run_id = paused[0]["runId"]
    assert kinds(paused)[-2:] == PAUSED_SHAPE
    assert stack.checked(run_id, "paused") == paused
    stack.kill_workers()
    stack.web_a.kill()
    stack.repair()
    second = stack.web_b.stream(f"/runs/{run_id}/resume", {"decision": {"approved": True}})
    resumed = events_of(second)
    assert kinds(resumed)[:4] == RESUMED_SHAPE
    assert kinds(resumed)[-1] == "agent_end"
    assert paused + resumed == stack.checked(run_id)
    assert len(stack.ledger.entries(run=run_id, tool="refund")) == 1


@pytest.mark.parametrize("pool", [("-P", "prefork", "-c", "2"), ("-P", "gevent", "-c", "8")], ids=["prefork", "gevent"])
def test_other_pools_do_the_main_job_too(stack: Stack, tmp_path: Path, pool: tuple[str, ...]) -> None:
    stack.kill_workers()
    worker = WorkerProcess("worker-other", stack.env, tmp_path, pool)
    try:
        worker.start()
        run_id = events_of(stack.web_a.stream("/runs", {"agent": "support", "input": REFUND}))[0]["runId"]
        stack.checked(run_id, "paused")
        worker.kill()
        worker.start()
        stack.web_b.stream(f"/runs/{run_id}/resume", {"decision": {"approved": True}})
        stack.checked(run_id)
        assert len(stack.ledger.entries(run=run_id, tool="refund")) == 1
    finally:
        worker.kill()
        print(worker.log())  # noqa: T201  # pytest shows it on failure


def test_a_worker_without_its_application_says_so_in_one_line() -> None:
    words = [sys.executable, "-m", "celery", "-A", "agentkit.tasks", "worker", "-P", "threads"]
    env = environment(AGENTKIT_REDIS_URL="redis://127.0.0.1:1/0", PYTHONWARNINGS="ignore")  # Celery warns of root
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        "agentkit: AGENTKIT_APP is not set: name your application, as in AGENTKIT_APP=shop.agents:kit"
    ]
