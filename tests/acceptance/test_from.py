"""Runs that begin from others, over real processes: tried again, forked, and carried through a worker's death."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from agentkit.core.ids import new_id
from tests.acceptance.model import script
from tests.acceptance.stack import ROOT, Stack
from tests.turns import call
from tests.waiting import wait_until


def begin(stack: Stack, source: str, **body: Any) -> str:
    """Start a run from another; its id."""
    turn = {"turn": body.pop("turn")} if "turn" in body else {}
    response = stack.web_a.http.post("/runs", json={"from": {"runId": source, **turn}, **body})
    assert response.status_code == 202, response.text
    run_id: str = response.json()["id"]
    return run_id


def cli(stack: Stack, *words: str) -> str:
    program = "from agentkit.cli.main import main; main()"
    command = [sys.executable, "-c", program, "runs", *words, "--url", str(stack.web_a.http.base_url)]
    done = subprocess.run(command, cwd=ROOT, env=stack.env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def roles(run: dict[str, Any]) -> list[str]:
    return [message["role"] for message in run["messages"]]


def test_a_run_that_a_busy_vendor_has_failed_is_tried_again(stack: Stack) -> None:
    name = new_id()
    turns = [call("look_up", order_id="A-1")], "It was delivered."
    source = stack.web_a.begin("support", script(*turns, name=name, busy=2))
    assert stack.wait_for(source, "failed")["error"]["code"] == "provider_error"
    before = stack.web_a.sse(source)
    again = begin(stack, source)
    stack.wait_for(again, "failed")
    out = cli(stack, "retry", again)
    run = stack.wait_for(out.split()[0], "completed")
    stack.checked(run["id"])
    assert run["origin"] == {"runId": again, "turn": 0}
    assert roles(run) == ["user", "assistant", "toolResult", "assistant"]
    assert len(stack.ledger.entries(model=name)) == 4
    assert stack.web_a.sse(source) == before


def test_an_aborted_run_is_tried_again_and_asks_anew(stack: Stack) -> None:
    source = stack.web_a.begin("support", script([call("refund", order_id="A-1", cents=5)], "The money is back."))
    stack.wait_for(source, "paused")
    refused = stack.web_a.http.post("/runs", json={"from": {"runId": source}})
    assert (refused.status_code, refused.json()["code"]) == (409, "run_not_terminal")
    stack.web_a.abort(source)
    run_id = begin(stack, source)
    [item] = stack.wait_for(run_id, "paused")["pending"]
    stack.web_b.resume(run_id, decision={"approved": True}, decisionId=item["decisionId"])
    stack.wait_for(run_id, "completed")
    stack.checked(run_id)
    assert len(stack.ledger.entries(run=run_id, tool="refund")) == 1
    assert not stack.ledger.entries(run=source, tool="refund")


def test_a_run_is_forked_at_each_of_its_turns_and_deleted(stack: Stack) -> None:
    turns = [call("look_up", order_id="A-1")], [call("look_up", order_id="A-2")], "Both are there."
    source = stack.web_a.begin("support", script(*turns))
    messages = stack.wait_for(source, "completed")["messages"]
    forks = {turn: begin(stack, source, turn=turn, input=script(f"After {turn}.")) for turn in (1, 2, 3)}
    on = {turn: begin(stack, source, turn=turn) for turn in (1, 2)}
    by_cli = cli(stack, "fork", source, "--turn", "2", script("After two.")).split()[0]
    assert stack.web_a.http.delete(f"/runs/{source}").status_code == 204
    for turn, run_id in [*forks.items(), (2, by_cli)]:
        run = stack.wait_for(run_id, "completed")
        events = stack.checked(run_id)
        taken = min(2 * turn + 1, len(messages))
        assert run["messages"][:taken] == messages[:taken] == events[0]["messages"]
        assert roles(run)[taken:] == ["user", "assistant"]
        assert run["origin"] == {"runId": source, "turn": turn}
        assert run["usage"] == run["messages"][-1]["usage"]
    for turn, run_id in on.items():
        run = stack.wait_for(run_id, "completed")
        stack.checked(run_id)
        assert roles(run) == roles({"messages": messages})
        assert run["turn"] == 3 - turn


def test_the_workers_die_in_the_first_step_of_a_fork(stack: Stack) -> None:
    name = new_id()
    answer = "This answer takes a while, and is begun by a worker that will not end it."
    source = stack.web_a.begin("support", script([call("look_up", order_id="A-1")], answer, name=name, delay=0.05))
    stack.wait_for(source, "completed")
    calls = len(stack.ledger.entries(model=name))
    run_id = begin(stack, source, turn=1)
    wait_until(lambda: len(stack.ledger.entries(model=name)) > calls, what="the model to be called for the fork")
    stack.kill_workers()
    stack.repair()
    run = stack.wait_for(run_id, "completed")
    stack.checked(run_id)
    assert roles(run) == ["user", "assistant", "toolResult", "assistant"]
    assert run["messages"][-1]["content"] == [{"type": "text", "text": answer}]
