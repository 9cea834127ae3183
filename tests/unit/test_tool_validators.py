"""A tool's own validators: they are asked before a person is, and of what a person changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, field_validator

from agentkit import Agent, AgentKit, ScriptedModel, Tool, tool
from agentkit.errors import InputValidationError
from agentkit.web import create_app
from tests.apps import App
from tests.tools import APPROVAL
from tests.turns import call

executed: list[Any] = []


class Payment(BaseModel):
    cents: int

    @field_validator("cents")
    @classmethod
    def _positive(cls, value: int) -> int:
        if value <= 0:
            raise ValueError("must be positive")
        return value


@dataclass
class Span:
    start: date
    end: date

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError("the end is before the start")


def _known(user: str) -> str:
    if user != "ada":
        raise ValueError("nobody is called so")
    return user


@tool(decision=APPROVAL)
def pay(payment: Payment, decision: Any) -> str:
    executed.append(payment)
    return "paid"


@tool(decision=APPROVAL)
def book(span: Span, decision: Any) -> str:
    executed.append(span)
    return "booked"


@tool(runs="client")
def greet(user: Annotated[str, AfterValidator(_known)]) -> str:  # type: ignore[empty-body]
    """Greet on the client."""


@pytest.fixture(autouse=True)
def _nothing_executed() -> None:
    executed.clear()


CASES: list[tuple[Tool, dict[str, Any], str, str, dict[str, Any]]] = [
    (pay, {"payment": {"cents": -5}}, "/payment/cents", "must be positive", {"payment": {"cents": 5}}),
    (
        book,
        {"span": {"start": "2026-02-01", "end": "2026-01-01"}},
        "/span",
        "the end is before the start",
        {"span": {"start": "2026-01-01", "end": "2026-02-01"}},
    ),
]


@pytest.mark.parametrize(
    ("used", "bad", "path", "message"), [*(case[:4] for case in CASES), (greet, {"user": "bob"}, "/user", "nobody")]
)
def test_nobody_is_asked_about_arguments_that_the_tool_refuses_anyway(
    used: Tool, bad: dict[str, Any], path: str, message: str
) -> None:
    model = ScriptedModel([[call(used.name, **bad)], "I see."])
    run = AgentKit(agents=[Agent("a", model, tools=[used])]).run("a", "go")
    assert run.status == "completed"
    [result] = [m for m in run.messages if m["role"] == "toolResult"]
    assert result["isError"]
    assert f"{path}: {message}" in result["content"][0]["text"]
    assert executed == []


@pytest.mark.parametrize(("used", "bad", "path", "message", "good"), CASES)
def test_a_changed_input_is_checked_by_the_validators_and_the_run_is_not_consumed(
    used: Tool, bad: dict[str, Any], path: str, message: str, good: dict[str, Any]
) -> None:
    app = App([call(used.name, **good)], "done", tools=[used])
    run_id = app.run()
    web = create_app(app.kit).test_client()
    before = web.get(f"/runs/{run_id}").json

    answer = {"decision": {"approved": True}, "input": bad}
    refused = web.post(f"/runs/{run_id}/resume", json=answer)
    assert (refused.status_code, refused.json["code"]) == (422, "input_invalid")
    assert refused.json["errors"] == [{"path": path, "message": message}]
    with pytest.raises(InputValidationError):
        app.kit.resume(run_id, {"approved": True}, input=bad)
    assert web.get(f"/runs/{run_id}").json == before

    assert web.post(f"/runs/{run_id}/resume", json={**answer, "input": good}).status_code == 202
    assert app.work().check(run_id).status == "completed"
    assert len(executed) == 1


def test_what_a_person_is_shown_and_the_log_holds_is_the_json_and_the_function_gets_the_values() -> None:
    good = {"span": {"start": "2026-01-01", "end": "2026-02-01"}}
    app = App([call("book", **good)], "done", tools=[book])
    run_id = app.run()
    [item] = app.kit.get(run_id).pending
    assert item["input"] == good
    app.kit.resume(run_id, {"approved": True})
    assert app.work().check(run_id).status == "completed"
    assert executed == [Span(date(2026, 1, 1), date(2026, 2, 1))]


def test_what_a_validator_says_goes_through_redact() -> None:
    model = ScriptedModel([[call("greet", user="bob")], "I see."])
    kit = AgentKit(agents=[Agent("a", model, tools=[greet, pay])], redact=lambda text: text.replace("nobody", "█"))
    run = kit.run("a", "go")
    [result] = [m for m in run.messages if m["role"] == "toolResult"]
    assert "/user: █ is called so" in result["content"][0]["text"]


def test_what_a_validator_says_to_a_person_goes_through_redact() -> None:
    app = App([call("pay", payment={"cents": 5})], "done", tools=[pay])
    run_id = app.run()
    kit = AgentKit([app.agent], store=app.store, queue=app.queue, redact=lambda text: text.replace("must", "█"))
    answer = {"decision": {"approved": True}, "input": {"payment": {"cents": 0}}}
    refused = create_app(kit).test_client().post(f"/runs/{run_id}/resume", json=answer)
    assert refused.json["errors"] == [{"path": "/payment/cents", "message": "█ be positive"}]
    assert "must" not in refused.text


limit = [100]


def _within(value: int) -> int:
    if value > limit[0]:
        raise ValueError(f"is over {limit[0]}")
    return value


@tool(decision=APPROVAL)
def spend(cents: Annotated[int, AfterValidator(_within)]) -> str:
    executed.append(cents)
    return "spent"


def test_arguments_that_a_validator_has_come_to_refuse_while_the_run_waited_are_not_executed() -> None:
    app = App([call("spend", cents=50)], "I see.", tools=[spend])
    run_id = app.run()
    limit[0] = 10
    try:
        app.kit.resume(run_id, {"approved": True})
        run = app.work().check(run_id)
    finally:
        limit[0] = 100
    [result] = [m for m in run.messages if m["role"] == "toolResult"]
    assert "/cents: is over 10" in result["content"][0]["text"]
    assert executed == []
