"""Hooks: what they may change, answer, refuse and see, sync and async; and what becomes of their own failures."""

from __future__ import annotations

import asyncio
import contextvars
import re
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from agentkit import (
    Agent,
    AgentKit,
    ConfigurationError,
    Middleware,
    ProviderError,
    RetryPolicy,
    ScriptedModel,
    ToolContext,
    ToolError,
    ToolResult,
    tool,
)
from agentkit.store.memory import MemoryStore
from tests.apps import App, FakeQueue, in_background
from tests.turns import call

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("hooked_tenant", default="nobody")
ModelHook = Callable[..., Any]


def model_hook(function: ModelHook, *, holds: bool = False) -> Middleware:
    class OfModel(Middleware):
        holds_answers = holds

        def around_model_call(self, ctx: Any, request: Any, call: Any) -> Any:
            return function(ctx, request, call)

    return OfModel()


def async_model_hook(function: ModelHook) -> Middleware:
    class OfModel(Middleware):
        async def around_model_call(self, ctx: Any, request: Any, call: Any) -> Any:
            return await function(ctx, request, call)

    return OfModel()


def tool_hook(function: Callable[..., Any]) -> Middleware:
    class OfTool(Middleware):
        def around_tool_call(self, ctx: Any, call: Any, execute: Any) -> Any:
            return function(ctx, call, execute)

    return OfTool()


def async_tool_hook(function: Callable[..., Any]) -> Middleware:
    class OfTool(Middleware):
        async def around_tool_call(self, ctx: Any, call: Any, execute: Any) -> Any:
            return await function(ctx, call, execute)

    return OfTool()


def text(run: Any, role: str = "assistant") -> str:
    message = [m for m in run.messages if m["role"] == role][-1]
    return "".join(block.get("text", "") for block in message["content"])


def types(app: App, run_id: str) -> list[str]:
    return [event["type"] for event in app.log(run_id)]


# -- model calls


def test_the_first_is_the_outermost_and_sees_the_answer_last() -> None:
    order: list[str] = []

    def noting(name: str) -> Middleware:
        def hook(ctx: Any, request: Any, call: Any) -> Any:
            order.append(f"{name} before")
            answer = call(request)
            order.append(f"{name} after")
            return answer

        return model_hook(hook)

    app = App("hello", middleware=[noting("a"), noting("b")])
    assert text(app.check(app.run())) == "hello"
    assert order == ["a before", "b before", "b after", "a after"]


def test_a_hook_is_told_the_step_and_the_request_and_gets_the_answer() -> None:
    seen: list[Any] = []

    def hook(ctx: Any, request: Any, call: Any) -> Any:
        answer = call()
        seen.append((ctx, request, answer))
        return answer

    app = App("hello", middleware=[model_hook(hook)])
    run_id = app.run()
    [(ctx, request, answer)] = seen
    assert (ctx.run_id, ctx.step, ctx.kind, ctx.agent, ctx.attempt, ctx.turn) == (run_id, 1, "model", "a", 1, 1)
    assert request.model == "scripted:script"
    assert [m["content"] for m in request.messages] == ["go"]
    assert answer["content"] == [{"type": "text", "text": "hello"}]
    assert answer["usage"]["totalTokens"] > 0
    assert "message_discard" not in types(app, run_id)


def test_what_a_hook_changes_of_a_request_is_what_the_model_is_asked() -> None:
    def hook(ctx: Any, request: Any, call: Any) -> Any:
        return call(replace(request, messages=[{"role": "user", "content": "changed"}]))

    model = ScriptedModel(lambda messages: str([m["content"] for m in messages]))
    app = App(model=model, middleware=[model_hook(hook)])
    run = app.check(app.run())
    assert text(run) == "['changed']"
    assert run.messages[0]["content"] == "go"


def test_a_hook_may_ask_another_model() -> None:
    other = ScriptedModel(["from the other"], name="hooks-other")
    agent = Agent("a", ScriptedModel(["from the first"]), models=[other])
    queue, store = FakeQueue(), MemoryStore()
    hook = model_hook(lambda ctx, request, call: call(replace(request, model="scripted:hooks-other")))
    kit = AgentKit([agent], store=store, queue=queue, middleware=[hook])
    run_id = kit.start("a", "go").id
    kit.execute(*queue.enqueued.pop(0))
    run = kit.get(run_id)
    assert text(run) == "from the other"
    assert run.messages is not None
    assert run.messages[-1]["model"] == "hooks-other"


@pytest.mark.parametrize(
    "answer",
    ["mine", [{"type": "text", "text": "mine"}], {"role": "assistant", "content": [{"type": "text", "text": "mine"}]}],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_hook_may_answer_in_the_models_place(answer: Any, is_async: bool) -> None:
    async def later(ctx: Any, request: Any, call: Any) -> Any:
        return answer

    hook = async_model_hook(later) if is_async else model_hook(lambda ctx, request, call: answer)
    app = App("never", middleware=[hook])
    run_id = app.run()
    run = app.check(run_id)
    assert (run.status, text(run)) == ("completed", "mine")
    assert run.usage["totalTokens"] == 0
    assert "message_discard" not in types(app, run_id)


def test_a_hook_may_have_a_tool_called_in_the_models_place() -> None:
    @tool
    def add(a: int) -> str:
        """Add."""
        return str(a + 1)

    def hook(ctx: Any, request: Any, call_model: Any) -> Any:
        return [call("add", "c1", a=1)] if ctx.turn == 1 else call_model()

    app = App("never", "done", tools=[add], middleware=[model_hook(hook)])
    run = app.check(app.run())
    assert (text(run, "toolResult"), text(run)) == ("2", "done")


def test_an_answer_that_a_hook_changes_voids_what_was_streamed_and_is_paid_once() -> None:
    def hook(ctx: Any, request: Any, call: Any) -> Any:
        answer = call(request)
        answer["content"][0]["text"] = "changed"
        return answer

    app = App("original", middleware=[model_hook(hook)])
    run_id = app.run()
    run = app.check(run_id)
    assert text(run) == "changed"
    assert "message_discard" in types(app, run_id)
    assert run.usage["totalTokens"] > 0
    assert run.discarded is None


def test_where_answers_are_held_nothing_of_the_original_is_in_the_log() -> None:
    def hook(ctx: Any, request: Any, call: Any) -> Any:
        answer = call(request)
        answer["content"][0]["text"] = "changed"
        return answer

    app = App("original", middleware=[model_hook(hook, holds=True)])
    run_id = app.run()
    assert text(app.check(run_id)) == "changed"
    assert "ori" not in str(app.log(run_id))
    assert "message_discard" not in types(app, run_id)


def test_a_held_answer_that_fails_leaves_nothing_in_the_log() -> None:
    def hook(ctx: Any, request: Any, call: Any) -> Any:
        call(request)
        raise ProviderError("not today")

    app = App("original", middleware=[model_hook(hook, holds=True)])
    run_id = app.run()
    run = app.check(run_id)
    assert (run.status, run.error) == ("failed", {"code": "provider_error", "message": "not today"})
    assert "ori" not in str(app.log(run_id))
    assert run.discarded is not None


def test_a_hook_may_ask_again_and_both_are_paid() -> None:
    def hook(ctx: Any, request: Any, call: Any) -> Any:
        call(request)
        return call(request)

    app = App("hello", middleware=[model_hook(hook)])
    run_id = app.run()
    run = app.check(run_id)
    assert text(run) == "hello"
    assert run.discarded is not None
    assert run.discarded["totalTokens"] == run.usage["totalTokens"] > 0
    assert types(app, run_id).count("message_discard") == 1


@pytest.mark.parametrize("is_async", [False, True])
def test_a_transient_failure_that_a_hook_raises_is_tried_again_and_a_terminal_one_is_not(is_async: bool) -> None:
    tries: list[int] = []

    def hook(ctx: Any, request: Any, call: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise ProviderError("wait", retryable=True)
        raise ProviderError("never")

    async def later(ctx: Any, request: Any, call: Any) -> Any:
        return hook(ctx, request, call)

    app = App(
        "hello",
        middleware=[async_model_hook(later) if is_async else model_hook(hook)],
        retry=RetryPolicy(attempts=5, base=0.01),
    )
    run = app.check(app.run())
    assert (run.status, run.error) == ("failed", {"code": "provider_error", "message": "never"})
    assert len(tries) == 2


def test_a_hooks_own_error_ends_the_run_and_names_the_hook(caplog: pytest.LogCaptureFixture) -> None:
    def hook(ctx: Any, request: Any, call: Any) -> Any:
        raise KeyError("secret")

    app = App("hello", middleware=[model_hook(hook)])
    run_id = app.run()
    run = app.check(run_id)
    assert run.error["code"] == "step_failed"
    assert re.fullmatch(r"around_model_call of OfModel raised KeyError \(reference .{8}\)", run.error["message"])
    [record] = [r for r in caplog.records if r.levelname == "ERROR"]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)
    assert run_id in record.getMessage()


@pytest.mark.parametrize("answer", [None, 5, {"role": "user", "content": "x"}, [{"type": "odd"}]])
def test_what_is_no_answer_ends_the_run(answer: Any) -> None:
    app = App("hello", middleware=[model_hook(lambda ctx, request, call: answer)])
    run = app.check(app.run())
    assert run.error["code"] == "step_failed"
    assert "the answer of around_model_call of OfModel raised" in run.error["message"]


def test_a_request_that_is_none_ends_the_run() -> None:
    hook = model_hook(lambda ctx, request, call: call(replace(request, messages=[{"role": "nobody"}])))
    app = App("hello", middleware=[hook])
    run = app.check(app.run())
    assert "what around_model_call of OfModel asks raised InvalidRequestError" in run.error["message"]


def test_an_abort_ends_a_hook_that_waits() -> None:
    reached, ended = threading.Event(), threading.Event()

    async def hook(ctx: Any, request: Any, call: Any) -> Any:
        reached.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    app = App("hello", middleware=[async_model_hook(hook)])
    run_id = app.start()
    thread = in_background(app.work)
    assert reached.wait(10)
    app.kit.abort(run_id, "enough")
    thread.join(10)
    assert ended.wait(5)
    assert app.check(run_id).status == "aborted"


def test_the_streamed_text_is_in_the_log_before_the_hook_returns() -> None:
    logs: list[str] = []

    def hook(ctx: Any, request: Any, call: Any) -> Any:
        answer = call(request)
        logs.append(str(app.log(ctx.run_id)))
        return answer

    app = App("hello", middleware=[model_hook(hook)])
    app.run()
    assert "hel" in logs[0]


# -- tools


@tool
def plain(a: int) -> str:
    """Answer."""
    return f"{tenant.get()} {a}"


@tool
async def waiting(a: int) -> str:
    """Answer."""
    await asyncio.sleep(0)
    return f"{tenant.get()} {a}"


@tool
def fail(a: int) -> str:
    """Fail."""
    raise ValueError("the tool's own")


charged: list[int] = []


@tool(effects="once")
def charge(a: int) -> str:
    """Charge."""
    charged.append(a)
    return "charged"


TOOLS = [plain, waiting, fail, charge]


def run_tool(name: str, *middleware: Middleware, **options: Any) -> tuple[App, Any]:
    app = App([call(name, a=1)], "ok", tools=TOOLS, middleware=middleware, **options)
    return app, app.check(app.run())


@pytest.mark.parametrize("name", ["plain", "waiting"])
@pytest.mark.parametrize("order", ["s", "a", "sa", "as", "sas"])
def test_hooks_of_both_kinds_nest_around_tools_of_both_kinds_and_context_reaches_them(name: str, order: str) -> None:
    seen: list[str] = []

    def plainly(ctx: Any, call: Any, execute: Any) -> Any:
        tenant.set("acme")
        result = execute(replace(call, arguments={"a": call.arguments["a"] + 1}))
        seen.append(f"s{result.content[0]['text']}")
        return result

    async def later(ctx: Any, call: Any, execute: Any) -> Any:
        tenant.set("acme")
        result = await execute(replace(call, arguments={"a": call.arguments["a"] + 1}))
        seen.append(f"a{result.content[0]['text']}")
        return result

    hooks = [tool_hook(plainly) if kind == "s" else async_tool_hook(later) for kind in order]
    _, run = run_tool(name, *hooks)
    wanted = f"acme {1 + len(order)}"
    assert text(run, "toolResult") == wanted
    assert seen == [f"{kind}{wanted}" for kind in reversed(order)]


def test_a_tool_hook_is_told_the_call() -> None:
    seen: list[Any] = []

    def hook(ctx: Any, call: Any, execute: Any) -> Any:
        seen.append((ctx, call))
        return execute()

    _, run = run_tool("plain", tool_hook(hook))
    [(ctx, asked)] = seen
    assert (ctx.run_id, ctx.step, ctx.kind, ctx.tool, ctx.attempt, ctx.turn) == (run.id, 2, "tool", "plain", 1, 1)
    assert ctx.tool_call_id == asked.id
    assert (asked.name, asked.arguments, asked.tool.effects) == ("plain", {"a": 1}, "idempotent")


def test_a_tool_hook_may_answer_without_executing() -> None:
    charged.clear()
    _, run = run_tool("charge", tool_hook(lambda ctx, call, execute: ToolResult("cached", details={"hit": True})))
    assert (text(run, "toolResult"), charged) == ("cached", [])


def test_a_tool_hook_may_refuse_and_the_model_reads_why() -> None:
    def hook(ctx: Any, call: Any, execute: Any) -> Any:
        raise ToolError("not on Sundays")

    _, run = run_tool("plain", tool_hook(hook))
    [result] = [m for m in run.messages if m["role"] == "toolResult"]
    assert (result["isError"], text(run, "toolResult")) == (True, "not on Sundays")


@pytest.mark.parametrize("is_async", [False, True])
def test_what_the_tool_raised_passes_through_and_stays_the_tools(is_async: bool) -> None:
    caught: list[BaseException] = []

    def hook(ctx: Any, call: Any, execute: Any) -> Any:
        try:
            return execute(call)
        except ValueError as error:
            caught.append(error)
            raise

    async def later(ctx: Any, call: Any, execute: Any) -> Any:
        return await execute(call)

    _, run = run_tool("fail", tool_hook(hook), *([async_tool_hook(later)] if is_async else []))
    assert run.status == "completed"
    assert re.fullmatch(r"ValueError \(reference .{8}\)", text(run, "toolResult"))
    assert len(caught) == 1


def test_a_tool_hook_may_try_again() -> None:
    left = [2]

    @tool
    def flaky(a: int) -> str:
        """Fail twice."""
        left[0] -= 1
        if left[0] >= 0:
            raise ConnectionError
        return "at last"

    def hook(ctx: Any, call: Any, execute: Any) -> Any:
        while True:
            try:
                return execute(call)
            except ConnectionError:
                continue

    app = App([call("flaky", a=1)], "ok", tools=[flaky], middleware=[tool_hook(hook)])
    assert text(app.check(app.run()), "toolResult") == "at last"


def test_arguments_that_a_hook_makes_invalid_are_an_error_result() -> None:
    _, run = run_tool("plain", tool_hook(lambda ctx, call, execute: execute(replace(call, arguments={"a": "x"}))))
    assert "do not satisfy the tool's parameters" in text(run, "toolResult")


def crash(ctx: Any, call: Any, execute: Any) -> Any:
    execute(call)
    raise KeyError("a bug")


async def crash_later(ctx: Any, call: Any, execute: Any) -> Any:
    await execute(call)
    raise KeyError("a bug")


@pytest.mark.parametrize("hook", [tool_hook(crash), async_tool_hook(crash_later)], ids=["sync", "async"])
def test_a_tool_hooks_own_error_fails_the_attempt_and_a_once_tool_is_in_doubt(hook: Middleware) -> None:
    charged.clear()
    app = App([call("charge", a=1)], "ok", tools=TOOLS, middleware=[hook])
    run_id = app.start()
    app.execute_next()
    step = app.queue.enqueued.pop(0)
    with pytest.raises(KeyError):
        app.kit.execute(*step)
    app.kit.execute(*step)
    run = app.check(run_id)
    assert (run.status, [item["kind"] for item in run.pending], charged) == ("paused", ["in_doubt"], [1])


def test_an_outlived_hook_is_cancelled_with_its_tool() -> None:
    cancelled = threading.Event()

    @tool(timeout=0.1)
    async def slow() -> str:
        """Wait."""
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()
        return ""

    app = App([call("slow")], "ok", tools=[slow], middleware=[tool_hook(lambda c, call, execute: execute())])
    run = app.check(app.run())
    assert "did not finish within 0.1 seconds" in text(run, "toolResult")
    assert cancelled.wait(5)


# -- around steps, declaration, other ways to execute


def test_around_step_of_middleware_is_entered_within_the_kits() -> None:
    order: list[str] = []

    def named(name: str) -> Any:
        @contextmanager
        def around(step: Any) -> Any:
            order.append(f"{name} in")
            yield
            order.append(f"{name} out")

        return around

    class Around(Middleware):
        def around_step(self, step: Any) -> Any:
            return named("middleware")(step)

    agent = Agent("a", ScriptedModel(["hello"]))
    kit = AgentKit([agent], around_step=named("kit"), middleware=[Around()])
    assert kit.run("a", "go").status == "completed"
    assert order == ["kit in", "middleware in", "middleware out", "kit out"]


@pytest.mark.parametrize("wrong", [object(), Middleware, lambda: None])
def test_what_is_no_middleware_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="middleware is a list of Middleware objects"):
        AgentKit([Agent("a", ScriptedModel(["x"]))], middleware=[wrong])


def test_an_async_around_step_is_refused() -> None:
    class Wrong(Middleware):
        async def around_step(self, step: Any) -> Any:  # type: ignore[override]
            return None

    with pytest.raises(ConfigurationError, match="around_step of Wrong must be a plain function"):
        AgentKit([Agent("a", ScriptedModel(["x"]))], middleware=[Wrong()])


@pytest.mark.parametrize("how", ["run", "testing"])
def test_hooks_are_called_in_inline_runs_and_in_tests(how: str) -> None:
    seen: list[str] = []

    def of_tool(ctx: Any, call: Any, execute: Any) -> Any:
        seen.append(call.name)
        return execute()

    def of_model(ctx: Any, request: Any, call: Any) -> Any:
        seen.append("model")
        return call()

    agent = Agent("a", ScriptedModel([[call("waiting", a=1)], "ok"]), tools=[waiting])
    kit = AgentKit([agent], middleware=[model_hook(of_model), tool_hook(of_tool)])
    if how == "run":
        assert kit.run("a", "go").status == "completed"
    else:
        with kit.testing():
            assert kit.start("a", "go").run.status == "completed"
    assert seen == ["model", "waiting", "model"]


def test_tools_know_their_step_and_turn() -> None:
    seen: list[tuple[int, int]] = []

    @tool
    def look(ctx: ToolContext) -> str:
        """Look."""
        seen.append((ctx.step, ctx.turn))
        return ""

    app = App([call("look")], "ok", tools=[look])
    app.run()
    assert seen == [(2, 1)]
