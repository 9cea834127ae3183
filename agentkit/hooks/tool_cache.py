"""Cache of identical tool calls: a tool that only looks things up need not do so twice."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

import msgspec

from agentkit.core.forks import ForkSafeLock
from agentkit.core.struct import canonical
from agentkit.errors import ConfigurationError
from agentkit.hooks.base import Middleware, StepInfo, ToolCall
from agentkit.results import ToolResult
from agentkit.tools import Tool

__all__ = ["CacheStore", "MemoryCache", "ToolCache"]

log = logging.getLogger(__name__)


class CacheStore(Protocol):
    """Keeps what a ToolCache remembers, say in Redis, for all processes. Any thread calls it."""

    def get(self, key: str) -> bytes | None:
        """Return what is kept under a key (under 200 ASCII characters); None where nothing is, or its time is over."""
        ...

    def set(self, key: str, value: bytes, seconds: float) -> None:
        """Keep a value for so many seconds."""
        ...


class MemoryCache:
    """A CacheStore of one process. `entries`: how many are kept; the one that was used longest ago goes first."""

    def __init__(self, entries: int = 1000) -> None:
        self._most = entries
        self._lock = ForkSafeLock()
        self._values: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    def get(self, key: str) -> bytes | None:
        """Return what is kept under a key."""
        with self._lock:
            until, value = self._values.get(key, (-math.inf, b""))
            if until <= time.monotonic():
                self._values.pop(key, None)
                return None
            self._values.move_to_end(key)
            return value

    def set(self, key: str, value: bytes, seconds: float) -> None:
        """Keep a value."""
        with self._lock:
            self._values[key] = (time.monotonic() + seconds, value)
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                self._values.popitem(last=False)


class ToolCache(Middleware):
    """Answers a call of one of `tools` by the result of the same call before, within `seconds`.

    The same: of the same tool, with equal arguments, in the same run (`scope="run"`), of the same owner's runs
    ("owner"; where nobody is named, in the same run) or of any ("all"). Error results are not kept, nor results over
    `max_bytes`. `store`: a CacheStore for all processes; by default each has 1,000 entries of its own. A store that
    fails is logged, and the tool executed.

    Raises ConfigurationError for a tool that must not be answered so: one with effects="once", or a decision.
    """

    def __init__(
        self,
        tools: Iterable[Tool],
        *,
        seconds: float = 300.0,
        scope: Literal["run", "owner", "all"] = "run",
        store: CacheStore | None = None,
        max_bytes: int = 100_000,
    ) -> None:
        self._tools: frozenset[str] = frozenset(_checked(item) for item in tools)
        if scope not in ("run", "owner", "all"):
            raise ConfigurationError(f"scope is 'run', 'owner' or 'all', not {scope!r:.100}")
        self._seconds = seconds
        self._scope = scope
        self._store: CacheStore = store or MemoryCache()
        self._max_bytes = max_bytes

    def around_tool_call(self, ctx: StepInfo, call: ToolCall, execute: Callable[..., Any]) -> Any:
        """Answer by what is kept, or execute, and keep the result."""
        if call.name not in self._tools:
            return execute(call)
        key = self._key(ctx, call)
        kept = self._get(ctx, key)
        if kept is not None:
            return kept
        result: ToolResult = execute(call)
        if not result.is_error:
            self._set(ctx, key, result)
        return result

    def _key(self, ctx: StepInfo, call: ToolCall) -> str:
        whose: list[str | None] = ["all"]
        if self._scope != "all":
            whose = ["run", ctx.run_id] if self._scope == "run" or ctx.owner is None else ["owner", ctx.owner]
        text = canonical([whose, ctx.agent, call.name, call.arguments])
        return f"agentkit-tool:{hashlib.sha256(text.encode()).hexdigest()}"

    def _get(self, ctx: StepInfo, key: str) -> ToolResult | None:
        try:
            kept = self._store.get(key)
            return None if kept is None else ToolResult(*msgspec.json.decode(kept, type=tuple[list[Any], bool, Any]))
        except Exception:
            log.warning("run %s: a result could not be looked up", ctx.run_id, exc_info=True, extra=ctx.log_fields())
            return None

    def _set(self, ctx: StepInfo, key: str, result: ToolResult) -> None:
        try:
            value = msgspec.json.encode((result.content, result.is_error, result.details))
            if len(value) <= self._max_bytes:
                self._store.set(key, value, self._seconds)
        except Exception:
            log.warning("run %s: a result could not be kept", ctx.run_id, exc_info=True, extra=ctx.log_fields())


def _checked(item: Any) -> str:
    """Return the name of a tool whose calls may be answered by earlier ones. Raises ConfigurationError."""
    if not isinstance(item, Tool):
        raise ConfigurationError(f"ToolCache takes tools, not {item!r:.100}")
    if item.effects == "once":
        raise ConfigurationError(f"tool {item.name!r} has effects='once': its calls cannot be answered from a cache")
    if item.decision is not None:
        raise ConfigurationError(f"tool {item.name!r} asks for a decision on each call, which no cache may answer")
    return item.name
