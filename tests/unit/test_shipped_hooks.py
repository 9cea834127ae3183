"""The middleware that comes with agentkit."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from agentkit import Agent, AgentKit, ConfigurationError, Middleware, ScriptedModel, ToolError, ToolResult, tool
from agentkit.core.messages import Cost, Usage
from agentkit.hooks import BudgetUse, BudgetWarning, CallLog, MemoryCache, Redaction, ToolCache
from agentkit.providers.protocol import Finish, TextDelta
from tests.apps import App
from tests.turns import call

SECRET = "4111 1111 1111 1111"
CARD = r"\b(?:\d{4} ){3}\d{4}\b"


@tool
def card(fail: bool = False) -> ToolResult:
    """Look up a card."""
    if fail:
        raise ToolError(f"{SECRET} is blocked")
    return ToolResult(f"it is {SECRET}", details={"cards": [SECRET]})


def last(run: Any, role: str) -> Any:
    return [message for message in run.messages if message["role"] == role][-1]


def test_redaction_keeps_what_matches_from_the_model_and_out_of_results() -> None:
    seen: list[str] = []

    def answer(messages: Any) -> Any:
        seen.append(str(messages))
        return [call("card")] if len(messages) == 1 else "done"

    app = App(model=ScriptedModel(answer), tools=[card], middleware=[Redaction([CARD])])
    run_id = app.kit.start("a", f"my card is {SECRET}").id
    app.work()
    run = app.check(run_id)
    assert run.status == "completed"
    assert "1111" not in "".join(seen)
    assert "[redacted]" in seen[0]
    result = last(run, "toolResult")
    assert (result["content"][0]["text"], result["details"]) == ("it is [redacted]", {"cards": ["[redacted]"]})
    assert SECRET in run.messages[0]["content"]


def test_redaction_of_a_tools_error() -> None:
    app = App([call("card", fail=True)], "ok", tools=[card], middleware=[Redaction([CARD])])
    assert last(app.check(app.run()), "toolResult")["content"][0]["text"] == "[redacted] is blocked"


def test_redaction_of_answers_leaves_nothing_in_the_log() -> None:
    app = App(f"well, {SECRET}!", middleware=[Redaction([CARD], answers=True)])
    run_id = app.run()
    assert last(app.check(run_id), "assistant")["content"] == [{"type": "text", "text": "well, [redacted]!"}]
    log = re.sub(r"'timestamp': \d+|'runId': '[^']*'", "", str(app.log(run_id)[1:-1]))
    assert "[redacted]" in log
    assert "411" not in log


def test_redaction_by_a_function_that_fails_fails_the_call() -> None:
    app = App("hello", middleware=[Redaction(function=lambda text: text[99])])
    run = app.check(app.run())
    assert run.error["message"].startswith("around_model_call of Redaction raised IndexError")


@pytest.mark.parametrize("wrong", [{}, {"patterns": "text"}, {"patterns": ["("]}])
def test_a_redaction_of_nothing_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError):
        Redaction(**wrong)


class Dear:
    """A model whose answers cost a dollar and a hundred tokens each."""

    name = api = "dear"
    model = "m"

    def stream(self, request: Any, cancel: Any) -> Any:
        calls = sum(message.__class__.__name__ == "AssistantMessage" for message in request.messages)
        yield TextDelta(f"answer {calls}")
        yield Finish("stop", Usage.of(output=100, cost=Cost.of(output=1.0)))


def test_a_budget_warning_comes_once_when_a_share_is_passed(caplog: pytest.LogCaptureFixture) -> None:
    uses: list[BudgetUse] = []
    own = BudgetWarning(0.5, 1, warn=lambda ctx, use: uses.append(use))
    queue_app = App(model=Dear(), middleware=[own, BudgetWarning()])
    run_id = queue_app.kit.start("a", "go", limits={"maxTokens": 110}).id
    queue_app.work()
    assert uses == [BudgetUse("tokens", 100, 110, 0.5)]
    [record] = [r for r in caplog.records if r.name == "agentkit.hooks.budget"]
    assert record.getMessage() == f"run {run_id} has used 100 of its 110 tokens, over 80 %"


def test_a_budget_warning_that_fails_is_logged_and_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    app = App(model=Dear(), middleware=[BudgetWarning(0.5, warn=lambda ctx, use: 1 / 0)])
    run_id = app.kit.start("a", "go", limits={"maxTokens": 110}).id
    app.work()
    assert app.check(run_id).status == "completed"
    assert "the warning of its budget failed" in caplog.text


@pytest.mark.parametrize("share", [0, 1.1, -1])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigurationError):
        BudgetWarning(share)


executed: list[Any] = []


@tool
def look(city: str, fail: bool = False) -> str:
    """Look something up."""
    executed.append(city)
    if fail:
        raise ValueError
    return f"rain in {city}"


LOOK_TWICE = [[call("look", "c1", city="Ulm")], [call("look", "c2", city="Ulm")], "done"]


def looked(*turns: Any, middleware: Middleware, owner: str | None = None, runs: int = 1) -> list[Any]:
    executed.clear()
    app = App(*turns, tools=[look], middleware=[middleware])
    for _ in range(runs):
        run_id = app.kit.start("a", "go", owner=owner).id
        app.work()
        assert app.check(run_id).status == "completed"
        results = [m for m in app.kit.get(run_id).messages or [] if m["role"] == "toolResult"]
        assert {m["toolCallId"] for m in results} >= {"c1"}
    return executed


@pytest.mark.parametrize(
    ("scope", "owner", "runs", "wanted"),
    [("run", "ann", 1, 1), ("run", "ann", 2, 2), ("owner", "ann", 2, 1), ("owner", None, 2, 2), ("all", None, 2, 1)],
)
def test_a_tool_cache_answers_the_same_call_within_its_scope(
    scope: Any, owner: str | None, runs: int, wanted: int
) -> None:
    cache = ToolCache([look], scope=scope)
    assert len(looked(*LOOK_TWICE, middleware=cache, owner=owner, runs=runs)) == wanted


def test_a_tool_cache_keeps_no_errors_nothing_large_and_nothing_for_longer_than_it_may() -> None:
    failing = [[call("look", "c1", city="Ulm", fail=True)], [call("look", "c2", city="Ulm", fail=True)], "done"]
    assert len(looked(*failing, middleware=ToolCache([look]))) == 2
    assert len(looked(*LOOK_TWICE, middleware=ToolCache([look], max_bytes=5))) == 2
    assert len(looked(*LOOK_TWICE, middleware=ToolCache([look], seconds=0))) == 2
    assert len(looked(*LOOK_TWICE, middleware=ToolCache([]))) == 2


def test_other_arguments_are_another_call() -> None:
    turns = [[call("look", "c1", city="Ulm")], [call("look", "c2", city="Bonn")], "done"]
    assert looked(*turns, middleware=ToolCache([look])) == ["Ulm", "Bonn"]


def test_a_cache_store_that_fails_has_the_tool_executed(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def get(self, key: str) -> bytes | None:
            raise ConnectionError

        def set(self, key: str, value: bytes, seconds: float) -> None:
            raise ConnectionError

    assert len(looked(*LOOK_TWICE, middleware=ToolCache([look], store=Broken()))) == 2
    assert "could not be looked up" in caplog.text
    assert "could not be kept" in caplog.text


def test_a_memory_cache_drops_what_was_used_longest_ago() -> None:
    cache = MemoryCache(entries=2)
    for name in ("a", "b"):
        cache.set(name, name.encode(), 60)
    assert cache.get("a") == b"a"
    cache.set("c", b"c", 60)
    assert [cache.get(name) for name in ("a", "b", "c")] == [b"a", None, b"c"]


def test_a_tool_that_is_not_safe_to_repeat_is_not_cached() -> None:
    @tool(effects="once")
    def charge() -> str:
        """Charge."""
        return ""

    @tool(decision={"type": "object"})
    def refund() -> str:
        """Refund."""
        return ""

    for item in (charge, refund, "look"):
        with pytest.raises(ConfigurationError):
            ToolCache([item])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError):
        ToolCache([look], scope="everywhere")  # type: ignore[arg-type]


def test_a_call_log_writes_ids_alone_unless_content_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for content in (False, True):
        caplog.clear()
        agent = Agent("a", ScriptedModel([[call("look", city="Ulm")], "done"]), tools=[look])
        run = AgentKit([agent], middleware=[CallLog(content=content)]).run("a", "go")
        records = [record for record in caplog.records if record.name == "agentkit.calls"]
        assert [record.getMessage().split(": ")[1].split(" after")[0] for record in records] == [
            "model scripted:script",
            "model scripted:script answered",
            "tool look",
            "tool look answered",
            "model scripted:script",
            "model scripted:script answered",
        ]
        assert {record.run_id for record in records} == {run.id}  # type: ignore[attr-defined]
        assert ("Ulm" in str([vars(record) for record in records])) is content


def test_an_outer_hook_gets_what_an_inner_one_returned_as_a_message_or_a_result() -> None:
    class Short(Middleware):
        def around_model_call(self, ctx: Any, request: Any, call: Any) -> Any:
            return "short" if ctx.turn > 1 else call()

        def around_tool_call(self, ctx: Any, call: Any, execute: Any) -> Any:
            return {"rain": True}

    seen: list[Any] = []

    class Outer(Middleware):
        def around_model_call(self, ctx: Any, request: Any, call: Any) -> Any:
            answer = call()
            seen.append(answer["content"])
            return answer

        def around_tool_call(self, ctx: Any, call: Any, execute: Any) -> Any:
            result = execute()
            seen.append(result.content)
            return result

    app = App([call("look", city="Ulm")], "done", tools=[look], middleware=[Outer(), Short()])
    run = app.check(app.run())
    assert seen[1:] == [[{"type": "text", "text": '{"rain": true}'}], [{"type": "text", "text": "short"}]]
    assert last(run, "assistant")["content"][0]["text"] == "short"
