"""When a tool is forced, and how many calls the model may make, as vendors receive it."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit import Agent, AgentKit, tool
from agentkit.testing.wire_server import Reply, Request, WireServer
from tests import anthropic_server, google_server, openai_server

CALL = {"type": "toolCall", "name": "search", "arguments": {"q": "x"}}
NAMED = {"type": "function", "function": {"name": "search"}}


@tool
def search(q: str) -> str:
    """Search."""
    return "nothing"


def openai_vendor(request: Request) -> Reply:
    """Call a tool whenever it is demanded, as vendors do."""
    choice = request.body.get("tool_choice", "auto")
    forced = choice in ("required", NAMED) or (isinstance(choice, dict) and "required" in str(choice))
    return Reply(openai_server.frames([CALL] if forced else "done"))


def anthropic_vendor(request: Request) -> Reply:
    forced = request.body.get("tool_choice", {}).get("type") in ("any", "tool")
    return Reply(anthropic_server.frames([CALL] if forced else "done"))


def google_vendor(request: Request) -> Reply:
    forced = request.body.get("toolConfig", {}).get("functionCallingConfig", {}).get("mode") == "ANY"
    return Reply(google_server.frames([CALL] if forced else "done"))


VENDORS = {"openai": openai_vendor, "anthropic": anthropic_vendor, "google": google_vendor}


def choices(vendor: str, messages: int = 1, **options: Any) -> tuple[str, list[Any]]:
    """Run an agent, then go on with its conversation, up to `messages`. Return the end, and the `tool_choice` sent."""
    with WireServer(VENDORS[vendor]) as server:
        agent = Agent("a", f"{vendor}:m", tools=[search], base_url=server.url, api_key="sk-1", max_turns=5, **options)
        kit, history = AgentKit([agent]), []
        for _ in range(messages):
            run = kit.run("a", messages=[*history, {"role": "user", "content": "hi"}])
            history = run.messages
    spelled = "toolConfig" if vendor == "google" else "tool_choice"
    return run.status, [request.body.get(spelled) for request in server.requests]


@pytest.mark.parametrize("options", [{"tool_choice": "required"}, {"options": {"tool_choice": "required"}}])
def test_a_tool_is_forced_in_the_first_call_after_each_user_message(options: dict[str, Any]) -> None:
    assert choices("openai", 2, **options) == ("completed", ["required", None, "required", None])
    assert choices("anthropic", 2, **options) == ("completed", [{"type": "any"}, None, {"type": "any"}, None])
    forced = {"functionCallingConfig": {"mode": "ANY"}}
    assert choices("google", 2, **options) == ("completed", [forced, None, forced, None])


def test_a_tool_that_is_named_is_forced_once() -> None:
    assert choices("openai", tool_choice=NAMED) == ("completed", [NAMED, None])
    by_name = {"type": "tool", "name": "search"}
    for choice in (NAMED, by_name):
        assert choices("anthropic", tool_choice=choice) == ("completed", [by_name, None])


def test_an_agent_may_force_a_tool_in_every_call() -> None:
    assert choices("openai", tool_choice="required", reset_tool_choice=False) == ("failed", ["required"] * 5)
    assert choices("anthropic", tool_choice="required", reset_tool_choice=False) == ("failed", [{"type": "any"}] * 5)


@pytest.mark.parametrize("nested", [True, False])
def test_the_tools_that_are_allowed_stay_allowed(nested: bool) -> None:
    def allowed(mode: str) -> dict[str, Any]:
        fields = {"mode": mode, "tools": [NAMED]}
        return {"type": "allowed_tools", **({"allowed_tools": fields} if nested else fields)}

    assert choices("openai", tool_choice=allowed("required")) == ("completed", [allowed("required"), allowed("auto")])


@pytest.mark.parametrize("option", ["toolConfig", "tool_config"])
@pytest.mark.parametrize(("names", "freed"), [({}, "AUTO"), ({"allowedFunctionNames": ["search"]}, "VALIDATED")])
def test_googles_own_configuration_forces_a_tool_once(option: str, names: dict[str, Any], freed: str) -> None:
    configs = [{"functionCallingConfig": {"mode": mode, **names}} for mode in ("ANY", freed)]
    assert choices("google", options={option: configs[0]}) == ("completed", configs)


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_what_forces_nothing_always_holds(choice: str) -> None:
    with WireServer(lambda _: Reply(openai_server.frames([CALL]))) as server:
        agent = Agent("a", "openai:m", tools=[search], base_url=server.url, tool_choice=choice, max_turns=3)
        AgentKit([agent]).run("a", "hi")
    assert [request.body["tool_choice"] for request in server.requests] == [choice] * 3


def test_one_call_a_turn_is_asked_for_in_each_vendors_words() -> None:
    single = {"parallel_tool_calls": False}
    with WireServer(openai_vendor) as server:
        agent = Agent("a", "openai:m", tools=[search], base_url=server.url, tool_choice="required", options=single)
        AgentKit([agent]).run("a", "hi")
    assert [request.body["parallel_tool_calls"] for request in server.requests] == [False, False]

    sent = [{"type": "any", "disable_parallel_tool_use": True}, {"type": "auto", "disable_parallel_tool_use": True}]
    assert choices("anthropic", tool_choice="required", options=single) == ("completed", sent)
    own = {"type": "any", "disable_parallel_tool_use": True}
    assert choices("anthropic", tool_choice=own) == ("completed", sent)


def test_one_call_a_turn_says_nothing_of_how_calls_are_executed() -> None:
    agent = Agent("a", "openai:m", options={"parallel_tool_calls": False})
    assert agent.parallel_tool_calls
    assert "parallel_tool_calls" not in agent.replace(options={}, parallel_tool_calls=False).model_options
