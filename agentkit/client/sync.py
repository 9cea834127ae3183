"""The client that blocks. It executes plans and knows nothing of the protocol."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx
from httpx_sse import EventSource, ServerSentEvent

from agentkit.client import calls
from agentkit.client.plans import Answer, Emit, Failure, Headers, Next, Plan, Request, Server, Sleep
from agentkit.client.wire import BROKEN, answer_of, failure_of, http_client, request_of

__all__ = ["Client"]

P = ParamSpec("P")
T = TypeVar("T")


def _call(plan: Callable[Concatenate[Server, P], Plan[T]]) -> Callable[Concatenate[Client, P], T]:
    """Make a method that executes a plan and returns its result."""

    @functools.wraps(plan)
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        steps = self._execute(plan(self, *args, **kwargs))
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        raise AssertionError("a plan that returns a result emits no value")

    return call


def _iteration(plan: Callable[Concatenate[Server, P], Plan[None]]) -> Callable[Concatenate[Client, P], Iterator[Any]]:
    """Make a method that iterates over the values that a plan emits."""

    @functools.wraps(plan)
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
        return self._execute(plan(self, *args, **kwargs))

    return call


class Client(Server):
    """Call one agentkit server over HTTP. Safe to use from several threads.

    `url`: the server's, with the path where it is mounted. `timeout`: seconds to wait for one answer. `retry_seconds`:
    how long a call or a stream is retried while the server is unavailable, before it raises ServerUnreachableError;
    0 for no retry, and it may be changed at any time. `headers`: sent with every request; a mapping, or a function that
    returns one and is called for each request (for a token that expires). `transport`: an httpx transport in place of
    the network's, such as `httpx.WSGITransport(app)`.

    Runs, events and agents are dictionaries as in the HTTP API (`GET /openapi.json`). Raises ServerUnreachableError
    where `url` is not a URL. Every method raises ApiError where the server refuses.
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
        self._http = http_client(httpx.Client, self.url, timeout, transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

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

    def _execute(self, plan: Plan[T]) -> Generator[Any, None, T]:
        stream: _Stream | None = None
        reply: Any = None
        try:
            while True:
                try:
                    action = plan.send(reply)
                except StopIteration as end:
                    result: T = end.value
                    return result
                reply = None
                match action:
                    case Request():
                        reply, stream = self._send(action)
                    case Next():
                        assert stream is not None
                        reply = stream.next()
                    case Sleep(seconds):
                        time.sleep(seconds)
                    case Emit(value):
                        yield value
        finally:
            if stream is not None:
                stream.close()

    def _send(self, action: Request) -> tuple[Answer | Failure, _Stream | None]:
        headers = self._headers() if callable(self._headers) else self._headers
        try:
            response = self._http.send(request_of(self._http, action, headers), stream=True)
            if action.stream and response.status_code == 200:
                return answer_of(response, opened=True), _Stream(response)
            try:
                response.read()
            finally:
                response.close()
            return answer_of(response, opened=False), None
        except BROKEN as error:
            return failure_of(error), None


class _Stream:
    """The events of one open connection."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._frames: Iterator[ServerSentEvent] = EventSource(response).iter_sse()

    def next(self) -> str | Failure | None:
        """Return the data of the next event, None at the end, or a Failure where it broke; both close it."""
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
