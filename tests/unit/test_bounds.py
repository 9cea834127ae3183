"""The bounds of what models and tools may cost: results, calls, and the runs of sub-agents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentkit import (
    Agent,
    AgentKit,
    PayloadTooLargeError,
    Run,
    ScriptedModel,
    Settings,
    ToolContext,
    ToolResult,
    tool,
)
from agentkit.core.bounds import Bounds
from agentkit.core.messages import Usage
from agentkit.providers.protocol import Finish, ModelRequest, Part, TextDelta, ToolCallDelta
from agentkit.web import create_app
from tests.event_rules import check_log
from tests.turns import call

BOUND = 1000
executed: list[str] = []


@pytest.fixture(autouse=True)
def _none_executed() -> None:
    executed.clear()


def kit_of(turns: list[Any], *tools: Any, settings: Settings | None = None, **options: Any) -> AgentKit:
    agent = Agent("a", ScriptedModel(turns), "", list(tools), **options)
    return AgentKit([agent], settings=settings or Settings(max_result_bytes=BOUND))


def checked(kit: AgentKit, run: Run) -> Run:
    run = kit.get(run.id)
    check_log(list(kit.handle(run.id).events(until_pause=not run.ended)), run.messages)
    return run


def results_of(run: Run) -> list[Any]:
    return [message for message in run.messages or [] if message["role"] == "toolResult"]


def text_of(result: Any) -> str:
    return "".join(block["text"] for block in result["content"])


# -- results

RETURNS: dict[str, Callable[[], Any]] = {
    "text": lambda: "x" * (BOUND + 1),
    "text of few characters but many bytes": lambda: "日" * (BOUND // 2),
    "text that JSON escapes": lambda: "\x01" * (BOUND // 2),
    "json": lambda: [1] * BOUND,
    "blocks": lambda: [{"type": "text", "text": "x" * 600}] * 2,
    "an image": lambda: [{"type": "image", "data": "QUJD" * 300, "mimeType": "image/png"}],
    "details": lambda: ToolResult("short", details={"rows": ["x"] * 500}),
}


@pytest.mark.parametrize("kind", list(RETURNS))
@pytest.mark.parametrize("effects", ["idempotent", "once"])
def test_a_result_beyond_the_bound_is_an_error_that_names_both_and_the_tool_is_executed_once(
    kind: str, effects: Any
) -> None:
    @tool(effects=effects)
    def big() -> Any:
        executed.append("big")
        return RETURNS[kind]()

    kit = kit_of([[call("big")], "done"], big)
    run = checked(kit, kit.run("a", "go"))
    [result] = results_of(run)
    assert run.status == "completed"
    assert result["isError"]
    assert "'big' was executed" in text_of(result)
    assert f"over the bound of {BOUND} bytes (AGENTKIT_MAX_RESULT_BYTES)" in text_of(result)
    assert "details" not in result
    assert executed == ["big"]
    assert len(str(list(kit.handle(run.id).events()))) < 20 * BOUND


def test_an_async_tools_result_and_an_errors_text_are_bounded_too() -> None:
    @tool
    async def big() -> str:
        return "x" * 2 * BOUND

    @tool
    def failing() -> str:
        from agentkit import ToolError

        raise ToolError("x" * 2 * BOUND)

    kit = kit_of([[call("big"), call("failing", "call-2")], "done"], big, failing)
    run = checked(kit, kit.run("a", "go"))
    assert [result["isError"] and len(text_of(result)) < 300 for result in results_of(run)] == [True, True]


def test_a_result_within_the_bound_stays_as_it_is() -> None:
    @tool
    def fits() -> ToolResult:
        return ToolResult("x" * 800, details={"n": 1})

    kit = kit_of([[call("fits")], "done"], fits)
    [result] = results_of(checked(kit, kit.run("a", "go")))
    assert text_of(result) == "x" * 800
    assert result["details"] == {"n": 1}


def test_a_result_of_150_megabytes_is_left_out_with_the_default_bound() -> None:
    @tool
    def huge() -> str:
        return "x" * 150_000_000

    kit = kit_of([[call("huge")], "done"], huge, settings=Settings())
    [result] = results_of(checked(kit, kit.run("a", "go")))
    assert "150000000 bytes is over the bound of 10000000" in text_of(result)


def test_an_update_beyond_the_bound_fails_in_the_tool_and_is_not_shown() -> None:
    @tool
    def chatty(ctx: ToolContext) -> str:
        ctx.update({"done": 1})
        ctx.update("x" * 2 * BOUND)
        return "never"

    kit = kit_of([[call("chatty")], "done"], chatty)
    run = checked(kit, kit.run("a", "go"))
    [result] = results_of(run)
    assert "an update of the tool 'chatty' of 2002 bytes is over the bound of 1000 bytes" in text_of(result)
    updates = [e for e in kit.handle(run.id).events() if e["type"] == "tool_execution_update"]
    assert [e["partialResult"] for e in updates] == [{"done": 1}]


OK = {"type": "object", "properties": {"ok": {}}, "required": ["ok"]}

ANSWERS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "a client's result": ({"runs": "client"}, {"result": "x" * BOUND}, {"result": "fits"}),
    "a client's details": (
        {"runs": "client"},
        {"result": {"content": "short", "details": "x" * BOUND}},
        {"result": {"content": "short", "details": "y"}},
    ),
    "a decision": ({"decision": OK}, {"decision": {"ok": "x" * BOUND}}, {"decision": {"ok": 1}}),
    "edited arguments": (
        {"decision": OK},
        {"decision": {"ok": 1}, "input": {"text": "x" * BOUND}},
        {"decision": {"ok": 1}, "input": {"text": "fits"}},
    ),
    "a reason": ({"decision": OK}, {"reject": "x" * BOUND}, {"reject": "no"}),
}


@pytest.mark.parametrize("kind", list(ANSWERS))
def test_an_answer_beyond_the_bound_is_refused_and_consumes_nothing(kind: str) -> None:
    options, too_large, fits = ANSWERS[kind]

    @tool(**options)
    def ask(text: str = "") -> str:
        """Ask."""
        return "done"

    kit = kit_of([[call("ask")], "done"], ask)
    run = kit.run("a", "go")
    with pytest.raises(PayloadTooLargeError, match=r"over the bound of 1000 \(AGENTKIT_MAX_RESULT_BYTES\)"):
        kit.resume(run.id, **too_large)
    assert kit.get(run.id).pending == run.pending
    assert kit.resume(run.id, **fits).run.status == "completed"


def test_over_http_an_answer_beyond_the_bound_is_413() -> None:
    @tool(runs="client")
    def ask() -> str:
        """Ask."""
        return ""

    kit = kit_of([[call("ask")], "done"], ask)
    run = kit.run("a", "go")
    client = create_app(kit).test_client()
    reply = client.post(f"/runs/{run.id}/resume", json={"result": "x" * BOUND})
    assert (reply.status_code, reply.get_json()["code"]) == (413, "payload_too_large")
    assert kit.get(run.id).pending == run.pending


def test_a_sub_agents_answer_beyond_the_bound_is_an_error_result_with_its_usage() -> None:
    helper = Agent("helper", ScriptedModel(["x" * 2 * BOUND], name="helper"))
    kit = kit_of([[call("helper", input="help")], "done"], helper.as_tool())
    run = checked(kit, kit.run("a", "go"))
    [result] = results_of(run)
    assert result["isError"]
    assert "the agent helper has answered, but its answer of 20" in text_of(result)
    assert run.usage["output"] > 0


# -- calls


@tool
def note(n: int = 0) -> str:
    executed.append(str(n))
    return "noted"


def test_calls_of_one_answer_beyond_the_bound_get_an_error_result_and_the_run_goes_on() -> None:
    turn = [call("note", f"c{n}", n=n) for n in range(30)]
    kit = kit_of([turn, [call("note", "later", n=99)], "done"], note, settings=Settings(max_calls_per_turn=10))
    run = checked(kit, kit.run("a", "go"))
    results = results_of(run)
    assert run.status == "completed"
    assert sorted(executed, key=int) == [*map(str, range(10)), "99"]
    assert [result["toolCallId"] for result in results] == [f"c{n}" for n in range(30)] + ["later"]
    assert [result["isError"] for result in results] == [False] * 10 + [True] * 20 + [False]
    assert "at most 10 tool calls are carried out (AGENTKIT_MAX_CALLS_PER_TURN)" in text_of(results[10])


def test_the_bounds_of_an_application_are_its_settings() -> None:
    assert Settings().bounds == Bounds()
    bounds = Settings(max_calls_per_turn=7, max_child_runs=3, model_silence_seconds=1.5).bounds
    assert (bounds.max_calls_per_turn, bounds.max_child_runs, bounds.model_silence_seconds) == (7, 3, 1.5)
    assert Bounds().max_calls_per_turn == 500
    assert Bounds().max_child_runs == 100


# -- sub-agents


class Spender:
    """A model that uses `tokens` tokens and `dollars` dollars a call, and calls `note` until it has had `turns`."""

    name = api = "spender"

    def __init__(self, model: str, tokens: int = 10, dollars: float = 0.0, turns: int = 1) -> None:
        self.model = model
        self._usage = Usage.of(output=tokens)
        self._usage.cost.output = self._usage.cost.total = dollars
        self._turns = turns

    def stream(self, request: ModelRequest, cancel: Any) -> Any:
        parts: list[Part] = [TextDelta("spent")]
        if sum(type(message).__name__ == "AssistantMessage" for message in request.messages) + 1 < self._turns:
            parts.append(ToolCallDelta(0, "n", "note", "{}"))
        yield from [*parts, Finish("stop", self._usage, None)]


def team(
    children: int, spender: Spender, *, own: dict[str, Any] | None = None, bounds: Settings | None = None, **limits: Any
) -> tuple[AgentKit, Run, list[Run]]:
    """Run a boss that asks a helper `children` times in one turn; its limits are `limits`, the helper's `own`."""
    helper = Agent("helper", spender, "", [note], **(own or {}))
    turn = [call("helper", f"h{n}", input="help") for n in range(children)]
    boss = Agent("boss", ScriptedModel([turn, "done"], name="boss"), "", [helper.as_tool()], **limits)
    kit = AgentKit([boss], settings=bounds)
    run = checked(kit, kit.run("boss", "go"))
    updates = [e for e in kit.handle(run.id).events() if e["type"] == "tool_execution_update"]
    return kit, run, [kit.get(e["partialResult"]["runId"]) for e in updates]


def test_a_sub_agents_run_has_the_turns_that_its_parent_has_left() -> None:
    _, run, [child] = team(1, Spender("s", turns=50), max_turns=5)
    assert child.turn == 4
    assert child.error is not None
    assert child.error["code"] == "limit_turns"
    assert "4 turns" in text_of(results_of(run)[0])


def test_a_sub_agents_own_lower_limit_holds() -> None:
    _, _, [child] = team(1, Spender("s", turns=50), own={"max_turns": 2}, max_turns=5)
    assert child.turn == 2


def test_sub_agents_share_the_tokens_that_their_parent_has_left() -> None:
    _, run, children = team(4, Spender("s", tokens=100, turns=50), max_tokens=2000)
    assert [child.error and child.error["code"] for child in children] == ["limit_tokens"] * 4
    assert all(child.usage["totalTokens"] <= 600 for child in children)  # a quarter, and the answer that was one more
    assert run.usage["totalTokens"] <= 2000 + 4 * 100


def test_sub_agents_share_the_dollars_that_their_parent_has_left() -> None:
    _, run, children = team(4, Spender("s", dollars=0.01, turns=50), max_cost=0.4)
    assert [child.error and child.error["code"] for child in children] == ["limit_cost"] * 4
    assert run.usage["cost"]["total"] <= 0.4 + 4 * 0.01 + 1e-9


def test_a_sub_agents_run_has_the_time_that_its_parent_has_left() -> None:
    @tool
    async def sleepy() -> str:
        import asyncio

        await asyncio.sleep(30)
        return "late"

    helper = Agent("helper", ScriptedModel([[call("sleepy")], "late"], name="helper"), "", [sleepy])
    turn = [call("helper", input="help")]
    boss = Agent("boss", ScriptedModel([turn, "done"], name="boss"), "", [helper.as_tool()], timeout=0.5)
    kit = AgentKit([boss])
    run = checked(kit, kit.run("boss", "go"))
    assert run.error is not None
    assert run.error["code"] == "limit_time"


def test_a_child_gets_no_run_where_its_share_would_be_nothing() -> None:
    _, run, children = team(1, Spender("s"), max_turns=1)
    assert children == []
    assert "too little left for the sub-agents of this turn (maxTurns)" in text_of(results_of(run)[0])


def test_limits_of_the_start_count_for_sub_agents_too() -> None:
    helper = Agent("helper", Spender("s", tokens=100, turns=50), "", [note])
    boss = Agent("boss", ScriptedModel([[call("helper", input="help")], "done"], name="boss"), "", [helper.as_tool()])
    kit = AgentKit([boss])
    run = kit.run("boss", "go", limits={"maxTokens": 1000})
    assert run.usage["totalTokens"] <= 1100


def test_sub_agents_of_sub_agents_share_what_is_left_to_those() -> None:
    leaf = Agent("leaf", Spender("leaf", tokens=100, turns=50), "", [note])
    asks = [call("leaf", f"l{n}", input="help") for n in range(2)]
    middle = Agent("middle", ScriptedModel([asks, "done"], name="middle"), "", [leaf.as_tool()])
    turn = [call("middle", f"m{n}", input="help") for n in range(2)]
    boss = Agent("boss", ScriptedModel([turn, "done"], name="boss"), "", [middle.as_tool()], max_tokens=4000)
    kit = AgentKit([boss])
    run = kit.run("boss", "go")
    assert run.usage["totalTokens"] <= 4000 + 4 * 100


def test_a_run_starts_a_bounded_number_of_sub_agents_runs() -> None:
    helper = Agent("helper", Spender("s"))
    turns: list[Any] = [[call("helper", f"{t}-{n}", input="help") for n in range(3)] for t in range(3)]
    boss = Agent("boss", ScriptedModel([*turns, "done"], name="boss"), "", [helper.as_tool()])
    kit = AgentKit([boss], settings=Settings(max_child_runs=4))
    run = checked(kit, kit.run("boss", "go"))
    results = results_of(run)
    assert run.status == "completed"
    assert [result["isError"] for result in results] == [False] * 4 + [True] * 5
    assert "at most 4 runs of sub-agents (AGENTKIT_MAX_CHILD_RUNS)" in text_of(results[4])
    assert len(list(kit.handle(run.id).events())) > 0
