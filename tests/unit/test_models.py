"""What is known of models."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit.core.struct import to_json
from agentkit.errors import ConfigurationError
from agentkit.providers import models
from agentkit.providers.models import Capabilities, capabilities, register_model


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_registered", {})


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("anthropic:claude-haiku-4-5", Capabilities(True, True, True, 200_000)),
        ("anthropic:claude-3-5-haiku-latest", Capabilities(True, True, False, 200_000)),
        ("anthropic:claude-3-7-sonnet-20250219", Capabilities(True, True, True, 200_000)),
        ("anthropic:claude-sonnet-4-5-20250929", Capabilities(True, True, True, 200_000)),
        ("anthropic:claude-opus-4-20250514", Capabilities(True, True, True, 200_000)),
        ("anthropic:claude-sonnet-4-6", Capabilities(True, True, True, 1_000_000)),
        ("anthropic:claude-opus-4-6", Capabilities(True, True, True, 1_000_000)),
        ("anthropic:anthropic/claude-opus-4.8", Capabilities(True, True, True, 1_000_000)),
        ("anthropic:claude-opus-5-5", Capabilities(True, True, True, 1_000_000)),
        ("anthropic:claude-fable-5-1", Capabilities(True, True, True, 1_000_000)),
        ("anthropic:claude-mythos-preview", Capabilities(True, True, True, 1_000_000)),
        ("bedrock:us.anthropic.claude-haiku-4-5-20251001-v1:0", Capabilities(True, True, True, 200_000)),
        ("bedrock:anthropic.claude-opus-4-7-v1:0", Capabilities(True, True, True, 1_000_000)),
        ("vertex:claude-haiku-4-5@20251001", Capabilities(True, True, True, 200_000)),
        ("vertex:claude-opus-4-7", Capabilities(True, True, True, 1_000_000)),
        ("openai:gpt-4o-mini", Capabilities(True, True, False, 128_000)),
        ("openai-responses:gpt-4o-mini", Capabilities(True, True, False, 128_000)),
        ("openai-completions:gpt-4o-mini", Capabilities(True, True, False, 128_000)),
        ("ollama:llama3", Capabilities(False, False, False, None)),
        ("ollama:qwen3:4b", Capabilities(True, False, True, None)),
        ("ollama:qwen2.5vl:7b", Capabilities(True, True, False, None)),
        ("google:gemini-2.5-pro", Capabilities(True, True, True, 1_048_576)),
        ("google:gemini-3.8-flash", Capabilities(True, True, True, 1_048_576)),
        ("vertex:gemini-3.8-flash", Capabilities(True, True, True, 1_048_576)),
        ("google:gemini-2.0-flash", Capabilities(True, True, False, 1_048_576)),
        ("google:gemma-3-27b-it", Capabilities(False, True, False, 131_072)),
        ("google:gemini-2.5-flash-image", Capabilities(False, True, True, 1_000_000)),
        ("google:gemma-4-31b-it", Capabilities(True, True, True, 262_144)),
        ("scripted:echo", Capabilities()),
        ("acme:large", Capabilities()),
    ],
)
def test_a_model_can_do_what_the_table_says_or_what_most_can(name: str, known: Capabilities) -> None:
    assert capabilities(name) == known


def test_the_context_window_comes_from_the_price_list_where_the_table_has_none() -> None:
    for name in ("openai:gpt-5.1", "openai-responses:gpt-5.1", "openai-completions:gpt-5.1"):
        assert (capabilities(name).context_window or 0) > 100_000


def test_what_is_registered_goes_before_what_is_known() -> None:
    register_model("openai:gpt-4o", reasoning=True)
    register_model("openai:gpt-4o", context_window=1000)
    assert capabilities("openai:gpt-4o") == Capabilities(True, True, True, 1000)
    assert to_json(capabilities("openai:gpt-4o")) == {
        "tools": True,
        "images": True,
        "reasoning": True,
        "contextWindow": 1000,
    }


def test_a_model_of_openai_is_registered_for_both_of_its_wires_or_for_one() -> None:
    register_model("openai:my-own", images=True, context_window=1000)
    register_model("openai-responses:my-own", reasoning=True)
    assert capabilities("openai-completions:my-own") == Capabilities(True, True, False, 1000)
    assert capabilities("openai-responses:my-own") == Capabilities(True, True, True, 1000)


@pytest.mark.parametrize(
    ("name", "known", "message"),
    [
        ("large", {}, "provider:model"),
        ("acme:", {}, "provider:model"),
        ("acme:large", {"smell": True}, "smell"),
        ("acme:large", {"tools": "yes"}, "tools"),
        ("acme:large", {"context_window": 0}, "context_window"),
        ("acme:large", {"context_window": True}, "context_window"),
    ],
)
def test_a_wrong_registration_is_a_clear_error(name: str, known: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        register_model(name, **known)
