"""What the model option `tool_choice` says of the calls after the first, in the vendors' spellings. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["without_forced_call"]

_FREE = ("auto", "none")


def without_forced_call(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options without a `tool_choice` that makes the model call tools.

    What else is said with it stays: which tools are allowed, and that it makes one call at a time.
    """
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
