"""What models can do, for those who choose one: people, and the pages that show agents.

It describes, and forbids nothing: a vendor's refusal is better informed than a table. An application that knows more
than the table registers it.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import msgspec
from msgspec.structs import replace

from agentkit.errors import ConfigurationError
from agentkit.providers.names import vendor_of
from agentkit.providers.prices import context_window

__all__ = ["Capabilities", "capabilities", "register_model"]


class Capabilities(msgspec.Struct, frozen=True, rename="camel"):
    """What a model can do, as `GET /agents` shows it. The defaults are for a model that nothing is known of.

    `tools`: it calls them. `images`: it sees them. `reasoning`: it thinks before it answers, where asked to.
    `context_window`: tokens of a whole request; None: unknown.
    """

    tools: bool = True
    images: bool = False
    reasoning: bool = False
    context_window: int | None = None


_SEES = Capabilities(images=True)
_THINKS = Capabilities(reasoning=True)
_SEES_AND_THINKS = Capabilities(images=True, reasoning=True)
_TALKS = Capabilities(tools=False)

_CLAUDE = (
    ("claude-3-7-*", replace(_SEES_AND_THINKS, context_window=200_000)),
    ("claude-3-*", replace(_SEES, context_window=200_000)),
    *(
        (pattern, replace(_SEES_AND_THINKS, context_window=1_000_000))
        for pattern in (
            "claude-fable*",
            "claude-mythos*",
            "claude-*-4[-.][6-9]*",
            "claude-haiku-[5-9]*",
            "claude-opus-[5-9]*",
            "claude-sonnet-[5-9]*",
        )
    ),
    ("claude-*", replace(_SEES_AND_THINKS, context_window=200_000)),
)
"""Claude's models, with whatever comes before their names: clouds and gateways put regions and vendors there."""

_GEMINI = (
    ("gemini-*-image*", replace(_SEES_AND_THINKS, tools=False)),
    ("gemini-2.0-*", replace(_SEES, context_window=1_048_576)),
    ("gemini-*", replace(_SEES_AND_THINKS, context_window=1_048_576)),
    ("gemma-3-*", replace(_SEES, tools=False, context_window=131_072)),
    ("gemma-*", _SEES_AND_THINKS),
)

# The first pattern that fits counts.
_KNOWN: tuple[tuple[str, Capabilities], ...] = (
    *((f"{vendor}:*{pattern}", can) for vendor in ("anthropic", "bedrock", "vertex") for pattern, can in _CLAUDE),
    *((f"{vendor}:{pattern}", can) for vendor in ("google", "vertex") for pattern, can in _GEMINI),
    ("openai:gpt-3.5*", replace(Capabilities(), context_window=16_385)),
    ("openai:gpt-4.1*", replace(_SEES, context_window=1_047_576)),
    ("openai:gpt-4o*", replace(_SEES, context_window=128_000)),
    ("openai:gpt-5*-chat*", _SEES),
    ("openai:gpt-5*", _SEES_AND_THINKS),
    ("openai:gpt-6*", _SEES_AND_THINKS),
    ("openai:gpt-oss*", _THINKS),
    ("openai:o1-mini*", replace(_THINKS, tools=False, context_window=128_000)),
    ("openai:o3-mini*", replace(_THINKS, context_window=200_000)),
    ("openai:o[134]*", replace(_SEES_AND_THINKS, context_window=200_000)),
    ("ollama:deepseek-r1*", _THINKS),
    ("ollama:gemma3*", replace(_SEES, tools=False)),
    ("ollama:gpt-oss*", replace(_THINKS, context_window=131_072)),
    ("ollama:llama3", _TALKS),
    ("ollama:llama3:*", _TALKS),
    ("ollama:llava*", replace(_SEES, tools=False)),
    ("ollama:llama*-vision*", replace(_SEES, tools=False)),
    ("ollama:qwen*vl*", _SEES),
    ("ollama:qwen3*", _THINKS),
    ("deepseek:deepseek-chat*", Capabilities()),
    ("deepseek:*", _THINKS),
)

_registered: dict[str, Capabilities] = {}


def register_model(name: str, **known: Any) -> None:
    """Set what the model `provider:model` can do, in this process, in front of what is known of it.

    `known`: `tools`, `images`, `reasoning` (booleans) and `context_window` (tokens, None for unknown); what is left out
    stays as it is known. Raises ConfigurationError for a name that is not `provider:model`, for another capability, and
    for a wrong type.
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
    _registered[name] = replace(capabilities(name), **known)


def capabilities(name: str) -> Capabilities:
    """Return what is known of `provider:model`: registered, in the table, or the defaults."""
    provider, _, model = name.partition(":")
    known_name = f"{vendor_of(provider)}:{model}"
    for registered in (name, known_name):
        if registered in _registered:
            return _registered[registered]
    known = next((can for pattern, can in _KNOWN if fnmatchcase(known_name, pattern)), Capabilities())
    if known.context_window is None:
        known = replace(known, context_window=context_window(provider, model))
    return known
