"""`kit.testing`: a production kit under test, with no Redis, no workers and no provider."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from agentkit import Agent, AgentKit, FernetCodec, RetryPolicy, ScriptedModel, Settings, StepInfo, ToolError, tool
from agentkit.core.messages import Json
from agentkit.errors import (
    ConfigurationError,
    DecisionNotFoundError,
    InvalidRequestError,
    ProviderError,
    RunNotFoundError,
)
from agentkit.runs import RunHandle
from agentkit.testing import AgentRequest, Testing
from agentkit.web import create_app, init_app

UNREACHABLE = Settings(redis_url="redis://127.0.0.1:1/0")
MODEL = "openai:gpt-4o"


def call(name: str, **arguments: Any) -> Json:
    return {"type": "toolCall", "name": name, "arguments": arguments}


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@tool(decision={"type": "object", "properties": {"note": {"type": "string"}}}, decision_timeout=3600)
def refund(order: str) -> str:
    """Refund an order."""
    return f"refunded {order}"


@tool
def divide(a: int, b: int) -> float:
    """Divide."""
    return a / b


@tool
async def divide_later(a: int, b: int) -> float:
    """Divide, too."""
    return a / b


@tool(runs="client")
def location() -> str:
    """Where the user is."""
    raise NotImplementedError


def desk(**options: Any) -> Agent:
    tools = [add, refund, divide, divide_later, location]
    return Agent(**{"name": "desk", "model": MODEL, "tools": tools, **options})


def production(*agents: Agent, **options: Any) -> AgentKit:
    return AgentKit(agents or (desk(),), settings=UNREACHABLE, **options)


def types(events: list[Json]) -> list[str]:
    return [event["type"] for event in events]


# -- runs and models


def test_a_run_is_over_when_start_returns_and_calls_and_events_can_be_asserted() -> None:
    kit = production()
    with kit.testing(model=[[call("add", a=2, b=3)], "It is 5."]) as testing:
        handle = kit.start("desk", "2 + 3?")
        assert handle.run.status == "completed"
        [added] = testing.tool_calls(handle)
        assert (added.name, added.arguments, added.text, added.is_error) == ("add", {"a": 2, "b": 3}, "5", False)
        assert types(testing.events(handle.id, type="agent_end")) == ["agent_end"]
        assert types(testing.events(handle.run))[0] == "agent_start"
        assert [event["seq"] for event in testing.events(handle)] == list(range(1, handle.run.last_seq + 1))
        assert [request.agent for request in testing.requests] == ["desk", "desk"]
        assert testing.requests[0].text == "2 + 3?"
        assert [spec.name for spec in testing.requests[0].tools][:2] == ["add", "refund"]


def test_events_are_the_same_each_time() -> None:
    kit = production()
    logs = []
    for _ in range(2):
        with kit.testing(model=ScriptedModel([[call("add", a=2, b=3)], "It is five."], chunk_size=3)) as testing:
            logs.append(types(testing.events(kit.start("desk", "2 + 3?"))))
    assert logs[0] == logs[1]
    assert logs[0].count("message_update") > 5


def test_messages_name_the_model_and_the_price_of_production() -> None:
    kit = production()
    with kit.testing(model=["Hello."]):
        run = kit.start("desk", "Hello").run
    assert run.model == MODEL
    assert run.messages is not None
    assert (run.messages[1]["provider"], run.messages[1]["model"]) == ("openai", "gpt-4o")
    assert run.usage["cost"]["total"] > 0


def test_a_function_answers_each_request() -> None:
    kit = production()

    def answer(request: AgentRequest) -> str:
        return f"{request.agent} ({request.provider}:{request.model}) was asked: {request.text}"

    with kit.testing(answer) as testing:
        run = kit.start("desk", "Hello").run
        assert run.messages is not None
        assert run.messages[-1]["content"][0]["text"] == f"desk ({MODEL}) was asked: Hello"
        assert testing.requests[0].model == "gpt-4o"


def test_models_by_agent_and_sub_agents() -> None:
    clerk = desk(name="clerk")
    kit = production(desk(tools=[clerk.as_tool()]))
    with kit.testing(
        model={"desk": [[call("clerk", input="add")], "done"], "clerk": lambda request: "five"}
    ) as testing:
        handle = kit.start("desk", "2 + 3?")
        assert handle.run.status == "completed"
        assert [each.text for each in testing.tool_calls(handle, "clerk")] == ["five"]
        assert [request.agent for request in testing.requests] == ["desk", "clerk", "desk"]
        assert {run.agent for run in kit.runs()} == {"desk", "clerk"}


def test_a_decision_of_a_sub_agent_is_given_through_its_parent() -> None:
    clerk = desk(name="clerk")
    kit = production(desk(tools=[clerk.as_tool()]))
    models = {
        "desk": [[call("clerk", input="refund 7")], "done"],
        "clerk": [[call("refund", order="7")], "it is refunded"],
    }
    with kit.testing(model=models) as testing:
        handle = kit.start("desk", "refund 7")
        assert not handle.run.ended
        [child] = kit.runs(agent="clerk")
        assert testing.decide(child, {"note": "ok"}).status == "completed"
        assert handle.run.status == "completed"


def test_kit_run_and_a_model_that_a_start_names_are_answered_by_the_stand_in() -> None:
    kit = production(desk(models=["anthropic:claude-sonnet-4-5"]))
    with kit.testing(model=lambda request: request.provider) as testing:
        assert kit.run("desk", "Hello").status == "completed"
        run = kit.start("desk", "Hello", model="anthropic:claude-sonnet-4-5").run
        assert run.messages is not None
        assert run.messages[-1]["content"][0]["text"] == "anthropic"
        assert len(testing.requests) == len(list(kit.runs())) == 2


@pytest.mark.parametrize("models", [None, {"other": ["Hello"]}])
def test_a_call_of_a_real_model_is_an_error_of_the_test_that_names_agent_and_model(models: Any) -> None:
    kit = production(desk(), desk(name="other"))
    with kit.testing(model=models) as testing:
        with pytest.raises(ConfigurationError, match=r"'desk' called openai:gpt-4o.*kit\.testing\(model="):
            kit.start("desk", "Hello")
        [run] = kit.runs()
        assert run.status == "failed"
        assert len(testing.requests) == 1


def test_scripted_models_of_the_application_answer_themselves() -> None:
    kit = production(desk(model=ScriptedModel(["Hello."])))
    with kit.testing():
        assert kit.start("desk", "Hello").run.status == "completed"


def test_what_a_model_function_raises_is_raised_in_the_test() -> None:
    kit = production()

    def answer(request: AgentRequest) -> str:
        assert request.text == "Good morning", "not polite"
        return "Good morning."

    with kit.testing(answer):
        with pytest.raises(AssertionError, match="not polite"):
            kit.start("desk", "Hello")
        assert kit.start("desk", "Good morning").run.status == "completed"


@pytest.mark.parametrize("model", [3, "Hello", {"desk": 4}, [5], {"nobody": ["Hello"]}])
def test_what_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(ConfigurationError):
        production().testing(model=model)


def test_fallback_models_are_asked_as_in_production() -> None:
    kit = production(desk(model=[MODEL, "anthropic:claude-sonnet-4-5"]))

    def answer(request: AgentRequest) -> str:
        if request.provider == "openai":
            raise ProviderError("overloaded", status=529, retryable=True)
        return "Hello."

    with kit.testing(answer) as testing:
        assert kit.start("desk", "Hello").run.status == "completed"
        assert [request.provider for request in testing.requests] == ["openai", "anthropic"]


# -- the clock


def test_a_decision_expires_when_the_clock_is_moved() -> None:
    kit = production()
    with kit.testing(model=[[call("refund", order="7")], "Nobody answered."]) as testing:
        handle = kit.start("desk", "Refund 7")
        assert handle.run.status == "paused"
        testing.advance(3599)
        assert handle.run.status == "paused"
        testing.advance(timedelta(seconds=1))
        assert handle.run.status == "completed"
        [refused] = testing.tool_calls(handle)
        assert refused.is_error


def test_a_retry_waits_for_the_clock_and_waits_pass_one_after_the_other() -> None:
    kit = production(retry=RetryPolicy(attempts=3, base=60, cap=60, deadline=120))
    fails = iter([True, True, False])

    def answer(request: AgentRequest) -> str:
        if next(fails):
            raise ProviderError("overloaded", status=529, retryable=True, retry_after=50)
        return "Hello."

    with kit.testing(answer) as testing:
        handle = kit.start("desk", "Hello")
        assert not handle.run.ended
        assert len(testing.requests) == 1
        testing.advance(3600)
        assert handle.run.status == "completed"
        assert len(testing.requests) == 3


def test_a_short_retry_waits_for_the_clock_too() -> None:
    kit = production(retry=RetryPolicy(attempts=2, base=0.0))
    fails = iter([True, False])

    def answer(request: AgentRequest) -> str:
        if next(fails):
            raise ProviderError("overloaded", status=529, retryable=True, retry_after=0.5)
        return "Hello."

    with kit.testing(answer) as testing:
        handle = kit.start("desk", "Hello")
        assert not handle.run.ended
        testing.advance(0.5)
        assert handle.run.status == "completed"


def test_a_run_uses_up_its_time_while_it_waits_for_a_retry_or_a_tool_moves_the_clock() -> None:
    contexts: list[Testing] = []

    @tool
    def wait() -> str:
        """Wait for five minutes."""
        contexts[-1].advance(300)
        return "done"

    kit = production(desk(tools=[wait], timeout=100.0), retry=RetryPolicy(attempts=2, base=500, cap=500, deadline=900))

    def failing(request: AgentRequest) -> str:
        raise ProviderError("overloaded", status=529, retryable=True, retry_after=400)

    for model in (failing, [[call("wait")], "done"]):
        with kit.testing(model) as testing:
            contexts.append(testing)
            handle = kit.start("desk", "Hello")
            testing.advance(200)
            assert handle.run.error is not None
            assert handle.run.error["code"] == "limit_time"


def test_a_run_that_waits_for_a_sub_agent_uses_up_its_time() -> None:
    clerk = desk(name="clerk")
    policy = RetryPolicy(attempts=2, base=2000, cap=2000, deadline=2000)
    kit = production(desk(tools=[clerk.as_tool()], timeout=600.0), retry=policy)

    def failing(request: AgentRequest) -> str:
        raise ProviderError("overloaded", status=529, retryable=True, retry_after=1900)

    with kit.testing(model={"desk": [[call("clerk", input="refund 7")], "done"], "clerk": failing}) as testing:
        handle = kit.start("desk", "refund 7")
        testing.advance(599)
        assert not handle.run.ended
        testing.advance(60)
        assert handle.run.error is not None
        assert handle.run.error["code"] == "limit_time"


def test_ended_runs_are_forgotten_and_time_only_goes_on() -> None:
    kit = production()
    with kit.testing(model=["Hello."]) as testing:
        handle = kit.start("desk", "Hello")
        before = testing.now
        testing.advance(timedelta(days=8))
        assert testing.now - before == timedelta(days=8)
        with pytest.raises(RunNotFoundError):
            kit.get(handle.id)
        with pytest.raises(InvalidRequestError):
            testing.advance(-1)


# -- people


def test_decisions_are_given_by_the_tool_that_waits() -> None:
    kit = production()
    script = [[call("refund", order="1"), call("location")], "done"]
    with kit.testing(model=script) as testing:
        handle = kit.start("desk", "Refund 1 where I am")
        with pytest.raises(DecisionNotFoundError, match="add"):
            testing.decide(handle, {}, tool="add")
        assert testing.decide(handle, tool="location", result="Bonn").status == "paused"
        assert testing.decide(handle.id, {"note": "fine"}, tool="refund", decided_by="ann").status == "completed"
        assert [each.text for each in testing.tool_calls(handle)] == ["refunded 1", "Bonn"]
        assert len(kit.decisions(handle.id)) == 2


def test_resume_send_and_abort_work_on_the_same_runs() -> None:
    kit = production()
    with kit.testing(model=[[call("refund", order="7")], "Done."]) as testing:
        rejected, aborted = (kit.start("desk", "Refund 7") for _ in range(2))
        kit.send(rejected.id, "And tell me why.")
        kit.resume(rejected.id, reject="no")
        assert rejected.run.status == "paused"  # the message made another turn, which asks again
        assert testing.decide(rejected, {}).status == "completed"
        assert [each.is_error for each in testing.tool_calls(rejected)] == [True, False]
        kit.abort(aborted.id)
        assert aborted.run.status == "aborted"
        kit.delete(aborted.id)
        assert [run.id for run in kit.runs()] == [rejected.id]


# -- tools


@pytest.mark.parametrize("name", ["divide", "divide_later"])
def test_tool_exceptions_are_told_to_the_model_or_raised_in_the_test(name: str) -> None:
    kit = production()
    script = [[call(name, a=1, b=0), call("add", a=1, b=1)], "done"]
    with kit.testing(model=script) as testing:
        run = kit.start("desk", "1 / 0")
        assert run.run.status == "completed"
        assert testing.tool_calls(run)[0].is_error
    with kit.testing(model=script, raise_tool_errors=True) as testing:
        with pytest.raises(ZeroDivisionError):
            kit.start("desk", "1 / 0")
        assert [run.status for run in kit.runs()] == ["aborted"]
        testing.advance(3600)
        assert len(testing.requests) == 1


def test_a_tool_error_is_raised_too_and_the_runs_that_wait_are_not_told() -> None:
    @tool
    def fail() -> str:
        """Fail."""
        raise ToolError("no such order")

    clerk = desk(name="clerk", tools=[fail])
    kit = production(desk(tools=[clerk.as_tool()]))
    models = {"desk": [[call("clerk", input="try")], "done"], "clerk": [[call("fail")], "done"]}
    with kit.testing(model=models, raise_tool_errors=True) as testing:
        with pytest.raises(ToolError, match="no such order"):
            kit.start("desk", "try")
        assert {run.status for run in kit.runs()} == {"aborted"}
        assert [request.agent for request in testing.requests] == ["desk", "clerk"]


def test_a_failed_assertion_of_pytest_in_a_tool_fails_the_test() -> None:
    @tool
    def never() -> str:
        """Must not be called."""
        pytest.fail("it was called")

    kit = production(desk(tools=[never]))
    with kit.testing(model=[[call("never")], "done"]), pytest.raises(pytest.fail.Exception, match="it was called"):
        kit.start("desk", "Call it")


def test_tools_are_executed_in_the_thread_of_the_test_one_after_the_other() -> None:
    threads: list[tuple[str, int]] = []

    @tool
    def first() -> str:
        """Be first."""
        threads.append(("first", threading.get_ident()))
        return "1"

    @tool
    def second() -> str:
        """Be second."""
        threads.append(("second", threading.get_ident()))
        return "2"

    kit = production(desk(tools=[first, second]))
    with kit.testing(model=[[call("first"), call("second")], "done"]):
        assert kit.start("desk", "Go").run.status == "completed"
    assert threads == [("first", threading.get_ident()), ("second", threading.get_ident())]


def test_a_tool_with_a_timeout_is_outlived() -> None:
    over = threading.Event()

    @tool(timeout=0.05)
    def hang() -> str:
        """Hang."""
        over.wait(30)
        return "late"

    kit = production(desk(tools=[hang]))
    with kit.testing(model=[[call("hang")], "done"]) as testing:
        handle = kit.start("desk", "Go")
        over.set()
        assert handle.run.status == "completed"
        [hung] = testing.tool_calls(handle)
        assert hung.text is not None
        assert "timeout" in hung.text


def test_a_tool_may_start_a_run_and_wait_for_it() -> None:
    @tool
    def ask() -> str:
        """Ask another agent."""
        return kit.start("other", "Hello").wait(timeout=1).status

    kit = production(desk(tools=[ask]), desk(name="other"))
    with kit.testing(model={"desk": [[call("ask")], "done"], "other": ["Hello."]}) as testing:
        handle = kit.start("desk", "Go")
        assert handle.run.status == "completed"
        assert [each.text for each in testing.tool_calls(handle)] == ["completed"]


# -- as in production


def test_around_step_is_entered_and_its_context_reaches_tools() -> None:
    steps: list[StepInfo] = []
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")

    @contextmanager
    def around(step: StepInfo) -> Iterator[None]:
        steps.append(step)
        token = tenant.set("acme")
        try:
            yield
        finally:
            tenant.reset(token)

    @tool
    def who() -> str:
        """Who."""
        return tenant.get()

    kit = production(desk(tools=[who]), around_step=around)
    with kit.testing(model=[[call("who")], "done"]) as testing:
        assert [each.text for each in testing.tool_calls(kit.start("desk", "Who?"))] == ["acme"]
    assert [(step.kind, step.tool) for step in steps] == [("model", None), ("tool", "who"), ("model", None)]


def test_a_codec_encrypts_what_is_kept() -> None:
    used: list[str] = []

    class Codec(FernetCodec):
        def encode(self, data: bytes) -> bytes:
            used.append("encode")
            return super().encode(data)

    kit = production(codec=Codec(["cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="]))
    with kit.testing(model=["Hello."]) as testing:
        assert types(testing.events(kit.start("desk", "Hello"), type=["agent_start", "agent_end"])) == [
            "agent_start",
            "agent_end",
        ]
    assert used


def test_the_web_application_serves_the_same_runs() -> None:
    from flask import Flask

    kit = production()
    host = Flask("host")
    init_app(host, kit, url_prefix="/agents")
    for app, prefix in ((create_app(kit), ""), (host, "/agents")):
        with kit.testing(model=[[call("refund", order="7")], "Done."]) as testing:
            client = app.test_client()
            started = client.post(f"{prefix}/runs", json={"agent": "desk", "input": "Refund 7"})
            assert started.status_code == 202, started.text
            run_id = started.get_json()["id"]
            assert kit.get(run_id).status == "paused"
            stream = client.get(f"{prefix}/runs/{run_id}/events?until=pause")
            assert b"agent_pause" in stream.data
            [item] = kit.get(run_id).pending
            answered = client.post(
                f"{prefix}/runs/{run_id}/resume",
                json={"decisionId": item["decisionId"], "decision": {"note": "ok"}},
            )
            assert answered.status_code < 300, answered.text
            assert client.get(f"{prefix}/runs/{run_id}").get_json()["status"] == "completed"
            assert [each.text for each in testing.tool_calls(run_id)] == ["refunded 7"]
            assert client.get(f"{prefix}/readyz").status_code == 200


def test_several_kits_are_under_test_each_with_its_clock_and_runs() -> None:
    one, two = production(), production()
    with one.testing(model=["one"]) as first, two.testing(model=["two"]) as second:
        one.start("desk", "Hello")
        first.advance(60)
        two.start("desk", "Hello")
        assert [len(list(kit.runs())) for kit in (one, two)] == [1, 1]
        assert first.now > second.now


# -- entering and leaving


def test_leaving_restores_the_kit_also_after_an_error_and_its_runs_can_still_be_read() -> None:
    kit = AgentKit([desk(model=ScriptedModel(["mine"]))], settings=UNREACHABLE)
    inline = kit.run("desk", "Hello")
    before = {name: value for name, value in vars(kit).items() if name != "_lock"}
    testing = kit.testing(model=["theirs"])

    def use() -> RunHandle:
        handle = kit.start("desk", "Hello")
        with pytest.raises(RunNotFoundError):
            kit.get(inline.id)
        with kit:
            assert handle.run.status == "completed"
        return handle

    with contextlib.suppress(KeyError), testing:
        handle = use()
        raise KeyError
    assert {name: value for name, value in vars(kit).items() if name != "_lock"} == before
    assert kit.get(inline.id) == inline
    assert kit.bind("desk").provider is before["_agents"]["desk"].provider
    assert testing.tool_calls(handle) == []
    assert types(testing.events(handle))[-1] == "agent_end"


def test_contexts_of_one_kit_are_not_nested_nor_entered_twice() -> None:
    kit = production()
    with kit.testing(model=["outer"]) as testing:
        with pytest.raises(ConfigurationError, match="under test already"), kit.testing(model=["inner"]):
            pass
        run = kit.start("desk", "Hello").run
        assert run.messages is not None
        assert run.messages[-1]["content"][0]["text"] == "outer"
    with pytest.raises(ConfigurationError, match="once"), testing:
        pass
    with kit.testing(model=["next"]):
        assert list(kit.runs()) == []
