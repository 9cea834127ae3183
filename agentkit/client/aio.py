"""The client for asyncio. It executes plans and knows nothing of the protocol."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx
from httpx_sse import EventSource, ServerSentEvent

from agentkit.client import calls
from agentkit.client.plans import Answer, Emit, Failure, Headers, Next, Plan, Request, Server, Sleep
from agentkit.client.wire import BROKEN, answer_of, failure_of, http_client, request_of

__all__ = ["AsyncClient"]

P = ParamSpec("P")
T = TypeVar("T")


def _call(
    plan: Callable[Concatenate[Server, P], Plan[T]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """Make a method that executes a plan and returns its result."""

    @functools.wraps(plan)
    async def call(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        results: list[T] = []
        async for _ in self._execute(plan(self, *args, **kwargs), results.append):
            raise AssertionError("a plan that returns a result emits no value")
        return results[0]

    return call


def _iteration(
    plan: Callable[Concatenate[Server, P], Plan[None]],
) -> Callable[Concatenate[AsyncClient, P], AsyncIterator[Any]]:
    """Make a method that iterates over the values that a plan emits."""

    @functools.wraps(plan)
    def call(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Any]:
        return self._execute(plan(self, *args, **kwargs), lambda _: None)

    return call


class AsyncClient(Server):
    """Call one agentkit server over HTTP, from asyncio: the methods of `Client`, to await or to iterate over.

    The arguments and errors are those of `Client`; a function in `headers` may be a coroutine function, and `transport`
    is an `httpx.AsyncBaseTransport`. To leave a stream before its end, close its iterator:
    `async with contextlib.aclosing(client.events(run_id)) as events`.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 30.0,
        retry_seconds: float = 60.0,
        headers: Headers | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, retry_seconds)
        self._headers = headers or {}
        self._http = http_client(httpx.AsyncClient, self.url, timeout, transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    start = _call(calls.start)
    get = _call(calls.get)
    why = _call(calls.why)
    runs = _iteration(calls.runs)
    decisions = _iteration(calls.decisions)
    count_decisions = _call(calls.count_decisions)
    resume = _call(calls.resume)
    extend = _call(calls.extend)
    send = _call(calls.send)
    abort = _call(calls.abort)
    delete = _call(calls.delete)
    agents = _call(calls.agents)
    doctor = _call(calls.doctor)
    ready = _call(calls.ready)
    events = _iteration(calls.events)

    async def _execute(self, plan: Plan[T], on_result: Callable[[T], None]) -> AsyncGenerator[Any, None]:
        stream: _Stream | None = None
        reply: Any = None
        try:
            while True:
                try:
                    action = plan.send(reply)
                except StopIteration as end:
                    on_result(end.value)
                    return
                reply = None
                match action:
                    case Request():
                        reply, stream = await self._send(action)
                    case Next():
                        assert stream is not None
                        reply = await stream.next()
                    case Sleep(seconds):
                        await asyncio.sleep(seconds)
                    case Emit(value):
                        yield value
        finally:
            if stream is not None:
                await stream.close()

    async def _send(self, action: Request) -> tuple[Answer | Failure, _Stream | None]:
        headers = self._headers() if callable(self._headers) else self._headers
        headers = await headers if inspect.isawaitable(headers) else headers
        try:
            response = await self._http.send(request_of(self._http, action, headers), stream=True)
            if action.stream and response.status_code == 200:
                return answer_of(response, opened=True), _Stream(response)
            try:
                await response.aread()
            finally:
                await response.aclose()
            return answer_of(response, opened=False), None
        except BROKEN as error:
            return failure_of(error), None


class _Stream:
    """The events of one open connection."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._frames: AsyncGenerator[ServerSentEvent, None] = EventSource(response).aiter_sse()

    async def next(self) -> str | Failure | None:
        """Return the data of the next event, None at the end, or a Failure where it broke; both close it."""
        try:
            async for frame in self._frames:
                if frame.data:
                    return frame.data
        except BROKEN as error:
            await self.close()
            return failure_of(error)
        await self.close()
        return None

    async def close(self) -> None:
        await self._frames.aclose()
        await self._response.aclose()
