"""A run that waits for answers of its own and of its sub-agents' runs continues once, when the last is given."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from agentkit import Agent, AgentKit, Run, ScriptedModel, tool
from tests.event_rules import check_log

OK = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "toolCall", "name": name, "arguments": arguments}


class Desk:
    """A boss that signs, and has two cashiers pay, all in one turn; each waits for a decision of its own."""

    def __init__(self, *, pays: int = 1) -> None:
        self.done: list[str] = []

        @tool(decision=OK)
        def sign(decision: dict[str, Any]) -> str:
            """Sign."""
            self.done.append("sign")
            return "signed"

        @tool(decision=OK)
        def pay(decision: dict[str, Any]) -> str:
            """Pay."""
            self.done.append("pay")
            return "paid"

        turns = [*([call("pay")] for _ in range(pays)), "The cashier paid."]
        cashier = Agent("cashier", ScriptedModel(turns, name="cashier"), "", [pay])
        turn = [call("sign"), call("cashier", input="a"), call("cashier", input="b")]
        boss = Agent("boss", ScriptedModel([turn, "All is done."], name="boss"), "", [sign, cashier.as_tool()])
        self.kit = AgentKit([boss])
        self.run = self.kit.run("boss", "go")

    def answer(self, item: dict[str, Any]) -> Run:
        self.kit.resume(self.run.id, {"ok": True}, decision_id=item["decisionId"])
        return self.kit.get(self.run.id)

    def events(self, kind: str) -> list[dict[str, Any]]:
        run = self.kit.get(self.run.id)
        log = list(self.kit.handle(self.run.id).events(until_pause=not run.ended))
        return [event for event in log if event["type"] == kind]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_in_whatever_order_its_items_are_answered_a_run_continues_once(order: tuple[int, ...]) -> None:
    desk = Desk()
    items = desk.run.pending
    assert [item["toolName"] for item in items] == ["sign", "pay", "pay"]
    for number in order[:-1]:
        run = desk.answer(items[number])
        assert run.status == "paused"
        assert "sign" not in desk.done, "the run's own call waits for the last answer"
    run = desk.answer(items[order[-1]])
    assert run.status == "completed"
    assert sorted(desk.done) == ["pay", "pay", "sign"]
    assert len(desk.events("agent_resume")) == len(desk.events("agent_pause")) == 1
    check_log(list(desk.kit.handle(run.id).events()), run.messages or [])


def test_what_a_child_asks_next_is_shown_while_the_run_waits_for_others() -> None:
    desk = Desk(pays=2)
    sign, first, second = desk.run.pending
    run = desk.answer(first)
    assert run.status == "paused"
    assert [item["toolName"] for item in run.pending] == ["sign", "pay", "pay"]
    assert first["decisionId"] not in {item["decisionId"] for item in run.pending}
    for item in (sign, second):
        desk.answer(item)
    while pending := desk.kit.get(run.id).pending:
        run = desk.answer(pending[0])
    assert run.status == "completed"
    assert (desk.done.count("sign"), desk.done.count("pay")) == (1, 4)
    check_log(list(desk.kit.handle(run.id).events()), run.messages or [])
