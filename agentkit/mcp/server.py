"""An MCP server among an agent's tools: what an application declares, and the list of tools that it becomes.

The list belongs to a process: it is read when the process first needs it, again after `refresh` seconds, and when the
server says that it has changed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from agentkit.agents import RetryPolicy
from agentkit.core.event_loop import EventLoop, models_loop
from agentkit.core.forks import ForkSafeLock
from agentkit.core.messages import Json
from agentkit.core.options import check_choice, check_seconds
from agentkit.errors import ConfigurationError, ProviderError, ToolError
from agentkit.results import OutcomeUnknown
from agentkit.schema.check import compile_schema
from agentkit.tools import DecisionWhen, Tool, ToolContext, check_queue

if TYPE_CHECKING:
    from agentkit.mcp.connection import Connection
    from agentkit.mcp.tools import Policy, SourceTool, ToolHints

__all__ = ["MCPServer"]

T = TypeVar("T")
Effects = Literal["idempotent", "once"]

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}(?:_[A-Za-z0-9-]+)*")
_AGAIN_SECONDS = 15.0
"""How long a list that could not be read again stays in use before the next attempt."""

_RETRY = RetryPolicy(attempts=3, base=0.5, cap=5.0, deadline=20.0)

_loop = EventLoop("agentkit-mcp", under_gevent=models_loop)


class MCPServer:
    """The tools of an MCP server, among an agent's: `Agent(tools=[MCPServer(name="crm", url="https://…/mcp")])`.

    One of `url` (streamable HTTP) and `command` (a program and its arguments, which speaks on standard input and
    output; each process that needs it starts its own). `name`: 1 to 32 letters, digits, "-" or single "_"; a tool of
    the server is the agent's `name__tool`. `tools`: the names of those that are wanted, or a function of a name; by
    default all.

    `decision`: the JSON Schema of what a person decides before a call, for every tool; None where nobody is asked; or a
    function of a tool's hints (`name`, `title`, `read_only`, `destructive`, `idempotent`, `open_world`) that returns
    either. By default, tools that the server calls destructive, or does not call read-only, ask for an approval.
    `decision_when`, `decision_timeout`, `remember`, `approvals`: as for `tool`. `effects`: "idempotent" or "once" for
    every tool, or a function of its hints; by default "once" for those that the server does not call idempotent.

    `headers`: a mapping, or a function that returns one and is asked for each request. `auth`: an `httpx2.Auth`, such
    as the SDK's OAuthClientProvider. `env`, `cwd`: of the command, which gets no other variables than PATH, HOME and
    the like. `timeout`: seconds that a call may take; `connect_timeout`: that a connection with its handshake, or a
    list of tools, may take. `refresh`: seconds after which the list is read again. `idle`: seconds without a call after
    which the connection is closed. `retry`: how a call of a server that cannot be reached is tried again. `optional`:
    whether an agent works without the tools of a server that cannot be reached, instead of failing its model call.
    `queue`: the broker's queue that its calls are sent to, by default the agent's.

    Raises ConfigurationError for whatever is declared wrongly, and where the extra `[mcp]` is not installed.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        name: str,
        command: Sequence[str] | None = None,
        tools: Sequence[str] | Callable[[str], bool] | None = None,
        decision: Json | Callable[[ToolHints], Json | None] | msgspec.UnsetType | None = msgspec.UNSET,
        decision_when: DecisionWhen | None = None,
        decision_timeout: float | None = None,
        remember: bool = False,
        approvals: int = 1,
        effects: Effects | Callable[[ToolHints], Effects] | None = None,
        headers: Mapping[str, str] | Callable[[], Any] | None = None,
        auth: Any = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float | None = 60.0,
        connect_timeout: float = 10.0,
        refresh: float = 300.0,
        idle: float = 600.0,
        retry: RetryPolicy | None = _RETRY,
        optional: bool = False,
        queue: str | None = None,
    ) -> None:
        try:
            from agentkit.mcp.connection import Target  # of an extra
        except ImportError as error:
            raise ConfigurationError("MCPServer needs the MCP SDK: pip install 'agentkit-celery[mcp]'") from error
        if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > 32:
            raise ConfigurationError(f"MCPServer: the name {name!r} must be 1 to 32 letters, digits, '-' or single '_'")
        what = f"MCP server {name!r}"
        if (url is None) == (command is None):
            raise ConfigurationError(f"{what}: give either url= or command=")
        if url is not None and not (isinstance(url, str) and re.match(r"https?://[^/\s]+", url)):
            raise ConfigurationError(f"{what}: url must begin with https:// or http://, not {url!r:.80}")
        if command is not None and (
            isinstance(command, str) or not command or not all(isinstance(c, str) for c in command)
        ):
            raise ConfigurationError(f"{what}: command must be a list, the program and its arguments")
        if url is None and (headers is not None or auth is not None):
            raise ConfigurationError(f"{what}: headers and auth are for url=; a command takes its secrets from env=")
        if headers is not None and auth is not None:
            raise ConfigurationError(f"{what}: give headers or auth, not both")
        for option, value in (
            ("timeout", timeout),
            ("connect_timeout", connect_timeout),
            ("refresh", refresh),
            ("idle", idle),
            ("decision_timeout", decision_timeout),
        ):
            check_seconds(what, option, value)
        if retry is not None and not isinstance(retry, RetryPolicy):
            raise ConfigurationError(f"{what}: retry must be a RetryPolicy, not {retry!r}")
        self.name = name
        self.queue = check_queue(queue, what)
        self.optional = optional
        self._refresh = refresh
        self._retry = retry
        self._connect_seconds = connect_timeout
        read_headers = None if headers is None else headers if callable(headers) else lambda: dict(headers)
        self._target = Target(
            name, url, tuple(command or ()), dict(env or {}), cwd, read_headers, auth, connect_timeout, idle
        )
        self._policy = _policy(what, tools, decision, effects)
        self._policy.options.update(timeout=timeout, queue=self.queue)
        self._policy.decision_options.update(decision_when=decision_when, remember=remember, approvals=approvals)
        self._policy.decision_timeout = decision_timeout
        self._lock = ForkSafeLock()
        self._owner = 0
        self._tools: tuple[SourceTool, ...] = ()
        self._known = self._changed = False
        self._fresh_until = self._failed_until = 0.0
        self._failure: ProviderError | None = None
        self._connection: Connection | None = None

    def __repr__(self) -> str:
        return f"MCPServer(name={self.name!r})"

    # -- the list of tools

    def tools(self) -> Sequence[Tool]:
        """List the tools; the server is asked where the last list is older than `refresh`, or there is none.

        Raises ProviderError where there is none and the server cannot be reached; for as long as it took to find that
        out, everybody else gets the same error at once.
        """
        with self._lock:
            self._check_owner()
            began = time.monotonic()
            if began < self._fresh_until:
                return self._tools
            if self._failure is not None and began < self._failed_until:
                raise self._failure
            try:
                self._read_list()
            except ProviderError as error:
                now = time.monotonic()
                self._failure, self._failed_until = error, now + (now - began)
                if not self._known and not self.optional:
                    raise
                kept = "the list of before stays in use" if self._known else "its tools are left out"
                log.warning("MCP server %s: %s, and %s", self.name, error, kept)
                self._fresh_until = now + min(self._refresh, _AGAIN_SECONDS)
            return self._tools

    def _read_list(self) -> None:
        from agentkit.mcp.tools import make_tools

        self._changed = False
        listed = self._run(self._of_process().tools(), self._connect_seconds * 2)
        self._tools, self._known = make_tools(self.name, listed, self._policy, self._execute), True
        self._failure = None
        self._fresh_until = 0.0 if self._changed else time.monotonic() + self._refresh  # it may change meanwhile

    def known_tools(self) -> Sequence[Tool]:
        """List the tools as this process has last listed them; none where it never did."""
        return self._tools if self._owner == os.getpid() else ()

    def refresh(self) -> None:
        """Have the list of tools read again when it is next needed."""
        self._on_change()

    def close(self) -> None:
        """Close this process's connection, and end the server that it has started; the next use opens another."""
        if self._connection is not None and self._owner == os.getpid():
            self._run(self._connection.close(), 10.0)

    def _check_owner(self) -> None:
        if self._owner != os.getpid():  # connections do not survive a fork
            self._owner = os.getpid()
            self._tools, self._known, self._connection = (), False, None
            self._fresh_until = self._failed_until = 0.0

    def _of_process(self) -> Connection:
        from agentkit.mcp.connection import Connection

        if self._connection is None:
            self._connection = Connection(self._target, self._on_change)
        return self._connection

    def _on_change(self) -> None:
        self._changed, self._fresh_until = True, 0.0

    # -- calls

    async def _execute(self, name: str, effects: Effects, args: Json, ctx: ToolContext) -> Any:
        """Call a tool, from the event loop of tools; the connection is on its own."""
        return await asyncio.wrap_future(_loop.submit(self._call(name, effects, args, ctx)))

    async def _call(self, name: str, effects: Effects, args: Json, ctx: ToolContext) -> Any:
        from agentkit.mcp.connection import BrokenError
        from agentkit.mcp.results import Questions, to_tool_result

        self._check_owner()
        asked = None if ctx.memo is None else Questions.of(ctx.memo, ctx.reply)
        unanswered = None if asked is None else asked.next(self.name)
        if unanswered is not None:
            return unanswered
        tries, since = 0, time.monotonic()
        while True:
            tries += 1
            try:
                answer = await self._of_process().call(name, args, asked, ctx.update)
                break
            except BrokenError as error:
                text = f"the connection to the MCP server {self.name!r} broke in the middle of the call"
                log.warning("run %s: %s (%s)", ctx.run_id, text, error)
                if effects == "once":
                    return OutcomeUnknown(text)
                failure = ProviderError(text, retryable=True)
            except ProviderError as error:
                log.warning("run %s: %s", ctx.run_id, error)
                failure = error
            delay = self._delay(failure, tries, since)
            if delay is None:
                raise ToolError(failure.message)
            await asyncio.sleep(delay)
        if isinstance(answer, Questions):
            question = answer.next(self.name)
            if question is None:
                raise ToolError("the server asks for nothing, and gives no result")
            return question
        return to_tool_result(answer)

    def _effects_of(self, theirs: str) -> str:
        found = next((item for item in self._tools if item.label == theirs or item.name.endswith(f"__{theirs}")), None)
        return "once" if found is None else found.effects

    def _delay(self, error: ProviderError, tries: int, since: float) -> float | None:
        return None if self._retry is None else self._retry.delay(error, tries, time.monotonic() - since)

    def _run(self, coroutine: Coroutine[Any, Any, T], seconds: float) -> T:
        """Run a coroutine on the loop of connections, and wait for it. Raises ProviderError where it takes too long."""
        future: Future[T] = _loop.submit(coroutine)
        try:
            return future.result(seconds)
        except FutureTimeoutError as error:
            future.cancel()
            raise ProviderError(f"the MCP server {self.name!r} did not answer in time", retryable=True) from error


def _policy(what: str, wanted: Any, decision: Any, effects: Any) -> Policy:
    """Read what is declared of all tools. Raises ConfigurationError."""
    from agentkit.mcp.tools import APPROVAL, Policy

    if isinstance(decision, dict):
        compile_schema(decision, f"the decision of {what}")
    elif decision is not msgspec.UNSET and decision is not None and not callable(decision):
        raise ConfigurationError(f"{what}: decision must be a JSON Schema, None, or a function of a tool's hints")
    if not callable(effects):
        check_choice(what, "effects", effects, (None, "idempotent", "once"))
    if isinstance(wanted, str) or not (wanted is None or callable(wanted) or isinstance(wanted, Sequence)):
        raise ConfigurationError(f"{what}: tools must be a list of names, or a function of a name")

    def decide(hints: ToolHints) -> Json | None:
        if decision is msgspec.UNSET:
            return APPROVAL if hints.destructive is True or hints.read_only is not True else None
        found: Json | None = decision(hints) if callable(decision) else decision
        return found

    def has_effects(hints: ToolHints) -> Effects:
        if effects is None:
            return "idempotent" if hints.idempotent is True else "once"
        found: Effects = effects(hints) if callable(effects) else effects
        return found

    names = None if wanted is None or callable(wanted) else frozenset(wanted)
    is_wanted = wanted if callable(wanted) else lambda name: names is None or name in names
    return Policy(is_wanted, decide, has_effects)
