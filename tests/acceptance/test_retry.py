"""A model that is busy, asked again by real workers."""

from __future__ import annotations

from typing import Any

from tests.acceptance.model import script
from tests.acceptance.stack import Stack
from tests.waiting import wait_until


def log_of(stack: Stack, run_id: str) -> list[dict[str, Any]]:
    return stack.checked(run_id)


def test_a_short_wait_is_waited(stack: Stack) -> None:
    run_id = stack.web_a.begin("retrying", script("At last.", name="short", busy=2))
    stack.wait_for(run_id, "completed")
    retries = [event for event in log_of(stack, run_id) if event["type"] == "model_retry"]
    assert [event["attempt"] for event in retries] == [2, 3]
    assert len(stack.ledger.entries(model="short")) == 3


def test_a_long_wait_outlives_every_worker(stack: Stack) -> None:
    run_id = stack.web_a.begin("retrying", script("At last.", name="long", busy=1, retry_after=4))
    wait_until(lambda: stack.ledger.entries(model="long"), what="the first call")
    wait_until(lambda: stack.web_a.get(run_id)["lastSeq"] >= 7, what="the wait to be written down")
    stack.kill_workers()
    stack.repair()
    stack.wait_for(run_id, "completed")
    events = log_of(stack, run_id)
    [retry] = [event for event in events if event["type"] == "model_retry"]
    assert retry["delayMs"] >= 4000
    [discard] = [event for event in events if event["type"] == "message_discard"]
    begun = events[events.index(discard) + 1]
    assert begun["type"] == "message_start"
    assert 4000 <= begun["timestamp"] - retry["timestamp"] < 10_000
    assert len(stack.ledger.entries(model="long")) == 2


def test_abort_ends_a_long_wait(stack: Stack) -> None:
    run_id = stack.web_a.begin("patient", script("Never.", name="never", busy=1, retry_after=40))
    wait_until(lambda: stack.web_a.get(run_id)["lastSeq"] >= 7, what="the wait to be written down")
    assert stack.web_b.abort(run_id).json()["status"] == "aborted"
    assert len(stack.ledger.entries(model="never")) == 1
    stack.checked(run_id, "aborted")
