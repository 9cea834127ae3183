"""Hooks around the steps, model calls and tool calls of runs: the base of all, and what comes with agentkit.

docs/how-to/hooks.md shows each.
"""

from agentkit.hooks.base import AroundStep, Middleware, ModelCall, RunInfo, StepInfo, ToolCall
from agentkit.hooks.budget import BudgetUse, BudgetWarning
from agentkit.hooks.call_log import CallLog
from agentkit.hooks.redaction import Redaction
from agentkit.hooks.tool_cache import CacheStore, MemoryCache, ToolCache

__all__ = [
    "AroundStep",
    "BudgetUse",
    "BudgetWarning",
    "CacheStore",
    "CallLog",
    "MemoryCache",
    "Middleware",
    "ModelCall",
    "Redaction",
    "RunInfo",
    "StepInfo",
    "ToolCache",
    "ToolCall",
]
