"""Ending a run from outside, wherever it stands."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.model import script
from tests.acceptance.stack import Stack, WorkerProcess
from tests.turns import call
from tests.waiting import wait_until

pytestmark = pytest.mark.brokers("redis", "rabbitmq")

WITHIN_SECONDS = 3.0
"""The protocol's second, and what a busy machine adds to it."""


POOLS = {
    "threads": ("-P", "threads", "-c", "4"),
    "prefork": ("-P", "prefork", "-c", "4"),
    "gevent": ("-P", "gevent", "-c", "4"),
}


@pytest.fixture
def pool_stack(stack: Stack, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The stack with one worker alone, of the pool that is asked for."""
    stack.kill_workers()
    worker = WorkerProcess(f"worker-{request.param}", stack.env, tmp_path, POOLS[request.param])
    worker.start()
    yield stack
    worker.kill()


def assert_ended_for_good(stack: Stack, run_id: str) -> None:
    """The run has its end, and nothing can be done to it any more."""
    events = stack.checked(run_id, "aborted")
    assert events[-1]["error"]["code"] == "aborted"
    run = stack.web_a.get(run_id)
    assert run["pending"] == []
    for web in (stack.web_a, stack.web_b):
        again = web.abort(run_id)
        assert (again.status_code, again.json()) == (202, run)
        refused = web.resume(run_id, decision={"approved": True})
        assert (refused.status_code, refused.json()["code"]) == (409, "run_not_paused")
    wait_until(lambda: stack.queued() == 0, what="the queue to be empty")


def test_a_silent_model_is_cut_off_within_a_second(stack: Stack) -> None:
    run_id = stack.web_a.begin("support", script("This is never said to its end.", name="silent", silent=True))
    with closing(stack.web_a.follow(run_id)) as watching:
        for event in watching:
            if event["type"] == "message_update" and "delta" in event["assistantMessageEvent"]:
                break
        port = stack.ledger.entries(model="silent")[-1]["port"]
        assert stack.worker_at(port) is not None
        began = time.monotonic()
        assert stack.web_b.abort(run_id).status_code == 202
        assert stack.web_a.abort(run_id).status_code == 202
        last = list(watching)[-1]
        took = time.monotonic() - began
    assert (last["type"], last["status"]) == ("agent_end", "aborted")
    assert took < WITHIN_SECONDS
    message = stack.web_a.get(run_id)["messages"][-1]
    assert message["stopReason"] == "aborted"
    assert message["content"][0]["text"].startswith("This is")
    wait_until(lambda: stack.worker_at(port) is None, what="the worker to hang up on the model")
    assert_ended_for_good(stack, run_id)


def test_a_tool_that_hangs_is_left_within_a_second(stack: Stack) -> None:
    run_id = stack.web_a.begin("office", script([call("survey")], "Never said."))
    wait_until(lambda: stack.ledger.entries(run=run_id, tool="survey"), what="the survey")
    began = time.monotonic()
    stack.web_b.abort(run_id)
    stack.wait_for(run_id, "aborted")
    assert time.monotonic() - began < WITHIN_SECONDS
    assert_ended_for_good(stack, run_id)


def test_a_queued_run_ends_at_once_and_no_worker_touches_it_later(stack: Stack) -> None:
    stack.kill_workers()
    run_id = stack.web_a.begin("support", script("Never said.", name="queued"))
    response = stack.web_b.abort(run_id)
    assert (response.status_code, response.json()["status"]) == (202, "aborted")
    stack.repair()
    wait_until(lambda: stack.queued() == 0, what="the message to be taken")
    completed = stack.web_a.begin("support", script("Said later."))
    stack.wait_for(completed, "completed")
    assert stack.ledger.entries(model="queued") == []
    assert_ended_for_good(stack, run_id)


def test_a_paused_run_ends_at_once(stack: Stack) -> None:
    run_id = stack.web_a.begin("support", script([call("refund", order_id="A-1", cents=1)], "Never said."))
    [item] = stack.wait_for(run_id, "paused")["pending"]
    response = stack.web_b.abort(run_id)
    assert (response.status_code, response.json()["status"]) == (202, "aborted")
    refused = stack.web_a.resume(run_id, decision={"approved": True}, decisionId=item["decisionId"])
    assert (refused.status_code, refused.json()["code"]) == (409, "run_not_paused")
    assert_ended_for_good(stack, run_id)
    assert stack.ledger.entries(run=run_id, tool="refund") == []


def test_aborting_a_completed_run_changes_nothing(stack: Stack) -> None:
    run_id = stack.web_a.begin("support", script("That is all."))
    run = stack.wait_for(run_id, "completed")
    response = stack.web_b.abort(run_id)
    assert (response.status_code, response.json()) == (202, run)
    stack.checked(run_id)


@pytest.mark.brokers("redis")
@pytest.mark.parametrize("pool_stack", POOLS, indirect=True)
def test_a_tool_that_an_abort_stops_or_outlives_has_no_result_in_any_pool(pool_stack: Stack) -> None:
    stack = pool_stack
    first = call("look_up", order_id="A-1")
    for agent, tool, calls in (  # a sync tool that notices, one that never does, an async one that is cancelled
        ("desk", "wait", [first, call("wait")]),
        ("till", "hold", [first, call("hold")]),
        ("office", "survey", [call("survey")]),
    ):
        run_id = stack.web_a.begin(agent, script(calls, "Never said."))
        wait_until(lambda: stack.ledger.entries(run=run_id, tool=tool), what="the tool to begin")  # noqa: B023
        done = len(calls) - 1
        wait_until(lambda: len(stack.web_a.get(run_id)["messages"]) == 2 + done, what="the first result")  # noqa: B023
        stack.web_b.abort(run_id)
        run = stack.wait_for(run_id, "aborted")
        stack.ledger.add(let_go=run_id)
        results = [message["content"][0]["text"] for message in run["messages"] if message["role"] == "toolResult"]
        assert results == ["A-1 was delivered"] * done
        assert_ended_for_good(stack, run_id)
