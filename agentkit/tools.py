"""Tools: what a model may call, and the declaration that a function becomes one.

A `Tool` is a definition, checked in full when it is declared. It does not know runs, stores or
models: the loop asks it whether arguments and decisions are valid, hands it a `ToolContext`, and
turns what it returns into the content of a message by `to_result`.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import PurePath
from types import FrameType
from typing import Any, Literal, overload
from uuid import UUID

from agentkit.core import strictjson
from agentkit.core.messages import Block, Json, check_content, text
from agentkit.errors import ConfigurationError, InvalidRequestError, SchemaProblem
from agentkit.schema.check import Schema, compile_schema
from agentkit.schema.signatures import Signature, read_signature, summary_of

__all__ = ["Tool", "ToolContext", "ToolResult", "error_result", "invalid_arguments", "to_result", "tool"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a running tool may know and do; passed to functions that have a `ctx` parameter.

    `attempt` counts from 1. `idempotency_key` is the same in every attempt of one tool call.
    `decision` is None where the tool asks for none; `metadata` is the run's.
    """

    run_id: str
    tool_call_id: str
    idempotency_key: str
    attempt: int = 1
    decision: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    on_update: Callable[[Any], None] = field(default=lambda _partial: None, repr=False)
    is_aborted: Callable[[], bool] = field(default=lambda: False, repr=False)

    def update(self, partial: Any) -> None:
        """Show watchers a partial result (JSON); the model never sees it."""
        self.on_update(partial)

    @property
    def aborted(self) -> bool:
        """Whether the run was aborted: a long tool should stop then."""
        return self.is_aborted()


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool call came to. The model sees `content`; `details` is JSON for clients alone."""

    content: str | list[Block]
    is_error: bool = False
    details: Any = None


@dataclass(frozen=True, eq=False)
class Tool:
    """A declared tool; made by `tool`. Called like a function, it is the function.

    `parameters` and `decision` are JSON Schemas, `decision` None where nobody is asked. Times are
    seconds. `on_expire`: "reject", "abort", or the decision that then counts as given.
    """

    name: str
    label: str
    description: str
    parameters: Json
    decision: Json | None
    decision_timeout: float | None
    on_expire: Any
    runs: Literal["server", "client"]
    effects: Literal["idempotent", "once"]
    timeout: float | None
    cache: Literal["short", "long"] | None
    fn: Callable[..., Any] = field(repr=False)
    is_async: bool
    wants_ctx: bool
    wants_decision: bool
    _signature: Signature = field(repr=False)
    _input_schema: Schema = field(repr=False)
    _decision_schema: Schema | None = field(repr=False)
    agent: Any = field(default=None, repr=False)
    """The agent that answers in the function's place, in a run of its own (`Agent.as_tool`)."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)

    def input_problems(self, args: Any) -> list[SchemaProblem]:
        """What is wrong with a tool call's arguments; empty if nothing is."""
        return self._input_schema.problems(args)

    def decision_problems(self, value: Any) -> list[SchemaProblem]:
        """What is wrong with a decision; empty if nothing is, or if the tool asks for none."""
        return [] if self._decision_schema is None else self._decision_schema.problems(value)

    def call(self, args: Json, ctx: ToolContext) -> Any:
        """Execute with valid arguments; an async tool's coroutine is returned, not awaited.

        Raises whatever the function raises, and what a conversion raises (pydantic's own validators).
        """
        kwargs = self._signature.bind(args)
        if self.wants_ctx:
            kwargs["ctx"] = ctx
        if self.wants_decision:
            kwargs["decision"] = ctx.decision
        return self.fn(**kwargs)


# -- declaration -----------------------------------------------------------------------------------


@overload
def tool(fn: Callable[..., Any], /) -> Tool: ...


@overload
def tool(
    fn: None = None,
    /,
    *,
    name: str | None = None,
    label: str | None = None,
    description: str | None = None,
    parameters: Json | None = None,
    decision: Json | None = None,
    decision_timeout: float | None = None,
    on_expire: Any = "reject",
    runs: Literal["server", "client"] = "server",
    effects: Literal["idempotent", "once"] = "idempotent",
    timeout: float | None = None,
    cache: Literal["short", "long"] | None = None,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    label: str | None = None,
    description: str | None = None,
    parameters: Json | None = None,
    decision: Json | None = None,
    decision_timeout: float | None = None,
    on_expire: Any = "reject",
    runs: Literal["server", "client"] = "server",
    effects: Literal["idempotent", "once"] = "idempotent",
    timeout: float | None = None,
    cache: Literal["short", "long"] | None = None,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a function a tool: `@tool`, or `@tool(decision={…}, …)`.

    Name, description and parameters come from the function unless given. `decision` is the JSON
    Schema of what an outsider must say before the tool executes, within `decision_timeout` seconds,
    else `on_expire` applies. `runs="client"`: the client executes it, and the body is never called.
    `effects="once"`: never executed again by itself when a worker died in it. `timeout`: seconds
    that an execution may take. `cache`: prompt caches may end after this tool's definition. Raises
    ConfigurationError for whatever is declared wrongly.
    """
    declare = partial(
        _declare,
        caller=sys._getframe(1),
        name=name,
        label=label,
        description=description,
        parameters=parameters,
        decision=decision,
        decision_timeout=decision_timeout,
        on_expire=on_expire,
        runs=runs,
        effects=effects,
        timeout=timeout,
        cache=cache,
    )
    return declare if fn is None else declare(fn)


def _declare(
    fn: Callable[..., Any],
    *,
    caller: FrameType,
    name: str | None,
    label: str | None,
    description: str | None,
    parameters: Json | None,
    decision: Json | None,
    decision_timeout: float | None,
    on_expire: Any,
    runs: Literal["server", "client"],
    effects: Literal["idempotent", "once"],
    timeout: float | None,
    cache: Literal["short", "long"] | None,
) -> Tool:
    _check_function(fn)
    name = getattr(fn, "__name__", type(fn).__name__) if name is None else name
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"the tool name {name!r} must be 1 to 64 letters, digits, '_' or '-': give another by name="
        )
    _check_choice(name, "runs", runs, ("server", "client"))
    _check_choice(name, "effects", effects, ("idempotent", "once"))
    _check_choice(name, "cache", cache, (None, "short", "long"))
    _check_seconds(name, "timeout", timeout)
    _check_seconds(name, "decision_timeout", decision_timeout)
    asked = None if decision is None else compile_schema(decision, f"the decision of tool {name!r}")
    if decision_timeout is not None and asked is None and runs != "client":
        raise ConfigurationError(f"tool {name!r} has a decision_timeout but nothing to wait for: give it a decision=")
    on_expire = _check_on_expire(name, on_expire, asked)
    if parameters is not None:
        compile_schema(parameters, f"the parameters of tool {name!r}")
        if parameters.get("type", "object") != "object":
            raise ConfigurationError(f'the parameters of tool {name!r} must describe an object: say "type": "object"')
        parameters = {"type": "object", **parameters}
    signature = read_signature(fn, has_decision=asked is not None, parameters=parameters, caller=caller)
    return Tool(
        name=name,
        label=name if label is None else label,
        description=summary_of(fn) if description is None else description,
        parameters=signature.parameters,
        decision=decision,
        decision_timeout=decision_timeout,
        on_expire=on_expire,
        runs=runs,
        effects=effects,
        timeout=timeout,
        cache=cache,
        fn=fn,
        is_async=inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None)),  # noqa: B004
        wants_ctx=signature.wants_ctx,
        wants_decision=signature.wants_decision,
        _signature=signature,
        _input_schema=compile_schema(signature.parameters, f"the parameters of tool {name!r}"),
        _decision_schema=asked,
    )


def _check_function(fn: Any) -> None:
    if isinstance(fn, Tool):
        raise ConfigurationError(f"{fn.name!r} is a tool already: pass the function, {fn.name}.fn")
    if not callable(fn) or inspect.isclass(fn):
        raise ConfigurationError(f"a tool must be a function, not {fn!r}: its options are keyword arguments")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise ConfigurationError(f"{fn.__qualname__} yields: return the result, and show progress by ctx.update()")


def _check_choice(name: str, option: str, value: Any, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        allowed = " or ".join(repr(choice) for choice in choices)
        raise ConfigurationError(f"tool {name!r}: {option} must be {allowed}, not {value!r}")


def _check_seconds(name: str, option: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ConfigurationError(f"tool {name!r}: {option} must be a positive number of seconds, not {value!r}")


def _check_on_expire(name: str, value: Any, asked: Schema | None) -> Any:
    """The default decision is copied through JSON: it is what a person could have sent."""
    if isinstance(value, str) and value in ("reject", "abort"):
        return value
    if asked is None:
        raise ConfigurationError(f"tool {name!r}: on_expire must be 'reject' or 'abort' where there is no decision=")
    try:
        decision = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"tool {name!r}: on_expire is not JSON: {error}") from error
    for problem in asked.problems(decision):
        raise ConfigurationError(
            f"tool {name!r}: on_expire must be 'reject', 'abort' or a valid decision, "
            f"but at {problem['path'] or '/'} it {problem['message']}"
        )
    return decision


# -- results ---------------------------------------------------------------------------------------


def error_result(message: str) -> ToolResult:
    return ToolResult([text(_clean(message))], is_error=True)


def invalid_arguments(problems: Sequence[SchemaProblem]) -> ToolResult:
    """The result of a call whose arguments do not satisfy the tool's parameters."""
    listed = "; ".join(f"{p['path'] or '/'}: {p['message']}" for p in problems)
    return error_result(f"the arguments do not satisfy the tool's parameters: {listed}")


def to_result(value: Any) -> ToolResult:
    """What a tool returned, as content blocks; TypeError where it can be no part of a message."""
    if isinstance(value, ToolResult):
        content = to_result(value.content).content if isinstance(value.content, str) else _blocks(value.content)
        details = None if value.details is None else _details(value.details)
        return ToolResult(content, bool(value.is_error), details)
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        return ToolResult([text("")])
    if isinstance(value, str):
        return ToolResult([text(_clean(value))])
    if isinstance(value, list) and value and all(_looks_like_block(item) for item in value):
        return ToolResult(_blocks(value))
    return ToolResult([text(_json(value))])


def _looks_like_block(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") in ("text", "image")


def _blocks(content: Any) -> list[Block]:
    try:
        check_content(content, "the tool's content", role="toolResult")
    except InvalidRequestError as error:
        raise TypeError(str(error)) from error
    return [{**block, "text": _clean(block["text"])} if block["type"] == "text" else block for block in content]


def _details(value: Any) -> Any:
    try:
        return strictjson.loads(_json(value))
    except ValueError as error:
        raise TypeError(f"the tool returned details that cannot be kept: {error}") from error


def _json(value: Any) -> str:
    try:
        return _clean(json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"the tool returned a {type(value).__name__} that is no JSON: {error}") from error


def _plain(value: Any) -> Any:
    """JSON for what `json` does not know."""
    match value:
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal() | UUID() | PurePath():
            return str(value)
        case Enum():
            return value.value
        case set() | frozenset():
            return sorted(value, key=lambda item: (type(item).__name__, str(item)))
        case Mapping():
            return dict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    base_model = getattr(sys.modules.get("pydantic"), "BaseModel", None)
    if base_model is not None and isinstance(value, base_model):
        return value.model_dump(mode="json")
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError("a coroutine: declare the tool with async def")
    raise TypeError(f"{type(value).__name__} has no JSON form: return text, JSON or content blocks")


def _clean(value: str) -> str:
    """Lone surrogates (file names that are no UTF-8) replaced: no wire could carry them."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
