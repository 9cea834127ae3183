"""Plans: what a client does, step by step, without I/O.

A plan is a generator. It yields the next action and is sent that action's outcome; it returns the call's result, or
raises the call's error. The clients that execute plans need no knowledge of the protocol.

| action | outcome |
| --- | --- |
| `Request` | an `Answer`, or a `Failure` where none came. With `stream`, the body of a 200 is left open |
| `Next` | the data of the open stream's next event, None at its end, or a `Failure`; the last two close it |
| `Sleep` | None |
| `Emit` | None: its value is the next that the caller's iteration gets |
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from agentkit.core.backoff import Backoff
from agentkit.core.messages import Json
from agentkit.errors import AgentKitError

__all__ = [
    "MAX_DELAY_SECONDS",
    "Answer",
    "ApiError",
    "Failure",
    "Headers",
    "Next",
    "Emit",
    "Plan",
    "Request",
    "Server",
    "ServerUnreachableError",
    "Sleep",
    "Retries",
    "ask",
    "checked",
    "problem",
]

T = TypeVar("T")

Headers: TypeAlias = Mapping[str, str] | Callable[[], Any]
"""Headers of every request: a mapping, or a function that returns one and is called for each request."""

_UNAVAILABLE_STATUSES = (502, 503, 504)
MAX_DELAY_SECONDS = 2.0
_BACKOFF = Backoff(base=0.2, cap=MAX_DELAY_SECONDS)
_MAX_RETRY_AFTER_SECONDS = 30.0
"""A longer Retry-After counts as this."""


class ApiError(AgentKitError):
    """The server refused the request.

    `status`: the HTTP status. `code`: the protocol's error code. `detail`: a sentence for people. `errors`:
    `[{path, message}]`, where a value does not satisfy its schema; `path` is a JSON Pointer.
    """

    def __init__(self, status: int, code: str, detail: str, errors: list[Json] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code  # type: ignore[misc]  # other classes have one code each, here the server's answer decides
        self.detail = detail
        self.errors: list[Json] = errors or []


class ServerUnreachableError(AgentKitError):
    """The server cannot be reached."""

    code = "server_unreachable"


# -- actions and their outcomes


@dataclass(frozen=True, slots=True)
class Request:
    """`timeout`: seconds without a byte after which the request has failed; None is the client's default."""

    method: str
    path: str
    body: Json | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Next:
    pass


@dataclass(frozen=True, slots=True)
class Sleep:
    seconds: float


@dataclass(frozen=True, slots=True)
class Emit:
    value: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """`headers` by names in lower case; `body` is empty where a stream was left open."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Decode the body. Raises ValueError where it is not JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer came.

    `transient` is False where a retry must fail too.
    `silent`: the connection was open, and nothing arrived on it within the timeout.
    """

    reason: str
    transient: bool = True
    silent: bool = False


Plan: TypeAlias = Generator[Request | Next | Sleep | Emit, Any, T]


# -- the server, and retries


class Server:
    """What plans may know of the client that executes them: the server's URL and how long to retry."""

    def __init__(self, url: str, retry_seconds: float) -> None:
        self.url = url.rstrip("/")
        self.retry_seconds = retry_seconds

    def unreachable(self, failure: Failure) -> ServerUnreachableError:
        """Make the error for a request that got no answer."""
        return ServerUnreachableError(f"no server answers at {self.url} ({failure.reason})")


class Retries:
    """The waits between retries while a server is unavailable, within the client's `retry_seconds`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.reset()

    def reset(self) -> None:
        """Start again from the shortest wait: the server has answered."""
        self._since: float | None = None
        self._attempt = 0

    def wait(self, error: ServerUnreachableError, retry_after: float = 0.0) -> Plan[None]:
        """Sleep before the next attempt, `retry_after` seconds at least.

        Raises `error` where that would exceed `retry_seconds` since the first failure.
        """
        now = time.monotonic()
        if self._since is None:
            self._since = now
        self._attempt += 1
        seconds = max(_BACKOFF.delay(self._attempt), min(retry_after, _MAX_RETRY_AFTER_SECONDS))
        if now - self._since + seconds > self._server.retry_seconds:
            raise error
        yield Sleep(seconds)


# -- requests, and what their answers mean


def ask(server: Server, request: Request, *, retries: Retries | None = None) -> Plan[Answer]:
    """Send a request until it succeeds, and return its answer (a status below 300).

    It may reach the server several times, also after one time that was carried out: its effect must be that of one.
    `retries`: to share `retry_seconds` with other requests. Raises ApiError where the server refuses,
    ServerUnreachableError where it stays unavailable.
    """
    retries = retries or Retries(server)
    while True:
        reply: Answer | Failure = yield request
        if isinstance(reply, Failure):
            error, retry_after = server.unreachable(reply), 0.0
            if not reply.transient:
                raise error
        elif reply.status in _UNAVAILABLE_STATUSES:
            error = ServerUnreachableError(f"{server.url} is not available: {problem(server, reply).detail}")
            retry_after = _seconds(reply.headers.get("retry-after", ""))
        elif reply.status >= 300:
            raise problem(server, reply)
        else:
            return reply
        yield from retries.wait(error, retry_after)


def checked(server: Server, answer: Answer) -> Any:
    """Decode the JSON of an answer. Raises ApiError `not_agentkit` where it is none."""
    try:
        return answer.json()
    except ValueError as error:
        text = f"{server.url} answered {answer.status} without JSON: is it an agentkit server?"
        raise ApiError(answer.status, "not_agentkit", text) from error


def problem(server: Server, answer: Answer) -> ApiError:
    """Make the error of an answer that is not a success, from its problem document if it has one."""
    status = answer.status
    try:
        body = answer.json()
        return ApiError(status, body["code"], body.get("detail") or body.get("title", ""), body.get("errors"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ApiError(
            status,
            "not_agentkit",
            f"{server.url} answered {status} without a problem document: is it an agentkit server?",
        )


def _seconds(retry_after: str) -> float:
    """Parse a Retry-After as seconds; its other form, a date, counts as 0."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
