"""How servers that speak OpenAI's chat completions differ in what they accept.

A table of facts about vendors, found by the host of the base URL. What they answer needs no table: the decoder takes
all of it. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

__all__ = ["OPENAI", "Compat", "compat_for"]


@dataclass(frozen=True, slots=True)
class Compat:
    """What a server wants. The defaults are what an unknown server most likely takes.

    Take `dataclasses.replace(compat_for(url), …)` to change one thing of a known vendor.
    """

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the agent's `max_output_tokens` is called."""

    reasoning_field: Literal["reasoning_content", "reasoning"] | None = None
    """Where the model's own thinking is sent back to it; None: it is not."""

    reasoning_required: bool = False
    """Messages with tool calls must have the `reasoning_field`, also where there was no thinking."""

    reasoning_effort: Literal["reasoning_effort", "reasoning.effort"] | None = "reasoning_effort"
    """Where the agent's `reasoning_effort` goes; None: the server knows no such thing and it stays behind."""

    strict_tools: bool = False
    """Send `strict` with tools whose schema allows it: all properties required, and no others."""

    stream_usage: bool = True
    """Ask for usage with `stream_options`; False where usage comes unasked or the key is refused."""

    tool_call_id_pattern: str = r"[\x21-\x7e]{1,40}"
    """A regular expression for the whole id. OpenAI refuses more than 40 characters."""

    tool_result_name: bool = False
    """Tool messages carry the tool's `name`."""

    tool_result_images: bool = False
    """Tool messages may carry images; otherwise they follow in a user message."""

    cache_hints: bool = True
    """The server knows, or ignores, OpenAI's `prompt_cache_key` and `prompt_cache_retention`."""

    key_header: Literal["authorization", "api-key"] = "authorization"
    """Where the key goes: as a bearer token, or as it is (Azure)."""


OPENAI = Compat(max_tokens_field="max_completion_tokens")
_PLAIN = Compat(cache_hints=False)
_MISTRAL = Compat(
    stream_usage=False,  # comes unasked, and unknown keys are refused
    tool_call_id_pattern="[a-zA-Z0-9]{9}",
    tool_result_name=True,
    cache_hints=False,
)

_VENDORS = {
    "api.openai.com": OPENAI,
    "openai.azure.com": replace(OPENAI, key_header="api-key"),
    "cognitiveservices.azure.com": replace(OPENAI, key_header="api-key"),
    "services.ai.azure.com": replace(OPENAI, key_header="api-key"),
    "api.mistral.ai": _MISTRAL,
    "codestral.mistral.ai": _MISTRAL,
    "api.groq.com": replace(OPENAI, cache_hints=False),
    "api.deepseek.com": Compat(reasoning_field="reasoning_content", reasoning_required=True, cache_hints=False),
    "openrouter.ai": Compat(reasoning_field="reasoning", reasoning_effort="reasoning.effort"),
    "api.x.ai": replace(OPENAI, cache_hints=False),
    "api.cerebras.ai": replace(OPENAI, cache_hints=False),
    "api.together.xyz": _PLAIN,
    "api.fireworks.ai": _PLAIN,
    "api.perplexity.ai": _PLAIN,
    "api.moonshot.ai": Compat(reasoning_field="reasoning_content", tool_call_id_pattern=r"[\x21-\x7e]{1,64}"),
}


def compat_for(url: str) -> Compat:
    """Return what the server at this base URL wants: a known vendor's, by its host or a domain above it."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    labels = host.lower().split(".")
    domains = (".".join(labels[at:]) for at in range(len(labels)))
    return next((_VENDORS[domain] for domain in domains if domain in _VENDORS), Compat())
