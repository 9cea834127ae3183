"""A process's connection to one MCP server, on an event loop of its own: opened when it is needed, closed when idle.

One task holds it open, since the SDK wants a connection to be closed where it was opened. Whatever breaks it is
noticed by the calls under way; the next call opens another. A server that is a command is a child of this process,
under a guard that ends it when this process is killed.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2
import mcp_types
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from agentkit.core.messages import Json
from agentkit.errors import ProviderError, ToolError
from agentkit.mcp.results import Question, Questions, question_of, questions_of

__all__ = ["BrokenError", "Connection", "Target"]

log = logging.getLogger(__name__)

_GUARD = str(Path(__file__).with_name("guard.py"))
_MAX_PAGES = 100
_UPDATES_PER_SECOND = 5.0
_MAX_UPDATES = 1_000

MAX_INQUIRIES = 10
"""How often a server may ask, in one call, what was answered before."""

Progress = Callable[[Json], None]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server is: a `url`, or a `command` with the variables `env` that it is given beside a few safe ones.

    `headers`: asked for each HTTP request. `auth`: an httpx2.Auth, such as the SDK's OAuth providers.
    `connect_seconds`: for a connection and its handshake; `idle_seconds`: after which it is closed.
    """

    name: str
    url: str | None = None
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    headers: Callable[[], Any] | None = field(default=None, repr=False)
    auth: Any = field(default=None, repr=False)
    connect_seconds: float = 10.0
    idle_seconds: float = 600.0


class BrokenError(Exception):
    """The connection broke while a call was under way: whether the server executed it is not known."""


class _Call:
    """A call under way. `asked`: what the server asked in the middle of it, where it keeps the call open meanwhile."""

    def __init__(self, questions: Questions | None) -> None:
        self.questions = questions
        self.asked: Question | None = None


class Connection:
    """All its methods are of the event loop that it is used on. `on_change`: the server's list of tools has changed."""

    def __init__(self, target: Target, on_change: Callable[[], None]) -> None:
        self._target = target
        self._on_change = on_change
        self._keeper: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[Client] | None = None
        self._closing = asyncio.Event()
        self._calls: set[_Call] = set()
        self._used = 0.0

    async def tools(self) -> list[mcp_types.Tool]:
        """List the server's tools. Raises ProviderError."""
        client = await self._client()
        try:
            async with asyncio.timeout(self._target.connect_seconds):
                return await _listed(client)
        except (MCPError, TimeoutError, ValidationError, RuntimeError) as error:
            self._discard(client)
            raise self._unreachable("did not list its tools", error) from error

    async def call(
        self, name: str, args: Json, questions: Questions | None, progress: Progress
    ) -> mcp_types.CallToolResult | Questions:
        """Call a tool; what the server asks before it goes on is returned in place of a result.

        Raises ProviderError where the call was not sent, BrokenError where nobody knows what came of it, and ToolError
        where the server refused it or answered with what is no result.
        """
        client = await self._client()
        call = _Call(questions)
        self._calls.add(call)
        try:
            result = await self._asked(client, name, args, questions, _limited(progress))
        except MCPError as error:
            if call.asked is None and error.code == mcp_types.CONNECTION_CLOSED:
                self._discard(client)
                raise BrokenError(self._cause(error)) from error
            if call.asked is None:
                raise ToolError(f"the server refused the call: {error.message}") from error
        except (anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            self._discard(client)
            raise BrokenError(self._cause(error)) from error
        except (RuntimeError, ValidationError) as error:
            if call.asked is None:
                log.warning(
                    "MCP server %s answered the call of %r with no valid result: %s", self._target.name, name, error
                )
                raise ToolError("the server's answer is no valid result of this tool") from error
        else:
            if call.asked is None:
                return result
        finally:
            self._calls.discard(call)
            self._used = time.monotonic()
        before = questions or Questions([], None)
        return Questions([*before.asked, call.asked], None, before.replies)

    async def close(self) -> None:
        """Close the connection, and end the server where it is a child of this process."""
        self._closing.set()
        if self._keeper is not None:
            await asyncio.wait([self._keeper])

    # -- the connection

    async def _asked(
        self, client: Client, name: str, args: Json, questions: Questions | None, progress: Any
    ) -> mcp_types.CallToolResult | Questions:
        """Call, and go on with what was answered until there is a result, or a question that nobody was asked yet.

        A server that no longer knows its state, since it was started anew, is called afresh.
        """
        given = questions
        for _ in range(MAX_INQUIRIES):
            try:
                result = await self._send(client, name, args, given, progress)
            except MCPError as error:
                if given is None or given.state is None or error.code == mcp_types.CONNECTION_CLOSED:
                    raise
                given = None
                continue
            if isinstance(result, mcp_types.CallToolResult):
                return result
            given = questions_of(result).with_replies_of(questions)
            if given.next("") is not None:
                return given
        raise ToolError("the server asks the same again and again")

    async def _send(
        self, client: Client, name: str, args: Json, questions: Questions | None, progress: Any
    ) -> mcp_types.CallToolResult | mcp_types.InputRequiredResult:
        """Call once, and again where the headers of a call are others now, which are read off the list of tools."""
        state = None if questions is None else questions.state
        responses = None if questions is None or state is None else questions.responses()
        for attempt in (1, 2):
            try:
                return await client.session.call_tool(
                    name,
                    args,
                    progress_callback=progress,
                    input_responses=responses,
                    request_state=state,
                    allow_input_required=True,
                )
            except MCPError as error:
                if error.code != mcp_types.HEADER_MISMATCH or attempt == 2:
                    raise
                await _listed(client)
        raise AssertionError("unreachable")

    async def _client(self) -> Client:
        """Return the open connection, or open one. Raises ProviderError."""
        self._used = time.monotonic()
        if self._keeper is None or self._keeper.done():
            self._closing = asyncio.Event()
            self._ready = asyncio.get_running_loop().create_future()
            self._keeper = asyncio.create_task(self._keep(self._ready, self._closing))
        assert self._ready is not None
        return await asyncio.shield(self._ready)

    async def _keep(self, ready: asyncio.Future[Client], closing: asyncio.Event) -> None:
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._target.connect_seconds):
                    client = await stack.enter_async_context(await self._made(stack))
                ready.set_result(client)
                while not closing.is_set():
                    idle = self._target.idle_seconds - (time.monotonic() - self._used)
                    if idle <= 0 and not self._calls:
                        break
                    try:
                        await asyncio.wait_for(closing.wait(), max(1.0, idle))
                    except TimeoutError:
                        pass
        except BaseException as error:
            if not ready.done():
                ready.set_exception(self._unreachable("cannot be reached", error))
                ready.exception()  # whoever waited may be gone
            elif isinstance(error, Exception):
                log.info("the connection to MCP server %s ended: %s", self._target.name, _describe(error))
            if not isinstance(error, Exception):
                raise

    async def _made(self, stack: AsyncExitStack) -> Client:
        target = self._target
        transport: Any
        if target.url is not None:
            timeout = httpx2.Timeout(target.connect_seconds, read=None)
            http = httpx2.AsyncClient(auth=target.auth or _headers_auth(target.headers), timeout=timeout)
            transport = streamable_http_client(target.url, http_client=await stack.enter_async_context(http))
        else:
            parameters = StdioServerParameters(
                command=sys.executable, args=["-I", "-S", _GUARD, *target.command], env=dict(target.env), cwd=target.cwd
            )
            transport = stdio_client(parameters, errlog=sys.__stderr__ or sys.stderr)
        return Client(
            transport, elicitation_callback=self._elicit, message_handler=self._notice, cache=None, client_info=_INFO
        )

    def _discard(self, client: Client) -> None:
        """Close a connection that does not work; the next use opens another."""
        if (
            self._ready is not None
            and self._ready.done()
            and not self._ready.exception()
            and self._ready.result() is client
        ):
            self._closing.set()
            self._keeper = None

    # -- what the server sends by itself

    async def _notice(self, message: Any) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self._on_change()

    async def _elicit(self, context: Any, params: Any) -> mcp_types.ElicitResult | mcp_types.ErrorData:
        """Take down what a server of an earlier revision asks, which keeps the call open: it is called again.

        Such a server does not say in which of several calls it asks.
        """
        if len(self._calls) != 1:
            text = "several calls are under way on this connection: which of them asks is not known"
            return mcp_types.ErrorData(code=mcp_types.INVALID_REQUEST, message=text)
        (call,) = self._calls
        try:
            question = question_of(str(len(call.questions.asked) if call.questions else 0), params)
        except ToolError as error:
            return mcp_types.ErrorData(code=mcp_types.INVALID_REQUEST, message=error.message)
        known = call.questions.reply_to(question.message, question.schema) if call.questions else None
        if known is not None:
            return mcp_types.ElicitResult(action="accept", content=known)
        call.asked = question
        return mcp_types.ElicitResult(action="cancel")

    # -- errors

    def _unreachable(self, what: str, error: BaseException) -> ProviderError:
        text = f"the MCP server {self._target.name!r} {what}"
        return ProviderError(text, retryable=True, vendor=self._target.name, internal=self._cause(error))

    def _cause(self, error: BaseException) -> str:
        where = self._target.url if self._target.url is not None else self._target.command[0]
        return f"{where}: {_describe(error)}"


_INFO = mcp_types.Implementation(name="agentkit", version="1")


async def _listed(client: Client) -> list[mcp_types.Tool]:
    tools: list[mcp_types.Tool] = []
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            break
    return tools


def _describe(error: BaseException) -> str:
    """Name the first cause in a group of errors."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _limited(progress: Progress) -> Any:
    """Make the callback of progress notifications, of which some are shown, however many come."""
    shown, last = 0, 0.0

    async def report(done: float, total: float | None, message: str | None) -> None:
        nonlocal shown, last
        now = time.monotonic()
        if shown >= _MAX_UPDATES or now - last < 1 / _UPDATES_PER_SECOND:
            return
        shown, last = shown + 1, now
        said = {"progress": done, "total": total, "message": None if message is None else message[:1000]}
        progress({key: value for key, value in said.items() if value is not None})

    return report


def _headers_auth(headers: Callable[[], Any] | None) -> httpx2.Auth | None:
    return None if headers is None else _Headers(headers)


class _Headers(httpx2.Auth):
    """Sets the headers that a function returns, which is asked for each request, beside the loop."""

    def __init__(self, headers: Callable[[], Any]) -> None:
        self._headers = headers

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        found = (
            self._headers() if inspect.iscoroutinefunction(self._headers) else anyio.to_thread.run_sync(self._headers)
        )
        request.headers.update(await found)
        yield request
