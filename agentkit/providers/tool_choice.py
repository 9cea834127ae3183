"""What the model option `tool_choice` says of the calls after the first, in the vendors' spellings. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["without_forced_call"]

_FREE = ("auto", "none")
_GOOGLES = ("toolConfig", "tool_config")


def without_forced_call(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options without a `tool_choice` that makes the model call tools.

    What else is said with it stays: which tools are allowed, and that it makes one call at a time.
    """
    for name in _GOOGLES:
        if isinstance(config := options.get(name), Mapping):
            options = {**options, name: _without_forced_mode(config)}
    choice = options.get("tool_choice")
    if isinstance(choice, str) and choice not in _FREE:
        return {name: value for name, value in options.items() if name != "tool_choice"}
    if not isinstance(choice, Mapping) or choice.get("type") in _FREE:
        return options
    if choice.get("type") == "allowed_tools":  # OpenAI: in chat completions its mode is one level below
        nested = choice.get("allowed_tools")
        if isinstance(nested, Mapping):
            return {**options, "tool_choice": {**choice, "allowed_tools": {**nested, "mode": "auto"}}}
        return {**options, "tool_choice": {**choice, "mode": "auto"}}
    single = choice.get("disable_parallel_tool_use")  # Anthropic
    kept = {} if single is None else {"tool_choice": {"type": "auto", "disable_parallel_tool_use": single}}
    return {name: value for name, value in options.items() if name != "tool_choice"} | kept


def _without_forced_mode(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return Google's configuration of tools, which may be spelled in two ways, without the mode that forces a call."""
    for name in ("functionCallingConfig", "function_calling_config"):
        calling = config.get(name)
        if isinstance(calling, Mapping) and str(calling.get("mode")).upper() == "ANY":
            has_names = any(calling.get(key) for key in ("allowedFunctionNames", "allowed_function_names"))
            return {**config, name: {**calling, "mode": "VALIDATED" if has_names else "AUTO"}}
    return config
