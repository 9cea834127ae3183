"""Methods as tools: bound to the object that they are read from, and never without one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import MethodType
from typing import Any

import pytest

from agentkit import Agent, AgentKit, ScriptedModel, Tool, ToolContext, tool
from agentkit.errors import ConfigurationError
from tests.tools import APPROVAL
from tests.turns import call

CTX = ToolContext(run_id="r", tool_call_id="c", idempotency_key="k")


@tool
def outside(a: int) -> int:
    """Stands at no class."""
    return a


class Desk:
    borrowed = outside

    def __init__(self, name: str = "desk") -> None:
        self.name = name

    @tool
    def refund(self, cents: int) -> str:
        """Refund."""
        return f"{self.name}: {cents}"

    @tool(decision=APPROVAL, effects="once")
    async def pay(self, cents: int, ctx: ToolContext, decision: Any) -> Any:
        return self.name, cents, ctx.run_id, decision

    @tool
    @staticmethod
    def count(first: int) -> int:
        return first

    @staticmethod
    @tool
    def count_too(first: int) -> int:
        return first

    @tool
    @classmethod
    def kind(cls, n: int) -> str:
        return f"{cls.__name__} {n}"

    @classmethod
    @tool
    def kind_too(cls, n: int) -> str:
        return f"{cls.__name__} {n}"

    @tool
    def misnamed(this, n: int) -> int:
        return n

    def plain(self, n: int) -> str:
        return f"{self.name} {n}"


class Corner(Desk):
    @tool
    def refund(self, cents: int) -> str:
        return "corner " + super().refund(cents)


def test_a_method_is_bound_to_the_object_and_the_model_is_not_asked_for_it() -> None:
    one, other = Desk("one").refund, Desk("other").refund
    assert isinstance(one, Tool)
    assert list(one.parameters["properties"]) == ["cents"]
    assert one.parameters["required"] == ["cents"]
    assert (one.name, one.description) == ("refund", "Refund.")
    assert (one.call({"cents": 5}, CTX), other.call({"cents": 5}, CTX)) == ("one: 5", "other: 5")
    assert (one(6), Desk.refund(Desk("third"), 7)) == ("one: 6", "third: 7")


def test_a_run_executes_methods_of_its_agents_objects() -> None:
    desk = Desk("here")
    model = ScriptedModel([[call("refund", cents=5)], [call("kind", n=1)], [call("count_too", first=3)], "done"])
    kit = AgentKit(agents=[Agent("a", model, tools=[desk.refund, desk.kind, Desk.count_too])])
    run = kit.run("a", "go")
    assert run.status == "completed"
    results = [message["content"][0]["text"] for message in run.messages if message["role"] == "toolResult"]
    assert results == ["here: 5", "Desk 1", "3"]


def test_an_async_method_gets_its_context_and_decision() -> None:
    pay = Desk("d").pay
    assert (pay.is_async, pay.effects, list(pay.parameters["properties"])) == (True, "once", ["cents"])
    ctx = ToolContext(run_id="r", tool_call_id="c", idempotency_key="k", decision={"approved": True})
    assert asyncio.run(pay.call({"cents": 5}, ctx)) == ("d", 5, "r", {"approved": True})


def test_a_method_may_be_overridden() -> None:
    assert Corner("c").refund.call({"cents": 5}, CTX) == "corner c: 5"


@pytest.mark.parametrize("place", [Desk, Desk()])
@pytest.mark.parametrize("name", ["count", "count_too"])
def test_a_static_method_is_a_tool_of_the_class_and_of_its_objects(place: Any, name: str) -> None:
    made = getattr(place, name)
    assert list(made.parameters["properties"]) == ["first"]
    assert made.call({"first": 5}, CTX) == 5
    Agent("a", ScriptedModel([]), tools=[made])


@pytest.mark.parametrize(("place", "shown"), [(Desk, "Desk 1"), (Corner, "Corner 1"), (Corner(), "Corner 1")])
@pytest.mark.parametrize("name", ["kind", "kind_too"])
def test_a_class_method_is_bound_to_the_class(place: Any, shown: str, name: str) -> None:
    agent = Agent("a", ScriptedModel([]), tools=[getattr(place, name)])
    [made] = agent.tools
    assert list(made.parameters["properties"]) == ["n"]
    assert made.call({"n": 1}, CTX) == shown


def test_a_method_that_python_has_bound_itself_is_a_tool_too() -> None:
    # What @classmethod above @tool gives from Python 3.13 on.
    bound = MethodType(vars(Desk)["kind_too"].__func__, Corner)
    [made] = Agent("a", ScriptedModel([]), tools=[bound]).tools  # type: ignore[list-item]
    assert made.call({"n": 1}, CTX) == "Corner 1"


def test_a_bound_method_may_be_made_a_tool_where_it_is_used() -> None:
    made = tool(Desk("d").plain)
    assert (made.name, list(made.parameters["properties"])) == ("plain", ["n"])
    assert made.call({"n": 1}, CTX) == "d 1"
    Agent("a", ScriptedModel([]), tools=[made])


@pytest.mark.parametrize(
    ("unbound", "advice"),
    [
        (Desk.refund, r"tool 'refund' is a method of Desk and not bound: .*tools=\[Desk\(…\)\.refund\]"),
        (tool(Desk.plain), r"tool 'plain' is a method of Desk and not bound"),
        (vars(Desk)["kind"], r"tool 'kind' is a method of Desk and not bound: .*tools=\[Desk\.kind\]"),
        (Desk.misnamed, "neither 'self' nor 'cls': rename it, or put @staticmethod above @tool"),
        (Desk().misnamed, "neither 'self' nor 'cls'"),
    ],
)
def test_a_method_without_its_object_is_refused_and_the_error_says_what_to_do(unbound: Tool, advice: str) -> None:
    with pytest.raises(ConfigurationError, match=advice):
        Agent("a", ScriptedModel([]), tools=[unbound])


def test_a_tool_of_no_class_stays_what_it_is_where_a_class_holds_it() -> None:
    assert Desk.borrowed is Desk().borrowed is outside
    assert outside.call({"a": 1}, CTX) == 1


def test_annotations_of_a_method_may_name_what_is_local_to_the_function_around_its_class() -> None:
    @dataclass
    class Money:
        cents: int

    class Till:
        @tool
        def pay(self, money: Money, more: list[Money]) -> Any:
            return money, more

    assert Till().pay.call({"money": {"cents": 1}, "more": []}, CTX) == (Money(1), [])
