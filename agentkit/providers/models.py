"""What models can do, for those who choose one: people, the pages that show agents, and the check of what is sent.

A table of what is certain. What is not known of a model is left to its vendor, whose refusal is better informed, and an
application that knows more than the table registers it.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec

from agentkit.errors import ConfigurationError
from agentkit.providers.names import vendor_of
from agentkit.providers.prices import context_window

__all__ = ["Capabilities", "Input", "capabilities", "register_model", "takes"]

Input = Literal["images", "image_urls", "documents", "audio"]
"""A kind of content besides text, by the name of its capability."""


class Capabilities(msgspec.Struct, frozen=True, rename="camel"):
    """What a model can do, as `GET /agents` shows it. The defaults are for a model that nothing is known of.

    `tools`: it calls them. `images`: it sees them. `reasoning`: it thinks before it answers, where asked to.
    `context_window`: tokens of a whole request; None: unknown. `documents`: it reads PDFs. `audio`: it hears it.
    `image_urls`: its vendor fetches images that are named by URL.
    """

    tools: bool = True
    images: bool = False
    reasoning: bool = False
    context_window: int | None = None
    documents: bool = False
    audio: bool = False
    image_urls: bool = False


_Known = Mapping[str, Any]
"""Capabilities by name, as far as they are known."""

_TEXT: _Known = {"images": False, "image_urls": False, "documents": False, "audio": False}
_SEES: _Known = {"images": True}
_READS: _Known = {"images": True, "image_urls": True, "documents": True, "audio": False}
_ALL_MEDIA: _Known = {"images": True, "image_urls": True, "documents": True, "audio": True}
_HEARS: _Known = {**_TEXT, "audio": True}
_THINKS: _Known = {"reasoning": True}
_NO_TOOLS: _Known = {"tools": False}


def _window(tokens: int) -> _Known:
    return {"context_window": tokens}


_CLAUDE: tuple[tuple[str, _Known], ...] = (
    ("claude-3-7-*", {**_READS, **_THINKS, **_window(200_000)}),
    ("claude-3-*", {**_READS, **_window(200_000)}),
    *(
        (pattern, {**_READS, **_THINKS, **_window(1_000_000)})
        for pattern in (
            "claude-fable*",
            "claude-mythos*",
            "claude-*-4[-.][6-9]*",
            "claude-haiku-[5-9]*",
            "claude-opus-[5-9]*",
            "claude-sonnet-[5-9]*",
        )
    ),
    ("claude-*", {**_READS, **_THINKS, **_window(200_000)}),
)
"""Claude's models, with whatever comes before their names: clouds and gateways put regions and vendors there."""

_GEMINI: tuple[tuple[str, _Known], ...] = (
    ("gemini-*-image*", {**_SEES, **_THINKS, **_NO_TOOLS, "audio": False}),
    ("gemini-2.0-*", {**_ALL_MEDIA, "image_urls": False, **_window(1_048_576)}),
    ("gemini-*", {**_ALL_MEDIA, **_THINKS, **_window(1_048_576)}),
    ("gemma-3-*", {**_SEES, **_NO_TOOLS, "audio": False, **_window(131_072)}),
    ("gemma-*", {**_SEES, **_THINKS}),
)

_CLOUDS = ("bedrock", "vertex")
"""They take Claude's images as data alone (platform.claude.com/docs/en/build-with-claude/vision)."""

# The first pattern that fits counts.
_KNOWN: tuple[tuple[str, _Known], ...] = (
    *((f"anthropic:*{pattern}", known) for pattern, known in _CLAUDE),
    *((f"{cloud}:*{pattern}", {**known, "image_urls": False}) for cloud in _CLOUDS for pattern, known in _CLAUDE),
    ("bedrock:*", {"image_urls": False}),
    *((f"{vendor}:{pattern}", known) for vendor in ("google", "vertex") for pattern, known in _GEMINI),
    ("openai:gpt-3.5*", {**_TEXT, **_window(16_385)}),
    ("openai:gpt-audio*", _HEARS),
    ("openai:gpt-4o*-audio*", {**_HEARS, **_window(128_000)}),
    ("openai:gpt-4.1*", {**_READS, **_window(1_047_576)}),
    ("openai:gpt-4o*", {**_READS, **_window(128_000)}),
    ("openai:gpt-5*-chat*", _READS),
    ("openai:gpt-5*", {**_READS, **_THINKS}),
    ("openai:gpt-6*", {**_READS, **_THINKS}),
    ("openai:gpt-oss*", {**_TEXT, **_THINKS}),
    ("openai:o1-mini*", {**_TEXT, **_THINKS, **_NO_TOOLS, **_window(128_000)}),
    ("openai:o3-mini*", {**_TEXT, **_THINKS, **_window(200_000)}),
    ("openai:o[134]*", {**_READS, **_THINKS, **_window(200_000)}),
    ("ollama:deepseek-r1*", {**_TEXT, **_THINKS}),
    ("ollama:gemma3*", {**_SEES, **_NO_TOOLS}),
    ("ollama:gpt-oss*", {**_TEXT, **_THINKS, **_window(131_072)}),
    ("ollama:llama3", {**_TEXT, **_NO_TOOLS}),
    ("ollama:llama3:*", {**_TEXT, **_NO_TOOLS}),
    ("ollama:llava*", {**_SEES, **_NO_TOOLS}),
    ("ollama:llama*-vision*", {**_SEES, **_NO_TOOLS}),
    ("ollama:qwen*vl*", _SEES),
    ("ollama:qwen3*", _THINKS),
    ("deepseek:deepseek-chat*", {}),
    ("deepseek:*", _THINKS),
)

_OF_WIRES: Mapping[str, _Known] = {
    "anthropic-messages": {"audio": False},
    "ollama-chat": {"image_urls": False, "documents": False, "audio": False},
}
"""What there is no place for in the requests of a wire, whichever the model."""

_registered: dict[str, _Known] = {}


def register_model(name: str, **known: Any) -> None:
    """Set what the model `provider:model` can do, in this process, in front of what is known of it.

    `known`: `tools`, `images`, `image_urls`, `documents`, `audio`, `reasoning` (booleans) and `context_window` (tokens,
    None for unknown); what is left out stays as it is known. Raises ConfigurationError for a name that is not
    `provider:model`, for another capability, and for a wrong type.
    """
    provider, colon, model = name.partition(":")
    if not (provider and colon and model):
        raise ConfigurationError(f"the model {name!r} must be named provider:model")
    for key, value in known.items():
        if key not in Capabilities.__struct_fields__:
            raise ConfigurationError(f"{key!r} is no capability: there are {', '.join(Capabilities.__struct_fields__)}")
        if key == "context_window":
            fits = value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0)
        else:
            fits = isinstance(value, bool)
        if not fits:
            raise ConfigurationError(f"{name}: {key} cannot be {value!r}")
    _registered[name] = {**_known(name), **known}


def capabilities(name: str) -> Capabilities:
    """Return what is known of `provider:model`: registered, in the table, or the defaults."""
    known = dict(_known(name))
    if "context_window" not in known:
        provider, _, model = name.partition(":")
        known["context_window"] = context_window(provider, model)
    return Capabilities(**known)


def takes(name: str, api: str, kind: Input) -> bool | None:
    """Return whether `provider:model` takes a kind of content on the wire `api`; None where that is not known."""
    fact: bool | None = {**_OF_WIRES.get(api, {}), **_known(name)}.get(kind)
    return fact


def _known(name: str) -> _Known:
    provider, _, model = name.partition(":")
    known_name = f"{vendor_of(provider)}:{model}"
    for registered in (name, known_name):
        if registered in _registered:
            return _registered[registered]
    return next((known for pattern, known in _KNOWN if fnmatchcase(known_name, pattern)), {})
