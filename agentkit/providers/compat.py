"""How servers that speak OpenAI's chat completions differ in what they accept.

A table of facts about vendors, found by the host of the base URL. What they answer needs no table: the decoder takes
all of it. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from agentkit.errors import ConfigurationError

__all__ = ["OPENAI", "Compat", "changed", "compat_for"]


@dataclass(frozen=True, slots=True)
class Compat:
    """What a server wants. The defaults are what an unknown server most likely takes.

    Take `dataclasses.replace(compat_for(url), …)` to change one thing of a known vendor.
    """

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    """What the agent's `max_output_tokens` is called; None: as the model wants it, which counts behind proxies."""

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

    tool_call_id_pattern: str = r"[\x21-\x7e]+"
    """A regular expression for the whole id. OpenAI refuses more than 40 characters; LiteLLM puts signatures there."""

    tool_result_name: bool = False
    """Tool messages carry the tool's `name`."""

    tool_result_images: bool = False
    """Tool messages may carry images; otherwise they follow in a user message."""

    cache_hints: bool = False
    """The server knows OpenAI's `prompt_cache_key` and `prompt_cache_retention`; some refuse unknown keys."""

    key_header: Literal["authorization", "api-key"] = "authorization"
    """Where the key goes: as a bearer token, or as it is (Azure)."""

    echo: bool = True
    """Send back what the server itself put beside messages and tool calls: `reasoning_details`, `extra_content`."""

    thought_signatures: bool = False
    """The server wants signed tool calls (Gemini 3 and later): those of others get the one that skips the check."""

    alternating_roles: bool = False
    """User and assistant must take turns, the user first, as strict chat templates want it: neighbours are joined."""

    assistant_after_tool: bool = False
    """No user message may follow a tool message: the assistant says a word between. So it is with Mistral's models."""

    null_content: bool = True
    """Messages with tool calls alone may have the content null; otherwise it is an empty text."""


OPENAI = Compat(
    max_tokens_field="max_completion_tokens",
    tool_call_id_pattern=r"[\x21-\x7e]{1,40}",
    cache_hints=True,
    echo=False,
)
_AZURE = replace(OPENAI, key_header="api-key")
_OPENAI_LIKE = replace(OPENAI, cache_hints=False)
_THINKS_ALOUD = Compat(reasoning_field="reasoning_content")
_MISTRAL = Compat(
    max_tokens_field="max_tokens",
    stream_usage=False,  # comes unasked, and unknown keys are refused
    tool_call_id_pattern="[a-zA-Z0-9]{9}",
    tool_result_name=True,
    echo=False,
    alternating_roles=True,
    assistant_after_tool=True,
)
_DEEPSEEK = Compat(max_tokens_field="max_tokens", reasoning_field="reasoning_content", reasoning_required=True)
_MOONSHOT = replace(_DEEPSEEK, tool_call_id_pattern=r"[\x21-\x7e]{1,64}", cache_hints=True)
_GOOGLE = Compat(thought_signatures=True)
_MINIMAX = Compat(null_content=False)

_VENDORS = {
    "api.openai.com": OPENAI,
    "oai.helicone.ai": OPENAI,
    "models.github.ai": _OPENAI_LIKE,
    "models.inference.ai.azure.com": _OPENAI_LIKE,
    "openai.azure.com": _AZURE,
    "openai.azure.us": _AZURE,  # the clouds of governments
    "openai.azure.cn": _AZURE,
    "cognitiveservices.azure.com": _AZURE,
    "cognitiveservices.azure.us": _AZURE,
    "services.ai.azure.com": _AZURE,
    "services.ai.azure.us": _AZURE,
    "azure-api.net": _AZURE,  # API Management in front of it
    "azure-api.us": _AZURE,
    "api.mistral.ai": _MISTRAL,
    "codestral.mistral.ai": _MISTRAL,
    "api.groq.com": _OPENAI_LIKE,
    "api.x.ai": _OPENAI_LIKE,
    "api.cerebras.ai": _OPENAI_LIKE,
    "api.deepseek.com": _DEEPSEEK,
    "api.moonshot.ai": _MOONSHOT,
    "api.moonshot.cn": _MOONSHOT,
    "api.kimi.com": _MOONSHOT,
    "api.z.ai": _THINKS_ALOUD,
    "bigmodel.cn": _THINKS_ALOUD,
    "aliyuncs.com": _THINKS_ALOUD,  # DashScope: Qwen and others, in several regions
    "xiaomimimo.com": replace(_THINKS_ALOUD, reasoning_required=True),
    "minimax.io": _MINIMAX,
    "minimaxi.com": _MINIMAX,
    "minimax.chat": _MINIMAX,
    "generativelanguage.googleapis.com": _GOOGLE,
    "aiplatform.googleapis.com": _GOOGLE,
    "openrouter.ai": Compat(reasoning_field="reasoning", reasoning_effort="reasoning.effort", cache_hints=True),
    "api.perplexity.ai": Compat(max_tokens_field="max_tokens", echo=False, alternating_roles=True),
}
"""By host or a domain above it. Others take the defaults: Together, Fireworks, Cohere, NVIDIA, vLLM and so on."""


def compat_for(url: str) -> Compat:
    """Return what the server at this base URL wants: a known vendor's, by its host or a domain above it."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    labels = host.lower().removesuffix(".").split(".")
    labels[0] = (
        labels[0].rpartition("-")[2] if host.endswith(".googleapis.com") else labels[0]
    )  # Vertex: REGION-aiplatform
    domains = (".".join(labels[at:]) for at in range(len(labels)))
    return next((_VENDORS[domain] for domain in domains if domain in _VENDORS), Compat())


def changed(compat: Compat, changes: Any) -> Compat:
    """Return what a server wants, as the model option `compat` changes it: a Compat, or a mapping of its fields.

    Raises ConfigurationError for anything else.
    """
    if changes is None or isinstance(changes, Compat):
        return changes or compat
    try:
        return replace(compat, **changes)
    except TypeError as error:
        known = ", ".join(field.name for field in fields(Compat))
        message = f"the model option compat must be a Compat, or a mapping of its fields ({known}), not {changes!r}"
        raise ConfigurationError(message) from error
