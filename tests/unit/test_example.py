from __future__ import annotations

import runpy
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, AgentKit, ScriptedModel, ToolContext, ToolError
from agentkit.cli.example import answer, find_orders, get_order, refund
from agentkit.core.messages import text_of_json as text_of

YES = {"approved": True, "note": "broken"}


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the desk of this test keeps its orders."""
    monkeypatch.setenv("AGENTKIT_EXAMPLE_DB", str(tmp_path / "desk" / "example.db"))
    return tmp_path / "desk" / "example.db"


def context(key: str) -> ToolContext:
    return ToolContext(run_id="r", tool_call_id="c", idempotency_key=key)


def refunds(ledger: Path) -> list[Any]:
    with closing(sqlite3.connect(ledger)) as desk:
        return desk.execute("SELECT order_id, cents FROM refunds").fetchall()


def desk() -> AgentKit:
    return AgentKit(agents=[Agent("support", ScriptedModel(answer), tools=[find_orders, get_order, refund])])


def said(kit: AgentKit, text: str, *decisions: dict[str, Any]) -> str:
    run = kit.run("support", text)
    for decision in decisions:
        run = kit.resume(run.id, decision).run
    assert run.status == "completed"
    assert run.messages
    return text_of(run.messages[-1])


def test_a_refund_is_paid_once_however_often_its_call_is_executed(ledger: Path) -> None:
    first = refund("A-1001", 4999, ctx=context("k"), decision=YES)
    assert refund("A-1001", 4999, ctx=context("k"), decision=YES) == first
    assert refunds(ledger) == [("A-1001", 4999)]


def test_no_more_is_paid_back_than_was_paid(ledger: Path) -> None:
    refund("A-1003", 800, ctx=context("k1"), decision=YES)
    with pytest.raises(ToolError, match=r"only \$0\.99"):
        refund("A-1003", 100, ctx=context("k2"), decision=YES)
    assert refunds(ledger) == [("A-1003", 800)]


def test_the_first_use_may_be_made_by_several_at_once() -> None:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(find_orders("ada"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(orders) for orders in found] == [2] * 8


@pytest.mark.parametrize(
    ("text", "decisions", "answered"),
    [
        ("Please refund order a-1001", [{"approved": True}], "refunded $49.99 for A-1001"),
        ("Refund $10 of A-1001", [{"approved": True}], "refunded $10.00 for A-1001"),
        ("Refund A-1001", [{"approved": False, "note": "no"}], "not approved: no"),
        ("Refund A-9999", [], "there is no order A-9999"),
        ("I want my money back", [], "Which order"),
        ("Where is A-1002?", [], "'Nanosecond of wire' for Grace Hopper, $12.50"),
        ("Which orders does Ada have?", [], "A-1004: Punched cards"),
        ("hello", [], "Try one of these"),
    ],
)
def test_the_script_reacts_to_what_is_asked(text: str, decisions: list[dict[str, Any]], answered: str) -> None:
    assert answered in said(desk(), text, *decisions)


def test_an_order_that_was_refunded_is_not_refunded_again() -> None:
    kit = desk()
    said(kit, "Refund A-1001", {"approved": True})
    assert "in full already" in said(kit, "Refund A-1001")
    assert "$49.99 of it was refunded" in said(kit, "And A-1001?")


def test_the_quickstart_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "quickstart.py"), run_name="__main__")
    assert "completed: Your money is on its way." in capsys.readouterr().out
