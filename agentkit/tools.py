"""Tools: what a model may call, and the declaration that a function becomes one.

A `Tool` is a definition, checked in full when it is declared. It does not know runs, stores or models: the loop asks it
whether arguments and decisions are valid, and the runtime hands it a `ToolContext`. What becomes of what it returns is
the business of `agentkit.results`.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import FrameType, FunctionType, MethodType
from typing import Any, Literal, Protocol, overload, runtime_checkable

from agentkit.core import strictjson
from agentkit.core.events import Vote
from agentkit.core.messages import Cache, Json
from agentkit.core.options import (
    check_choice,
    check_count,
    check_flag,
    check_plain_function,
    check_seconds,
    is_coroutine_function,
)
from agentkit.errors import ConfigurationError, SchemaProblem, ToolError
from agentkit.results import refusal_text
from agentkit.schema.check import MAX_PROBLEMS, Schema, compile_schema
from agentkit.schema.conversion import ConversionError
from agentkit.schema.signatures import Signature, read_signature

__all__ = ["DecisionWhen", "Tool", "ToolContext", "ToolSource", "bound_tool", "check_queue", "tool"]

_QUEUE = re.compile(r"[\x21-\x7e]{1,200}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

_Place = Literal["elsewhere", "method", "classmethod", "class body", "misnamed"]
"""Where a tool's function was defined: a method and a classmethod are still to be bound.

"class body": a function there whose first parameter is not called as a method's is. @staticmethod may say that it is
none; read from the class or an object without that, it is "misnamed".
"""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a running tool may know and do; passed to functions that have a `ctx` parameter.

    `run_id`, `tool_call_id`: the run and the call of it that the tool answers. `step`, `turn`: their numbers in the
    run, from 1. `idempotency_key`: the same text in every attempt of one tool call, for systems that recognise a
    repeated request by it. `attempt`: which execution of the call this is, from 1. `decision`: the JSON that a person
    decided, None where the tool asks for none. `metadata`: the run's, JSON, which its client wrote. `agent`: the run's.
    `owner`: the principal that started the run, None where the application names nobody. `decided_by` and `decided_at`
    (ms): who gave the decision that let this call execute, and when; None where there was none or nobody was named.
    `votes`: who gave it alike, and when, where several had to. `parent_run_id`: the run whose call this run answers,
    None where it is no sub-agent's. `memo` and `reply`: where the tool returned an InputRequired before, its memo and
    what somebody answered. `on_update` and `is_aborted` belong to the runtime: use `update` and `aborted`.
    """

    run_id: str
    tool_call_id: str
    idempotency_key: str
    attempt: int = 1
    decision: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    agent: str = ""
    owner: str | None = None
    decided_by: str | None = None
    decided_at: int | None = None
    votes: tuple[Vote, ...] = ()
    parent_run_id: str | None = None
    step: int = 0
    turn: int = 0
    memo: Mapping[str, Any] | None = None
    reply: Any = None
    on_update: Callable[[Any], None] = field(default=lambda _partial: None, repr=False)
    is_aborted: Callable[[], bool] = field(default=lambda: False, repr=False)

    def update(self, partial: Any) -> None:
        """Show a partial result to those who follow the run; the model never sees it.

        `partial`: JSON, or what a tool's result may have in its place, say a date. Raises TypeError for anything else,
        and ToolError for more than a result may be (`AGENTKIT_MAX_RESULT_BYTES`).
        """
        self.on_update(partial)

    @property
    def aborted(self) -> bool:
        """Whether the run was aborted: a long tool should return then."""
        return self.is_aborted()


DecisionWhen = Callable[[Json, ToolContext], bool]
"""Whether a call with these arguments needs the decision that its tool declares. Only False means that it does not."""


@dataclass(frozen=True, eq=False)
class Tool:
    """A declared tool; made by `tool`, whose arguments its attributes are. Called like a function, it is the function.

    `parameters` and `decision` are JSON Schemas, `decision` None where nobody is asked. Times are seconds. `on_expire`:
    "reject", "abort", or the decision that counts where nobody has decided in time. `fn`: the function.
    """

    name: str
    label: str
    description: str
    parameters: Json
    decision: Json | None
    decision_timeout: float | None
    on_expire: Any
    decision_when: DecisionWhen | None
    remember: bool
    approvals: int
    owner_may_approve: bool
    runs: Literal["server", "client"]
    effects: Literal["idempotent", "once"]
    timeout: float | None
    cache: Cache | None
    queue: str | None
    fn: Callable[..., Any] = field(repr=False)
    is_async: bool
    wants_ctx: bool
    wants_decision: bool
    _signature: Signature = field(repr=False)
    _input_schema: Schema = field(repr=False)
    _decision_schema: Schema | None = field(repr=False)
    _place: _Place = field(repr=False)
    agent: Any = field(default=None, repr=False)
    """The agent that answers in the function's place, in a run of its own (`Agent.as_tool`)."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Tool:
        """Bind a method to the object that it is read from, as Python binds functions: `tools=[desk.refund]`."""
        if self._place == "class body":
            return dataclasses.replace(self, _place="misnamed")
        receiver = (owner or type(instance)) if self._place == "classmethod" else instance
        if receiver is None or self._place not in ("method", "classmethod"):
            return self
        return dataclasses.replace(self, fn=self.fn.__get__(receiver, owner), _place="elsewhere")

    def check_bound(self) -> None:
        """Raise ConfigurationError for a method that was not read from an object: there is nothing to call it on."""
        owner = getattr(self.fn, "__qualname__", "").rpartition(".")[0].rpartition(".")[2]
        if self._place == "misnamed":
            raise ConfigurationError(
                f"tool {self.name!r} is a method of {owner}, but its first parameter is neither 'self' nor 'cls': "
                "rename it, or put @staticmethod above @tool"
            )
        if self._place in ("method", "classmethod"):
            place = owner if self._place == "classmethod" else f"{owner}(…)"
            raise ConfigurationError(
                f"tool {self.name!r} is a method of {owner} and not bound: "
                f"pass it from an object, as in tools=[{place}.{self.name}]"
            )

    def input_problems(self, args: Any) -> list[SchemaProblem]:
        """List what is wrong with a tool call's arguments, by JSON Pointer; empty if nothing is.

        They must satisfy `parameters`, and then the types of the function, whose validators are called.
        """
        if problems := self._input_schema.problems(args):
            return problems
        try:
            self._signature.bind(args)
        except ConversionError as error:
            return error.problems[:MAX_PROBLEMS]
        return []

    def decision_problems(self, value: Any) -> list[SchemaProblem]:
        """List what is wrong with a decision, by JSON Pointer; empty if nothing is, or if the tool asks for none."""
        return [] if self._decision_schema is None else self._decision_schema.problems(value)

    def call(self, args: Json, ctx: ToolContext) -> Any:
        """Execute with arguments that have no `input_problems`; an async tool's coroutine is returned, not awaited.

        Raises whatever the function raises, and ToolError where a validator refuses now what it took before.
        """
        try:
            kwargs = self._signature.bind(args)
        except ConversionError as error:
            raise ToolError(refusal_text(error.problems)) from error
        if self.wants_ctx:
            kwargs["ctx"] = ctx
        if self.wants_decision:
            kwargs["decision"] = ctx.decision
        return self.fn(**kwargs)


@runtime_checkable
class ToolSource(Protocol):
    """Lists tools, and may list others later. Its methods are called by many threads.

    `name`: its tools are named `name__tool`. `queue`: the broker's queue that the calls of its tools are sent to, by
    default the agent's.
    """

    name: str
    queue: str | None

    def tools(self) -> Sequence[Tool]:
        """List the tools as of now, or as of some time ago; this may ask another system, and block.

        Raises ProviderError where they cannot be listed, `retryable` where they may be later.
        """
        ...

    def known_tools(self) -> Sequence[Tool]:
        """List the tools as this process has last listed them, none where it never did. Never blocks."""
        ...


def bound_tool(item: Any) -> Any:
    """Return the tool of a method that Python has bound itself (@classmethod above @tool); what is none, as it is."""
    if isinstance(item, MethodType) and isinstance(item.__func__, Tool):
        return item.__func__.__get__(item.__self__, type(item.__self__))
    return item


# -- declaration


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
    decision_when: DecisionWhen | None = None,
    remember: bool = False,
    approvals: int = 1,
    owner_may_approve: bool = False,
    runs: Literal["server", "client"] = "server",
    effects: Literal["idempotent", "once"] = "idempotent",
    timeout: float | None = None,
    cache: Cache | None = None,
    queue: str | None = None,
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
    decision_when: DecisionWhen | None = None,
    remember: bool = False,
    approvals: int = 1,
    owner_may_approve: bool = False,
    runs: Literal["server", "client"] = "server",
    effects: Literal["idempotent", "once"] = "idempotent",
    timeout: float | None = None,
    cache: Cache | None = None,
    queue: str | None = None,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a function a tool: `@tool`, or `@tool(decision={…}, …)`.

    `name`: 1 to 64 letters, digits, "_" or "-"; by default the function's. `label`: the name that people are shown; by
    default `name`. `description`: what the model reads of the tool; by default the docstring up to its first section.
    `parameters`: the JSON Schema of the arguments, an object's; by default read from the function's annotations and the
    docstring's descriptions of them. `decision`: the JSON Schema of what a person must decide before the tool executes;
    `decision_timeout`: seconds that are left for it, without limit by default. `on_expire`: what counts when they are
    over: "reject" (an error result of the call), "abort" (of the run) or a decision that satisfies the schema.
    `decision_when`: a plain function of a call's arguments and a ToolContext, asked once when the model has made the
    call; only where it returns False is nobody asked, and `decision` is None. `remember`: whether an answer may count
    for later calls in the run. `approvals`: how many principals must give the same decision, the run's owner among them
    only with `owner_may_approve`. `runs`: "client" where a client executes the tool, and the body is never called.
    `effects`: "once" where the tool must not be executed again by itself when a worker died in it: a person decides.
    `timeout`: seconds that an execution may take, without limit by default. `cache`: "short" or "long" where a vendor's
    prompt cache may end after this tool's definition. `queue`: the broker's queue that its calls are sent to, by
    default the agent's.

    A method is a tool of the object that it is read from: `Agent(tools=[desk.refund])`.

    Raises ConfigurationError for whatever is declared wrongly.
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
        decision_when=decision_when,
        remember=remember,
        approvals=approvals,
        owner_may_approve=owner_may_approve,
        runs=runs,
        effects=effects,
        timeout=timeout,
        cache=cache,
        queue=queue,
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
    decision_when: DecisionWhen | None,
    remember: bool,
    approvals: int,
    owner_may_approve: bool,
    runs: Literal["server", "client"],
    effects: Literal["idempotent", "once"],
    timeout: float | None,
    cache: Cache | None,
    queue: str | None,
) -> Tool:
    fn, place = _placed(fn)
    _check_function(fn)
    name = _name_of(fn) if name is None else name
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"the tool name {name!r} must be 1 to 64 letters, digits, '_' or '-': give another by name="
        )
    what = f"tool {name!r}"
    check_choice(what, "runs", runs, ("server", "client"))
    check_choice(what, "effects", effects, ("idempotent", "once"))
    check_choice(what, "cache", cache, (None, "short", "long"))
    check_seconds(what, "timeout", timeout)
    check_seconds(what, "decision_timeout", decision_timeout)
    decision_schema = None if decision is None else compile_schema(decision, f"the decision of {what}")
    if decision_timeout is not None and decision_schema is None and runs != "client":
        raise ConfigurationError(f"tool {name!r} has a decision_timeout but nothing to wait for: give it a decision=")
    on_expire = _check_on_expire(name, on_expire, decision_schema)
    _check_who_decides(what, decision_when, remember, approvals, owner_may_approve, decision_schema is not None)
    if parameters is not None:
        compile_schema(parameters, f"the parameters of tool {name!r}")
        if parameters.get("type", "object") != "object":
            raise ConfigurationError(f'the parameters of tool {name!r} must describe an object: say "type": "object"')
        parameters = {"type": "object", **parameters}
    signature = read_signature(
        fn,
        has_decision=decision_schema is not None,
        parameters=parameters,
        caller=caller,
        skip_first=place in ("method", "classmethod"),
    )
    return Tool(
        name=name,
        label=name if label is None else label,
        description=signature.description if description is None else description,
        parameters=signature.parameters,
        decision=decision,
        decision_timeout=decision_timeout,
        on_expire=on_expire,
        decision_when=decision_when,
        remember=remember,
        approvals=approvals,
        owner_may_approve=owner_may_approve,
        runs=runs,
        effects=effects,
        timeout=timeout,
        cache=cache,
        queue=check_queue(queue, f"tool {name!r}"),
        fn=fn,
        is_async=is_coroutine_function(fn),
        wants_ctx=signature.wants_ctx,
        wants_decision=signature.wants_decision,
        _signature=signature,
        _input_schema=compile_schema(signature.accepts, f"the parameters of tool {name!r}"),
        _decision_schema=decision_schema,
        _place=place,
    )


def _placed(fn: Any) -> tuple[Any, _Place]:
    """Find where a function was defined, and the function in a staticmethod or classmethod.

    Before a class exists, only the name of a function shows that it stands in the class's body, and only the name of
    its first parameter that it is a method.
    """
    if isinstance(fn, staticmethod):
        return fn.__func__, "elsewhere"
    if isinstance(fn, classmethod):
        return fn.__func__, "classmethod"
    owner = fn.__qualname__.rpartition(".")[0] if isinstance(fn, FunctionType) else ""
    if not owner or owner.endswith("<locals>"):
        return fn, "elsewhere"
    first = next(iter(inspect.signature(fn).parameters), "")
    return fn, "method" if first in ("self", "cls") else "class body"


def _name_of(fn: Any) -> str:
    while isinstance(fn, partial):
        fn = fn.func
    return str(getattr(fn, "__name__", type(fn).__name__))


def _check_function(fn: Any) -> None:
    if isinstance(fn, Tool):
        raise ConfigurationError(f"{fn.name!r} is a tool already: pass the function, {fn.name}.fn")
    if not callable(fn) or inspect.isclass(fn):
        raise ConfigurationError(f"a tool must be a function, not {fn!r}: its options are keyword arguments")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise ConfigurationError(f"{fn.__qualname__} yields: return the result, and show progress by ctx.update()")


def check_queue(queue: Any, owner: str) -> str | None:
    """Check the name of a queue that a tool or an agent names; None stays. Raises ConfigurationError."""
    if queue is None or (isinstance(queue, str) and _QUEUE.fullmatch(queue)):
        return queue
    raise ConfigurationError(f"{owner}: queue must be a name of 1 to 200 printable characters, not {queue!r}")


def _check_who_decides(
    what: str, decision_when: Any, remember: Any, approvals: Any, owner_may_approve: Any, has_decision: bool
) -> None:
    """Check what is declared of a decision beside its schema. Raises ConfigurationError."""
    check_count(what, "approvals", approvals)
    check_flag(what, "remember", remember)
    check_flag(what, "owner_may_approve", owner_may_approve)
    if decision_when is not None:
        check_plain_function(what, "decision_when", decision_when, "args", "ctx")
    used = {"decision_when": decision_when is not None, "remember": remember, "approvals": approvals > 1}
    for option in (option for option, is_used in used.items() if is_used and not has_decision):
        raise ConfigurationError(f"{what} has {option} but nothing to decide: give it a decision=")


def _check_on_expire(name: str, value: Any, decision_schema: Schema | None) -> Any:
    """Check `on_expire`. A decision is copied through JSON, so that it is what a person could have sent."""
    if isinstance(value, str) and value in ("reject", "abort"):
        return value
    if decision_schema is None:
        raise ConfigurationError(f"tool {name!r}: on_expire must be 'reject' or 'abort' where there is no decision=")
    try:
        decision = strictjson.plain(value)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"tool {name!r}: on_expire is not JSON: {error}") from error
    for problem in decision_schema.problems(decision):
        raise ConfigurationError(
            f"tool {name!r}: on_expire must be 'reject', 'abort' or a valid decision, "
            f"but at {problem['path'] or '/'} it {problem['message']}"
        )
    return decision
