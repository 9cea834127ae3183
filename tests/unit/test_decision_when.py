"""Which calls need a decision: what a tool's condition is asked, when, and what becomes of what it says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import Field

from agentkit import Agent, ConfigurationError, ScriptedModel, ToolError, tool
from agentkit.core.messages import Json
from agentkit.tools import Tool, ToolContext
from tests.apps import App, in_background
from tests.tools import APPROVAL, YES, look
from tests.turns import call
from tests.waiting import wait_until

SAYS_SO = "decision_when says that this call needs the decision"


def refund_when(condition: Any, **options: Any) -> Tool:
    @tool(decision=APPROVAL, decision_when=condition, **options)
    def refund(cents: int, decision: Any) -> str:
        """Refund some cents."""
        return f"refunded {cents}: {decision}"

    return refund


def asked(condition: Any, *calls: Json, tools: tuple[Tool, ...] = (), **settings: Any) -> tuple[App, str]:
    """An application and a run of it, after the calls of its first turn."""
    turn = list(calls) or [call("refund", cents=500)]
    app = App(turn, "Done.", tools=[refund_when(condition), *tools], **settings)
    return app, app.run()


def result_texts(app: App, run_id: str) -> list[str]:
    messages = app.check(run_id).messages
    return [message["content"][0]["text"] for message in messages if message["role"] == "toolResult"]


def test_false_lets_the_call_execute_at_once_without_a_decision() -> None:
    app, run_id = asked(lambda args, ctx: False)
    assert result_texts(app, run_id) == ["refunded 500: None"]
    assert app.check(run_id).status == "completed"
    assert not [event for event in app.log(run_id) if "decision" in event["type"]]


def test_true_has_the_call_wait_and_the_item_and_its_event_say_why() -> None:
    app, run_id = asked(lambda args, ctx: True)
    [item] = app.check(run_id).pending
    assert item["reason"] == SAYS_SO
    [event] = [event for event in app.log(run_id) if event["type"] == "tool_decision_pending"]
    assert event["reason"] == SAYS_SO
    assert app.log(run_id)[-1]["pending"] == [item]
    app.kit.resume(run_id, YES)
    app.work()
    assert result_texts(app, run_id) == ["refunded 500: {'approved': True}"]


async def coroutine_of_false() -> bool:
    return False


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (lambda: None, "decision_when returned neither True nor False, but a NoneType"),
        (lambda: 0, "decision_when returned neither True nor False, but a int"),
        (lambda: "", "decision_when returned neither True nor False, but a str"),
        (lambda: "yes, postgres://user:secret@db", "decision_when returned neither True nor False, but a str"),
        (coroutine_of_false, "decision_when returned neither True nor False, but a coroutine"),
    ],
)
def test_whatever_is_not_false_has_the_call_wait(value: Callable[[], Any], reason: str) -> None:
    app, run_id = asked(lambda args, ctx: value())
    [item] = app.check(run_id).pending
    assert item["reason"] == reason


def test_an_exception_has_the_call_wait_and_its_text_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def fails(args: Json, ctx: ToolContext) -> bool:
        raise ConnectionError("postgres://user:secret@db refused")

    app, run_id = asked(fails)
    [item] = app.check(run_id).pending
    assert item["reason"].startswith("decision_when failed: ConnectionError (reference ")
    assert "secret" not in str(app.log(run_id))
    reference = item["reason"].rpartition(" ")[2].rstrip(")")
    [record] = [record for record in caplog.records if reference in record.getMessage()]
    assert run_id in record.getMessage()
    assert record.exc_info is not None
    assert "secret" in str(record.exc_info[1])


@pytest.mark.parametrize("error", [ToolError("the desk is closed"), SystemExit(3), KeyboardInterrupt()])
def test_an_error_that_is_made_to_be_read_is_the_reason_and_none_ends_the_worker(error: BaseException) -> None:
    def fails(args: Json, ctx: ToolContext) -> bool:
        raise error

    app, run_id = asked(fails)
    [item] = app.check(run_id).pending
    wanted = "the desk is closed" if isinstance(error, ToolError) else type(error).__name__
    assert item["reason"].startswith(f"decision_when failed: {wanted}")


def test_it_is_asked_once_for_each_call_with_a_copy_of_its_arguments_and_its_context() -> None:
    seen: list[tuple[Json, ToolContext]] = []

    def condition(args: Json, ctx: ToolContext) -> bool:
        seen.append(({**args}, ctx))
        args["cents"] = 1
        args.clear()
        ctx.update("nobody sees this")
        return len(seen) > 1

    app, run_id = asked(condition, call("refund", "one", cents=5), call("refund", "two", cents=6))
    [item] = app.check(run_id).pending
    assert (item["toolCallId"], item["input"]) == ("two", {"cents": 6})
    app.kit.resume(run_id, YES)
    app.work()
    assert result_texts(app, run_id) == ["refunded 5: None", "refunded 6: {'approved': True}"]
    assert [args for args, _ in seen] == [{"cents": 5}, {"cents": 6}]
    contexts = [ctx for _, ctx in seen]
    assert [ctx.tool_call_id for ctx in contexts] == ["one", "two"]
    assert {(ctx.run_id, ctx.agent, ctx.attempt, ctx.decision, ctx.decided_by) for ctx in contexts} == {
        (run_id, "a", 1, None, None)
    }
    assert [ctx.idempotency_key for ctx in contexts] == [f"{run_id}:1:0", f"{run_id}:1:1"], "as in the tool itself"


def test_the_owner_and_the_metadata_of_the_run_are_there() -> None:
    def condition(args: Json, ctx: ToolContext) -> bool:
        return ctx.owner != "ann" or ctx.metadata["plan"] != "gold"

    app = App([call("refund", cents=5)], "Done.", tools=[refund_when(condition)])
    runs = [app.kit.start("a", "go", owner=who, metadata={"plan": "gold"}).id for who in ("ann", "bob")]
    app.work()
    assert [app.check(run_id).status for run_id in runs] == ["completed", "paused"]


def test_nobody_is_asked_about_a_call_that_cannot_be_carried_out() -> None:
    seen: list[Json] = []

    def condition(args: Json, ctx: ToolContext) -> bool:
        seen.append(args)
        return True

    @tool(decision=APPROVAL, decision_when=condition)
    def refund(cents: Annotated[int, Field(gt=0)], decision: Any) -> str:
        """Refund some cents."""
        return "refunded"

    raw = {"type": "toolCall", "id": "three", "name": "refund", "arguments": {}, "rawArguments": '{"cents": '}
    calls = [call("refund", "one", cents="x"), call("refund", "two", cents=-1), raw, call("refund", "four", cents=1)]
    app = App(calls, "Done.", tools=[refund], max_calls_per_turn=3)
    run_id = app.run()
    assert seen == []
    assert app.check(run_id).status == "completed"


def test_a_commit_that_meets_another_does_not_ask_again() -> None:
    asked_times = 0
    app: App

    def condition(args: Json, ctx: ToolContext) -> bool:
        nonlocal asked_times
        asked_times += 1
        app.kit.send(ctx.run_id, "and quickly", "steer")
        return asked_times == 1

    app = App([call("refund", cents=5)], "Done.", tools=[refund_when(condition)])
    run_id = app.run()
    assert asked_times == 1
    assert app.check(run_id).pending[0]["reason"] == SAYS_SO


def test_an_abort_does_not_wait_for_a_condition() -> None:
    reached, release = threading.Event(), threading.Event()

    def condition(args: Json, ctx: ToolContext) -> bool:
        reached.set()
        release.wait(30)
        return False

    app = App([call("refund", cents=5)], "Done.", tools=[refund_when(condition)], lease_seconds=0.3)
    run_id = app.start()
    thread = in_background(app.work)
    wait_until(reached.is_set, what="the condition")
    app.kit.abort(run_id, "enough")
    thread.join(5)
    assert not thread.is_alive()
    release.set()
    run = app.check(run_id)
    assert (run.status, run.pending) == ("aborted", [])


def test_a_client_side_tool_whose_decision_is_not_needed_goes_to_the_client_at_once() -> None:
    @tool(runs="client", decision=APPROVAL, decision_when=lambda args, ctx: False)
    def photo(decision: Any = None) -> str:
        """Take a photo."""
        return ""

    app = App([call("photo")], "Done.", tools=[photo])
    [item] = app.check(app.run()).pending
    assert (item["kind"], "reason" in item) == ("client_execute", False)


def test_a_sub_agent_may_be_asked_for_only_at_times() -> None:
    cashier = Agent("cashier", ScriptedModel(["It is paid back."]))
    desk = cashier.as_tool(decision=APPROVAL, decision_when=lambda args, ctx: "twice" in args["input"])
    calls = [call("cashier", "one", input="Pay it."), call("cashier", "two", input="Pay it twice.")]
    app = App(calls, "Done.", tools=[desk])
    run_id = app.run()
    [item] = app.check(run_id).pending
    assert (item["toolCallId"], item["reason"]) == ("two", SAYS_SO)
    app.kit.resume(run_id, reject="once is enough")
    app.work()
    assert result_texts(app, run_id) == ["It is paid back.", "rejected: once is enough"]


def test_the_other_calls_of_a_turn_do_not_wait_for_it() -> None:
    app, run_id = asked(lambda args, ctx: True, call("refund", cents=5), call("look", what="a"), tools=(look,))
    types = [event["type"] for event in app.log(run_id)]
    assert types.index("tool_execution_end") < types.index("agent_pause")


def test_what_a_condition_raises_is_a_tests_to_see_as_what_a_tool_raises() -> None:
    def fails(args: Json, ctx: ToolContext) -> bool:
        raise LookupError("no such order")

    kit = App([call("refund", cents=5)], "Done.", tools=[refund_when(fails)]).kit
    with kit.testing({"a": [[call("refund", cents=5)], "Done."]}) as testing:
        assert testing.decide(kit.start("a", "go"), YES).status == "completed"
    with kit.testing({"a": [[call("refund", cents=5)]]}, raise_tool_errors=True), pytest.raises(LookupError):
        kit.start("a", "go")


def test_an_inline_run_asks_too() -> None:
    app = App([call("refund", cents=5)], "Done.", tools=[refund_when(lambda args, ctx: args["cents"] > 4)])
    assert app.kit.run("a", "go").pending[0]["reason"] == SAYS_SO


async def async_condition(args: Json, ctx: ToolContext) -> bool:
    return False


class AsyncCondition:
    async def __call__(self, args: Json, ctx: ToolContext) -> bool:
        return False


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"decision": None, "decision_when": lambda args, ctx: True}, "decision_when but nothing to decide"),
        ({"decision_when": async_condition}, "decision_when must be a plain function"),
        ({"decision_when": AsyncCondition()}, "decision_when must be a plain function"),
        ({"decision_when": True}, "decision_when must be a function"),
        ({"decision_when": lambda args: True}, r"decision_when must take \(args, ctx\)"),
        ({"decision": None, "remember": True}, "remember but nothing to decide"),
        ({"remember": "yes"}, "remember must be True or False"),
        ({"decision": None, "approvals": 2}, "approvals but nothing to decide"),
        ({"approvals": 0}, "approvals must be a whole number from 1"),
        ({"approvals": True}, "approvals must be a whole number from 1"),
        ({"approvals": 1.5}, "approvals must be a whole number from 1"),
        ({"approvals": 2, "owner_may_approve": 1}, "owner_may_approve must be True or False"),
    ],
)
def test_what_is_declared_wrongly_is_an_error_at_once(options: Any, text: str) -> None:
    def refund(cents: int) -> str:
        """Refund some cents."""
        return ""

    with pytest.raises(ConfigurationError, match=text):
        tool(**{"decision": APPROVAL, **options})(refund)


def test_the_definitions_of_agents_say_who_decides() -> None:
    declared = refund_when(lambda args, ctx: True, remember=True, approvals=2)
    app = App("Done.", tools=[declared, look])
    refund, other = app.kit.agents[0].definition().tools
    assert (refund.decision_when, refund.approvals, refund.remember) == (True, 2, True)
    assert (other.decision_when, other.approvals, other.remember) == (False, None, False)
