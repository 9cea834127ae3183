"""What is known of models."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit.core.struct import to_json
from agentkit.errors import ConfigurationError
from agentkit.providers import models
from agentkit.providers.models import Capabilities, Input, capabilities, register_model, takes
from agentkit.providers.prices import context_window

READS = {"documents": True, "image_urls": True}
DATA_ALONE = {"documents": True}
ALL_MEDIA = {"documents": True, "audio": True, "image_urls": True}


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_registered", {})


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("anthropic:claude-haiku-4-5", Capabilities(True, True, True, 200_000, **READS)),
        ("anthropic:claude-3-5-haiku-latest", Capabilities(True, True, False, 200_000, **READS)),
        ("anthropic:claude-3-7-sonnet-20250219", Capabilities(True, True, True, 200_000, **READS)),
        ("anthropic:claude-sonnet-4-5-20250929", Capabilities(True, True, True, 200_000, **READS)),
        ("anthropic:claude-opus-4-20250514", Capabilities(True, True, True, 200_000, **READS)),
        ("anthropic:claude-sonnet-4-6", Capabilities(True, True, True, 1_000_000, **READS)),
        ("anthropic:claude-opus-4-6", Capabilities(True, True, True, 1_000_000, **READS)),
        ("anthropic:anthropic/claude-opus-4.8", Capabilities(True, True, True, 1_000_000, **READS)),
        ("anthropic:claude-opus-5-5", Capabilities(True, True, True, 1_000_000, **READS)),
        ("anthropic:claude-fable-5-1", Capabilities(True, True, True, 1_000_000, **READS)),
        ("anthropic:claude-mythos-preview", Capabilities(True, True, True, 1_000_000, **READS)),
        ("bedrock:us.anthropic.claude-haiku-4-5-20251001-v1:0", Capabilities(True, True, True, 200_000, **DATA_ALONE)),
        ("bedrock:anthropic.claude-opus-4-7-v1:0", Capabilities(True, True, True, 1_000_000, **DATA_ALONE)),
        ("vertex:claude-haiku-4-5@20251001", Capabilities(True, True, True, 200_000, **DATA_ALONE)),
        ("vertex:claude-opus-4-7", Capabilities(True, True, True, 1_000_000, **DATA_ALONE)),
        ("openai:gpt-4o-mini", Capabilities(True, True, False, 128_000, **READS)),
        ("openai-responses:gpt-4o-mini", Capabilities(True, True, False, 128_000, **READS)),
        (
            "openai:gpt-audio-1.5",
            Capabilities(True, False, False, context_window("openai", "gpt-audio-1.5"), audio=True),
        ),
        ("openai-completions:gpt-4o-audio-preview", Capabilities(True, False, False, 128_000, audio=True)),
        ("openai:gpt-6-nova", Capabilities(True, True, True, context_window("openai", "gpt-6-nova"), **READS)),
        ("openai:o3-mini", Capabilities(True, False, True, 200_000)),
        ("openai-completions:gpt-4o-mini", Capabilities(True, True, False, 128_000, **READS)),
        ("ollama:llama3", Capabilities(False, False, False, None)),
        ("ollama:qwen3:4b", Capabilities(True, False, True, None)),
        ("ollama:qwen2.5vl:7b", Capabilities(True, True, False, None)),
        ("google:gemini-2.5-pro", Capabilities(True, True, True, 1_048_576, **ALL_MEDIA)),
        ("google:gemini-3.8-flash", Capabilities(True, True, True, 1_048_576, **ALL_MEDIA)),
        ("google:gemini-2.0-flash", Capabilities(True, True, False, 1_048_576, documents=True, audio=True)),
        ("vertex:gemini-3.8-flash", Capabilities(True, True, True, 1_048_576, **ALL_MEDIA)),
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


@pytest.mark.parametrize(
    ("name", "at_least", "below"),
    [
        *(
            (f"{provider}:{prefix}claude-{model}", 1_000_000, 1_100_000)
            for provider, prefix in (("anthropic", ""), ("bedrock", "eu.anthropic."), ("vertex", ""))
            for model in ("opus-4-6", "opus-4-8", "sonnet-4-6", "opus-5", "sonnet-5-5", "haiku-5-5", "fable-5-1")
        ),
        ("anthropic:claude-opus-4-5", 200_000, 200_001),
        ("anthropic:claude-haiku-4-5", 200_000, 200_001),
        *((f"openai:gpt-{model}", 1_000_000, 1_100_000) for model in ("5.5", "5.6-terra", "6-astra", "6.1-sol")),
        ("openai:gpt-5.4-mini", 400_000, 400_001),
        ("deepseek:deepseek-v4-pro", 1_000_000, 1_100_000),
        ("google:gemini-4-argon", 1_048_576, 1_048_577),
    ],
)
def test_the_models_of_2026_are_shown_with_their_windows(name: str, at_least: int, below: int) -> None:
    assert at_least <= (capabilities(name).context_window or 0) < below


def test_what_is_registered_goes_before_what_is_known() -> None:
    register_model("openai:gpt-4o", reasoning=True)
    register_model("openai:gpt-4o", context_window=1000)
    assert capabilities("openai:gpt-4o") == Capabilities(True, True, True, 1000, **READS)
    assert to_json(capabilities("openai:gpt-4o")) == {
        "tools": True,
        "images": True,
        "reasoning": True,
        "contextWindow": 1000,
        "documents": True,
        "audio": False,
        "imageUrls": True,
    }


@pytest.mark.parametrize("kind", ["images", "image_urls", "documents", "audio"])
def test_each_kind_of_content_can_be_registered_alone(kind: Input) -> None:
    register_model("acme:large", **{kind: True})
    register_model("acme:small", **{kind: False})
    kinds: tuple[Input, ...] = ("images", "image_urls", "documents", "audio")
    assert [takes("acme:large", "openai-completions", each) for each in kinds] == [
        True if each == kind else None for each in kinds
    ]
    assert takes("acme:small", "openai-completions", kind) is False
    assert to_json(capabilities("acme:large")) == {**to_json(Capabilities()), camel(kind): True}


def camel(name: str) -> str:
    return "imageUrls" if name == "image_urls" else name


@pytest.mark.parametrize(
    ("name", "api", "taken"),
    [
        ("anthropic:claude-sonnet-5", "anthropic-messages", (True, True, True, False)),
        ("anthropic:kimi-k3", "anthropic-messages", (None, None, None, False)),
        ("bedrock:anthropic.claude-sonnet-5", "anthropic-messages", (True, False, True, False)),
        ("vertex:claude-sonnet-5", "anthropic-messages", (True, False, True, False)),
        ("google:gemini-3.8-flash", "google-generate-content", (True, True, True, True)),
        ("google:gemini-2.0-flash", "google-generate-content", (True, False, True, True)),
        ("vertex:gemini-3.8-flash", "google-generate-content", (True, True, True, True)),
        (
            "bedrock:arn:aws:bedrock:eu-west-1:1:application-inference-profile/x",
            "anthropic-messages",
            (None, False, None, False),
        ),
        ("openai:gpt-5.1", "openai-responses", (True, True, True, False)),
        ("openai-completions:gpt-audio", "openai-completions", (False, False, False, True)),
        ("openai:gpt-oss-120b", "openai-completions", (False, False, False, False)),
        ("openai:some-gateway/model", "openai-completions", (None, None, None, None)),
        ("ollama:llava", "ollama-chat", (True, False, False, False)),
        ("ollama:qwen3.5:9b", "ollama-chat", (None, False, False, False)),
        ("ollama:gpt-oss:20b", "ollama-chat", (False, False, False, False)),
        ("scripted:script", "scripted", (None, None, None, None)),
    ],
)
def test_what_a_model_takes_is_known_or_not_known(name: str, api: str, taken: tuple[bool | None, ...]) -> None:
    kinds: tuple[Input, ...] = ("images", "image_urls", "documents", "audio")
    assert tuple(takes(name, api, kind) for kind in kinds) == taken


def test_to_register_one_thing_says_nothing_of_the_others() -> None:
    register_model("acme:large", context_window=64_000, reasoning=True)
    assert takes("acme:large", "openai-completions", "images") is None
    assert capabilities("acme:large") == Capabilities(reasoning=True, context_window=64_000)


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
        ("acme:large", {"documents": "pdf"}, "documents"),
        ("acme:large", {"audio": None}, "audio"),
        ("acme:large", {"image_urls": 1}, "image_urls"),
        ("acme:large", {"context_window": 0}, "context_window"),
        ("acme:large", {"context_window": True}, "context_window"),
    ],
)
def test_a_wrong_registration_is_a_clear_error(name: str, known: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        register_model(name, **known)
