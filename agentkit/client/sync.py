"""The client that blocks. It carries plans out and knows nothing of what they ask for."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx
from httpx_sse import EventSource, ServerSentEvent

from agentkit.client import calls
from agentkit.client.plans import Answer, Failure, Headers, Next, Out, Plan, Request, Server, Sleep
from agentkit.client.wire import BROKEN, answer_of, failure_of, make, request_of

__all__ = ["Client"]

P = ParamSpec("P")
T = TypeVar("T")


def _call(plan: Callable[Concatenate[Server, P], Plan[T]]) -> Callable[Concatenate[Client, P], T]:
    """The method that carries a plan out and returns its result."""

    @functools.wraps(plan)
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        steps = self._carry_out(plan(self, *args, **kwargs))
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        raise AssertionError("a plan that returns a result gives nothing out")

    return call


def _iteration(plan: Callable[Concatenate[Server, P], Plan[None]]) -> Callable[Concatenate[Client, P], Iterator[Any]]:
    """The method that iterates over what a plan gives out."""

    @functools.wraps(plan)
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
        return self._carry_out(plan(self, *args, **kwargs))

    return call


class Client(Server):
    """One agentkit server, by its URL. Safe to use from several threads.

    `patience`: seconds for which a call or a stream waits for a server that is away before it raises
    ServerUnreachableError; it may be changed at any time. `timeout`: seconds for one answer. `headers`: sent
    with every request; a mapping, or a function that returns one and is called for each. `transport`: another
    way to the server than the network's (httpx's, such as `httpx.WSGITransport(app)`). Runs are dictionaries
    as the protocol writes them. What the server refuses is an ApiError.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 30.0,
        retry_seconds: float = 60.0,
        headers: Headers | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(url, retry_seconds)
        self._headers = headers or {}
        self._http = make(httpx.Client, self.url, timeout, transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    start = _call(calls.start)
    get = _call(calls.get)
    runs = _iteration(calls.runs)
    resume = _call(calls.resume)
    extend = _call(calls.extend)
    send = _call(calls.send)
    abort = _call(calls.abort)
    delete = _call(calls.delete)
    agents = _call(calls.agents)
    ready = _call(calls.ready)
    events = _iteration(calls.events)

    def _carry_out(self, plan: Plan[T]) -> Generator[Any, None, T]:
        stream: _Stream | None = None
        reply: Any = None
        try:
            while True:
                try:
                    act = plan.send(reply)
                except StopIteration as end:
                    result: T = end.value
                    return result
                reply = None
                match act:
                    case Request():
                        reply, stream = self._send(act)
                    case Next():
                        assert stream is not None
                        reply = stream.next()
                    case Sleep(seconds):
                        time.sleep(seconds)
                    case Out(value):
                        yield value
        finally:
            if stream is not None:
                stream.close()

    def _send(self, act: Request) -> tuple[Answer | Failure, _Stream | None]:
        headers = self._headers() if callable(self._headers) else self._headers
        try:
            response = self._http.send(request_of(self._http, act, headers), stream=True)
            if act.stream and response.status_code == 200:
                return answer_of(response, opened=True), _Stream(response)
            try:
                response.read()
            finally:
                response.close()
            return answer_of(response, opened=False), None
        except BROKEN as error:
            return failure_of(error), None


class _Stream:
    """One open connection's events."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._frames: Iterator[ServerSentEvent] = EventSource(response).iter_sse()

    def next(self) -> str | Failure | None:
        """The data of the next event; None at the end and a Failure where it broke, and it is closed."""
        try:
            for frame in self._frames:
                if frame.data:
                    return frame.data
        except BROKEN as error:
            self.close()
            return failure_of(error)
        self.close()
        return None

    def close(self) -> None:
        self._response.close()
