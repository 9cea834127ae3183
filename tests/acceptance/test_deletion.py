"""Deleting runs by force, with their sub-agents' runs, while real processes are at work on them."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
import redis

from tests.acceptance.model import script
from tests.acceptance.stack import Stack
from tests.turns import call
from tests.waiting import wait_until

WITHIN_SECONDS = 3.0
"""A second and a half for the holders of steps, and what a busy machine adds to it."""


def streaming(stack: Stack) -> str:
    run_id = stack.web_a.begin("support", script("This is never said to its end.", silent=True))
    wait_until(lambda: stack.web_a.get(run_id)["lastSeq"] >= 6, what="the model to stream")
    return run_id


def tool_at_work(stack: Stack) -> str:
    run_id = stack.web_a.begin("office", script([call("survey")], "Never said."))
    wait_until(lambda: stack.ledger.entries(run=run_id, tool="survey"), what="the tool to begin")
    return run_id


def deaf_tool_at_work(stack: Stack) -> str:
    run_id = stack.web_a.begin("till", script([call("hold"), call("look_up", order_id="A-1")], "Never said."))
    wait_until(lambda: stack.ledger.entries(run=run_id, tool="hold"), what="the tool to begin")
    return run_id


def sub_agent_streaming(stack: Stack) -> str:
    silent = script("This is never said to its end.", silent=True)
    run_id = stack.web_a.begin("boss", script([call("support", input=silent)], "Never said."))
    wait_until(lambda: len(listed(stack)) == 2 and stack.web_a.get(listed(stack)[0])["lastSeq"] >= 6, what="the child")
    return run_id


def sub_agent_paused(stack: Stack) -> str:
    pay = script([call("refund", order_id="A-1", cents=250)], "The money is back.")
    run_id = stack.web_a.begin("boss", script([call("support", input=pay)], "Never said."))
    stack.wait_for(run_id, "paused")
    return run_id


def workers_gone(stack: Stack) -> str:
    run_id = sub_agent_streaming(stack)
    stack.kill_workers()
    return run_id


STATES = [streaming, tool_at_work, deaf_tool_at_work, sub_agent_streaming, sub_agent_paused, workers_gone]


def listed(stack: Stack) -> list[str]:
    return [run["id"] for run in stack.web_a.http.get("/runs").json()["runs"]]


def keys_of(stack: Stack) -> set[str]:
    """The keys of runs, and the runs that lists and the due index hold; not marks that expire."""
    with redis.Redis.from_url(stack.store.url, decode_responses=True) as client:
        client_: Any = client
        ours = {key for key in client_.scan_iter("agentkit:{*") if not key.endswith(":x")}
        keys = {
            key for key in ours if not key.startswith(("agentkit:{audit}", "agentkit:{inbox}", "agentkit:{metrics}"))
        }
        for name in client_.scan_iter("agentkit:runs*"):
            keys |= set(client_.zrange(name, 0, -1))
        return keys | set(client_.zrange("agentkit:due", 0, -1)) | (set(client_.hkeys("agentkit:listed")) - {""})


@pytest.fixture
def empty_stack(stack: Stack) -> Stack:
    def is_empty() -> bool:
        runs = listed(stack)  # a page of them: tests before may have left more
        for run_id in runs:
            stack.web_a.http.delete(f"/runs/{run_id}", params={"force": 1})
        return not runs

    wait_until(is_empty, timeout=60, what="the runs of other tests to be deleted")
    wait_until(lambda: keys_of(stack) == set(), timeout=20, what="the runs of other tests to be gone")
    return stack


@pytest.mark.parametrize("state", STATES)
def test_a_run_deleted_by_force_is_gone_with_its_sub_agents_and_stays_so(
    empty_stack: Stack, state: Callable[[Stack], str]
) -> None:
    stack = empty_stack
    run_id = state(stack)
    seen: list[str] = []
    watcher = Thread(target=lambda: seen.extend(event["type"] for event in stack.web_b.follow(run_id)))
    watcher.start()
    wait_until(lambda: seen, what="the watcher's first event")
    began = time.monotonic()
    response = stack.web_a.http.delete(f"/runs/{run_id}", params={"force": 1})
    took = time.monotonic() - began
    assert response.status_code == 204, response.text
    assert took < WITHIN_SECONDS
    watcher.join(10)
    assert not watcher.is_alive(), "a deleted run ends its streams"
    assert seen[-1] == "agent_end"
    for web in (stack.web_a, stack.web_b):
        assert web.http.get(f"/runs/{run_id}").status_code == 404
    assert listed(stack) == []
    stack.ledger.add(let_go=run_id)  # a tool that has heard of nothing returns now
    stack.repair()
    wait_until(lambda: keys_of(stack) == set() and stack.queued() == 0, timeout=20, what="all of it to be gone")
    completed = stack.web_a.begin("support", script("Said later."))
    stack.wait_for(completed, "completed")
    assert listed(stack) == [completed]
