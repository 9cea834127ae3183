"""How agents are declared and changed: what is misspelled is refused, and a copy loses nothing."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from mypy import api

from agentkit import Agent, AgentKit, ConfigurationError, RetryPolicy, ScriptedModel, UnknownKeywordError, tool
from agentkit.agents import Limits
from agentkit.providers.protocol import ModelRequest

MODEL = ScriptedModel(["ok"])


@tool
def look(q: str) -> str:
    """Look."""
    return q


@tool
def find(q: str) -> str:
    """Find."""
    return q


@pytest.mark.parametrize(
    ("keyword", "hint"),
    [
        ("max_turn", "did you mean max_turns?"),
        ("maxTurns", "did you mean max_turns?"),
        ("tool", "did you mean tools?"),
        ("instruction", "did you mean instructions?"),
        ("option", "did you mean options?"),
        ("temprature", "did you mean temperature?"),
        ("reasoning_efort", "did you mean reasoning_effort?"),
        ("paralel_tool_calls", "did you mean parallel_tool_calls?"),
        ("output_type", "options={…}"),
        ("max_turn", "options={…}"),
        ("thinking", "options={…}"),
    ],
)
def test_an_unknown_keyword_is_refused_by_its_likely_name(keyword: str, hint: str) -> None:
    for make in (lambda: Agent("a", MODEL, **{keyword: 1}), lambda: Agent("a", MODEL).replace(**{keyword: 1})):
        with pytest.raises(UnknownKeywordError) as caught:
            make()
        assert f"Agent has no parameter {keyword}" in str(caught.value)
        assert hint in str(caught.value)
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, ConfigurationError)


def test_a_type_checker_sees_unknown_keywords_and_wrong_types(tmp_path: Path) -> None:
    source = tmp_path / "declared.py"
    source.write_text(
        "from agentkit import Agent\n"
        'Agent("a", "openai:m", max_turn=3)\n'
        'Agent("a", "openai:m", output_type=str)\n'
        'Agent("a", "openai:m", options=["seed"])\n'
        'Agent("a", "openai:m", "Be brief.", [], max_turns=3, temperature=0.5, options={"seed": 1})\n'
    )
    out, _, _ = api.run(["--config-file=", "--follow-imports=silent", f"--cache-dir={tmp_path}", str(source)])
    problems = re.findall(r"declared\.py:(\d): error: .*\[([a-z-]+)]", out)
    assert problems == [("2", "call-arg"), ("3", "call-arg"), ("4", "arg-type")], out


def test_the_signature_shows_every_parameter() -> None:
    parameters = inspect.signature(Agent).parameters
    assert list(parameters)[:4] == ["name", "model", "instructions", "tools"]
    assert not {p.kind for p in parameters.values()} & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}


EVERYTHING: dict[str, Any] = {
    "name": "a",
    "model": ["openai:l", "openai:m"],
    "instructions": {"type": "text", "text": "Be brief.", "cache": "short"},
    "tools": (look,),
    "cache": "auto",
    "models": ("openai:n",),
    "parallel_tool_calls": False,
    "max_turns": 3,
    "max_tokens": 1000,
    "max_cost": 0.5,
    "timeout": 60,
    "retry": RetryPolicy(attempts=2),
    "transform_context": lambda messages, run: messages,
    "queue": "slow",
    "priority": 7,
    "temperature": 0.2,
    "top_p": 0.9,
    "stop": ["END"],
    "tool_choice": "required",
    "reset_tool_choice": False,
    "reasoning_effort": "low",
    "max_output_tokens": 100,
    "connect_timeout": 2.0,
    "read_timeout": 9.0,
    "options": {"seed": 1},
    "base_url": "https://llm.test/v1",
    "api_key": lambda: "sk-1",
    "headers": {"x-team": "a"},
}


def parameters_of(agent: Agent) -> dict[str, Any]:
    return {name: getattr(agent, name) for name in inspect.signature(Agent).parameters}


@pytest.mark.parametrize("change", [Agent.replace, dataclasses.replace])
@pytest.mark.parametrize(
    ("name", "value"),
    [("name", "b"), ("tools", (find,)), ("max_turns", 7), ("instructions", "x"), ("options", {}), ("temperature", 1)],
)
def test_a_changed_copy_keeps_all_else(change: Any, name: str, value: Any) -> None:
    agent = Agent(**EVERYTHING)
    assert parameters_of(agent) == EVERYTHING
    changed = change(agent, **{name: value})
    assert parameters_of(changed) == {**EVERYTHING, name: value}
    assert parameters_of(agent) == EVERYTHING
    most = value if name == "max_turns" else 3
    assert changed.limits == Limits(max_turns=most, max_tokens=1000, max_cost=0.5, timeout=60)


def test_copies_are_equal_and_keep_their_limits() -> None:
    agent = Agent("a", "openai:m", max_turns=3, options={"seed": 1})
    for copied in (agent.replace(), copy.copy(agent), copy.deepcopy(agent)):
        assert copied == agent
        assert copied.limits.max_turns == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "no spaces"},
        {"tools": [look, look]},
        {"tools": [print]},
        {"models": "openai:m"},
        {"retry": 3},
        {"cache": "long"},
        {"instructions": {"type": "image"}},
        {"options": 5},
        {"options": {"temperature": 1}},
    ],
)
def test_a_copy_is_checked_as_a_new_agent_is(wrong: dict[str, Any]) -> None:
    agent = Agent("a", MODEL, temperature=0.5)
    with pytest.raises(ConfigurationError):
        agent.replace(**wrong)
    with pytest.raises(ConfigurationError):
        dataclasses.replace(agent, **wrong)


def test_common_options_and_those_of_the_vendor_reach_the_provider_together() -> None:
    requests: list[ModelRequest] = []

    class Model(ScriptedModel):
        def stream(self, request: ModelRequest, cancel: Any) -> Any:
            requests.append(request)
            return super().stream(request, cancel)

    agent = Agent("a", Model(["ok"]), temperature=0, stop="END", read_timeout=5, options={"seed": 1, "top_k": None})
    assert AgentKit([agent]).run("a", "hi").status == "completed"
    assert requests[0].options == {"seed": 1, "top_k": None, "temperature": 0, "stop": "END", "read_timeout": 5}


def test_options_are_copied_and_not_in_the_repr() -> None:
    options = {"mcp_servers": [{"authorization_token": "secret-1"}]}
    agent = Agent("a", MODEL, options=options)
    options["more"] = []
    assert list(agent.options) == ["mcp_servers"]
    assert "secret-1" not in repr(agent)
