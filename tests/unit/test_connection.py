"""What an agent or a Model may declare of its calls; what a server receives of it is in tests/integration."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit import Agent, AgentKit, ConfigurationError, Model, ScriptedModel, UnknownKeywordError


async def asynchronous() -> str:
    return "sk-1"


class Asynchronous:
    async def __call__(self) -> str:
        return "sk-1"


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "localhost:8000"},
        {"base_url": "ftp://x.test"},
        {"base_url": "http://"},
        {"base_url": "http://[::1"},
        {"base_url": 5},
        {"api_key": "sk 1"},
        {"api_key": "sk-ключ"},
        {"api_key": 5},
        {"api_key": asynchronous},
        {"api_key": Asynchronous()},
        {"headers": [("a", "b")]},
        {"headers": asynchronous},
        {"headers": {"a b": "c"}},
        {"headers": {"": "c"}},
        {"headers": {"x-a": "b\r\nx-b: c"}},
        {"headers": {"x-a": "ü"}},
        {"headers": {"x-a": None}},
        {"headers": {"Content-Type": "text/plain"}},
        {"headers": {"accept-encoding": "br"}},
    ],
)
def test_what_no_request_can_carry_is_refused_where_it_is_declared(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="agent 'a': "):
        Agent("a", "openai:m", **wrong)
    with pytest.raises(ConfigurationError, match="Model 'openai:m': "):
        Model("openai:m", **wrong)


@pytest.mark.parametrize("declared", [{"base_url": "http://x.test"}, {"api_key": "sk-1"}, {"headers": {"x-a": "b"}}])
@pytest.mark.parametrize(
    "models",
    [
        {"model": ["openai:m", "anthropic:n"]},
        {"model": "openai:m", "models": ["ollama:n"]},
        {"model": ["openai:m", ScriptedModel(["x"])]},
        {"model": Model("openai:m")},
    ],
)
def test_a_key_of_one_vendor_never_reaches_another(declared: dict[str, Any], models: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"give each its own with Model\(…\)"):
        Agent("a", **models, **declared)
    Agent("a", **models)


def test_models_are_checked_as_agents_are() -> None:
    with pytest.raises(UnknownKeywordError, match="did you mean base_url"):
        Model("openai:m", base_uri="http://x.test")  # type: ignore[call-arg]
    for wrong in ({"name": 5}, {"name": "openai:m", "options": ["seed"]}):
        with pytest.raises(ConfigurationError):
            Model(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="provider:model"):
        AgentKit([Agent("a", Model("m"))])
    with pytest.raises(ConfigurationError, match="no model provider"):
        AgentKit([Agent("a", "openai:m", models=[Model("nobody:m")])])


@pytest.mark.parametrize(
    ("model", "problem"), [([], "has no model"), (5, "is no model"), (["openai:m", None], "is no")]
)
def test_what_is_no_model_is_refused(model: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        Agent("a", model)


def test_a_provider_object_of_a_list_can_be_bound_by_its_name() -> None:
    first, second = ScriptedModel(["one"], name="first"), ScriptedModel(["two"], name="second")
    kit = AgentKit([Agent("a", [first, second])])
    assert kit.bind("a", "scripted:second").provider is second
