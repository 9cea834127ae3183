"""The model options of Anthropic's Messages API, from those of an agent. Pure."""

from __future__ import annotations

import re
from typing import Any

from agentkit.core.messages import Json
from agentkit.errors import ProviderError
from agentkit.providers.protocol import ModelRequest

__all__ = ["vendor_options"]

_OUR_OPTIONS = ("betas", "compat", "connect_timeout", "max_pauses", "read_timeout")
_RENAMED = {"max_output_tokens": "max_tokens", "stop": "stop_sequences"}
_DEFAULT_MAX_TOKENS = [
    ("claude-3-(opus|sonnet|haiku)", 4096),
    ("claude-([a-z]+-([0-9]|latest|preview)|3-7)", 32_000),
    ("", 8192),
]
"""Default `max_tokens`, which the vendor demands, by what a model's name has in it."""
_ADAPTIVE = re.compile(r"claude-(fable|mythos|[a-z]+-(latest|4[-.]([6-9]|\d\d)(?!\d)|[5-9]|\d\d))")
"""Models that think by effort, from 4.6 on. The others think by a budget of tokens, which these soon refuse."""
_SILENT = re.compile(r"claude-(fable|mythos|[a-z]+-(latest|4[-.]([7-9]|\d\d)(?!\d)|[5-9]|\d\d))")
"""Models that show nothing of their thinking unless asked to, from 4.7 on."""
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 24_576, "max": 24_576}
_MIN_BUDGET = 1024


def vendor_options(request: ModelRequest) -> Json:
    """Return the request's options as the vendor spells them, `max_tokens` always among them.

    Raises ProviderError for an effort that is none, and whatever options of a wrong shape raise.
    """
    options = {
        _RENAMED.get(name, name): value
        for name, value in request.options.items()
        if name not in _OUR_OPTIONS and value is not None
    }
    if isinstance(options.get("stop_sequences"), str):
        options["stop_sequences"] = [options["stop_sequences"]]
    if "tool_choice" in options:
        options["tool_choice"] = _tool_choice(options["tool_choice"])
    if options.pop("parallel_tool_calls", True) is False:
        choice = options.get("tool_choice") or {"type": "auto"}
        if choice.get("type") != "none":  # which takes no other keys
            options["tool_choice"] = {"disable_parallel_tool_use": True, **choice}
    effort = options.pop("reasoning_effort", None)
    _set_thinking(request.model, None if effort == "none" else effort, options)
    default = next(tokens for pattern, tokens in _DEFAULT_MAX_TOKENS if re.search(pattern, request.model))
    budget = (options.get("thinking") or {}).get("budget_tokens") or 0
    options.setdefault("max_tokens", default if budget < default else budget + 8192)  # the budget is part of it
    return options


def _set_thinking(model: str, effort: str | None, options: Json) -> None:
    """Have `model` think as hard as asked. What the application says under the vendor's own names comes first.

    A budget of tokens is no more than half of `max_tokens`.
    """
    thinking: Json = {**(options.get("thinking") or {})}
    if _ADAPTIVE.search(model):
        if effort is not None:
            level = "low" if effort == "minimal" else effort
            options["output_config"] = {"effort": level, **(options.get("output_config") or {})}
        if thinking or effort is not None:
            thinking = {"type": "adaptive", **thinking}
        if thinking.get("type") == "adaptive" and effort is not None and _SILENT.search(model):
            thinking.setdefault("display", "summarized")
    elif effort is not None and thinking.get("type", "enabled") == "enabled" and "budget_tokens" not in thinking:
        budget = _budget(effort, options.get("max_tokens"))
        thinking = {"type": "enabled", "budget_tokens": budget, **thinking} if budget >= _MIN_BUDGET else {}
    if thinking:
        options["thinking"] = thinking
    else:
        options.pop("thinking", None)


def _budget(effort: str, max_tokens: int | None) -> int:
    if effort not in _BUDGETS:
        raise ProviderError(f"reasoning_effort must be one of none, {', '.join(_BUDGETS)}, not {effort!r}")
    return _BUDGETS[effort] if max_tokens is None else min(_BUDGETS[effort], max_tokens // 2)


def _tool_choice(choice: Any) -> Any:
    """Convert OpenAI's spelling: "auto", "none", "required", or a function by name. Anthropic's stays as it is."""
    if isinstance(choice, str):
        return {"type": "any" if choice == "required" else choice}
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "tool", "name": choice["function"]["name"]}
    return choice
