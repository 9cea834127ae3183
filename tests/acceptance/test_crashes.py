"""Workers that die while they work, and messages that get lost."""

from __future__ import annotations

import itertools
import time
from contextlib import closing
from typing import Any

import pytest

from tests.acceptance.model import script
from tests.acceptance.stack import LEASE_SECONDS, Stack
from tests.turns import call
from tests.waiting import wait_until

pytestmark = pytest.mark.brokers

LONG_ANSWER = "It takes a while to say all this, and the one who began to say it will not be there at its end."


def executions(stack: Stack, run_id: str, tool: str) -> list[dict[str, Any]]:
    return stack.ledger.entries(run=run_id, tool=tool)


def kill_executing_worker(stack: Stack, run_id: str, tool: str) -> None:
    entry = wait_until(lambda: executions(stack, run_id, tool), what="the tool to execute")[0]
    worker = next(worker for worker in stack.workers if worker.pid == entry["pid"])
    worker.kill()


def test_another_worker_says_again_what_a_killed_one_began(stack: Stack) -> None:
    run_id = stack.web_a.begin("support", script(LONG_ANSWER, name="mid-stream", delay=0.06))
    with closing(stack.web_b.follow(run_id)) as watching:
        seen = list(itertools.islice(watching, 7))
        assert seen[-1]["type"] == "message_update"
        port = stack.ledger.entries(model="mid-stream")[0]["port"]
        worker = stack.worker_at(port)
        assert worker is not None
        worker.kill()
        seen += watching
    events = stack.checked(run_id)
    assert seen == events
    assert [event["type"] for event in events].count("message_discard") == 1
    assert len(stack.ledger.entries(model="mid-stream")) == 2


def test_an_idempotent_tool_is_executed_again_with_the_same_key(stack: Stack) -> None:
    run_id = stack.web_a.begin("office", script([call("survey")], "All is well."))
    kill_executing_worker(stack, run_id, "survey")
    stack.wait_for(run_id, "completed")
    stack.checked(run_id)
    first, second = executions(stack, run_id, "survey")
    assert first["key"] == second["key"]
    assert (first["attempt"], second["attempt"]) == (1, 2)
    assert first["pid"] != second["pid"]


def test_a_tool_of_effects_once_is_in_doubt_and_a_person_gives_the_verdict(stack: Stack) -> None:
    verdicts: dict[str, dict[str, Any]] = {
        "retry": {"verdict": "retry"},
        "done": {"verdict": "done", "result": "charged, says the bank"},
        "failed": {"verdict": "failed", "result": "no money moved"},
    }
    runs = {v: stack.web_a.begin("office", script([call("charge", cents=5)], "So be it.")) for v in verdicts}
    for run_id in runs.values():
        wait_until(lambda run_id=run_id: executions(stack, run_id, "charge"), what="the charge")  # type: ignore[misc]
    stack.kill_workers()
    stack.repair()
    results = {}
    for verdict, run_id in runs.items():
        [item] = stack.wait_for(run_id, "paused")["pending"]
        assert (item["kind"], item["toolName"], item["input"]) == ("in_doubt", "charge", {"cents": 5})
        paused = stack.checked(run_id, "paused")
        assert [event["type"] for event in paused[-2:]] == ["tool_in_doubt", "agent_pause"]
        refused = stack.web_a.resume(run_id, decision={"verdict": "perhaps"})
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["path"] == "/verdict"
        assert stack.web_a.resume(run_id, decision=verdicts[verdict]).status_code == 202
        run = stack.wait_for(run_id, "completed")
        stack.checked(run_id)
        [result] = [message for message in run["messages"] if message["role"] == "toolResult"]
        results[verdict] = (result["content"][0]["text"], result["isError"])
    assert results["retry"] == ("charged 5", False)
    assert results["done"] == ("charged, says the bank", False)
    assert results["failed"][1] is True
    assert "no money moved" in results["failed"][0]
    counts = {verdict: len(executions(stack, run_id, "charge")) for verdict, run_id in runs.items()}
    assert counts == {"retry": 2, "done": 1, "failed": 1}


def test_a_run_whose_message_was_lost_is_found_within_the_lease_time(stack: Stack) -> None:
    stack.kill_workers()
    run_id = stack.web_a.begin("support", script("Here I am."))
    wait_until(lambda: stack.queued() > 0, what="the message in the queue")
    stack.broker.purge()
    stack.workers[0].start()
    began = time.monotonic()
    stack.wait_for(run_id, "completed")
    assert time.monotonic() - began < LEASE_SECONDS + 2, "and what a busy machine adds to it"
    stack.checked(run_id)
    wait_until(lambda: stack.queued() == 0, what="the queue to be empty")
