"""Plans: what a client does, step by step, with no I/O in it.

A plan is a generator. It yields what is to be done next (an act) and is sent what came of it; it returns the
call's result, or raises what the call raises. Whoever carries it out needs no knowledge of the protocol.

| act | is answered by |
| --- | --- |
| `Request` | an `Answer`, or a `Failure` where none came. One with `stream` leaves its body open, if it is a 200 |
| `Next` | the data of the open stream's next event, None at its end, or a `Failure`; the last two close it |
| `Sleep` | None |
| `Out` | None: its value is the next of what the caller iterates over |
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from agentkit.core.messages import Json
from agentkit.errors import AgentKitError

__all__ = [
    "LONGEST_WAIT",
    "Answer",
    "ApiError",
    "Failure",
    "Headers",
    "Next",
    "Out",
    "Plan",
    "Request",
    "Server",
    "ServerUnreachableError",
    "Sleep",
    "Waiting",
    "ask",
    "checked",
    "problem",
]

T = TypeVar("T")

Headers: TypeAlias = Mapping[str, str] | Callable[[], Any]
"""Headers of every request: as they are, or a function that gives them anew for each (a token that expires)."""

_AWAY = (502, 503, 504)
_FIRST_WAIT, LONGEST_WAIT = 0.1, 2.0
_LONGEST_ASKED = 30.0
"""A server that asks for more retry_seconds than this is tried all the same."""


class ApiError(AgentKitError):
    """The server refused.

    `status`: the HTTP status. `code`: the protocol's error code. `detail`: a sentence. `errors`:
    `[{path, message}]`, where a value missed its schema.
    """

    def __init__(self, status: int, code: str, detail: str, errors: list[Json] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code  # type: ignore[misc]  # elsewhere a class has one code, here the server says which
        self.detail = detail
        self.errors: list[Json] = errors or []


class ServerUnreachableError(AgentKitError):
    """The server cannot be reached."""

    code = "server_unreachable"


# -- acts, and what comes of them


@dataclass(frozen=True, slots=True)
class Request:
    """`timeout`: seconds of silence after which it has failed; None is the client's own."""

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
class Out:
    value: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """`headers` by names in lower case; `body` is empty where a stream was left open."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Raises ValueError."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer came.

    `sent` is False where the request certainly did not reach the server, `passes` where waiting mends nothing.
    `silent`: the connection stood, and nothing came on it for too long.
    """

    reason: str
    sent: bool = True
    passes: bool = True
    silent: bool = False


Plan: TypeAlias = Generator[Request | Next | Sleep | Out, Any, T]


# -- the server, and retry_seconds with it


class Server:
    """What plans may know of the client that carries them out."""

    def __init__(self, url: str, retry_seconds: float) -> None:
        self.url = url.rstrip("/")
        self.retry_seconds = retry_seconds

    def unreachable(self, failure: Failure) -> ServerUnreachableError:
        return ServerUnreachableError(f"no server answers at {self.url} ({failure.reason})")


class Waiting:
    """Longer and longer waits for a server that is away, within its client's retry_seconds."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.over()

    def over(self) -> None:
        """The server answers again."""
        self._since: float | None = None
        self._next = _FIRST_WAIT

    def wait(self, error: ServerUnreachableError, asked: float = 0.0) -> Plan[None]:
        """Wait, at least the `asked` seconds; raise `error` where that would take too long."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        seconds = max(self._next, min(asked, _LONGEST_ASKED))
        if now - self._since + seconds > self._server.retry_seconds:
            raise error
        yield Sleep(seconds)
        self._next = min(self._next * 2, LONGEST_WAIT)


# -- asking, and what an answer means


def ask(server: Server, request: Request, *, repeatable: bool = True, waiting: Waiting | None = None) -> Plan[Answer]:
    """The good answer to a request. One that is not `repeatable` is sent again only where nothing came of it.

    Raises ApiError and, once retry_seconds ends, ServerUnreachableError. `waiting`: where the retry_seconds is not this
    request's alone.
    """
    waiting = waiting or Waiting(server)
    while True:
        reply: Answer | Failure = yield request
        if isinstance(reply, Failure):
            error, asked, done = server.unreachable(reply), 0.0, reply.sent
            if not reply.passes:
                raise error
        elif reply.status in _AWAY:
            error = ServerUnreachableError(f"{server.url} is not available: {problem(server, reply).detail}")
            # A proxy's 502 or 504 may stand for an answer that got lost; a 503 has done nothing.
            asked, done = _seconds(reply.headers.get("retry-after", "")), reply.status != 503
        elif reply.status >= 300:
            raise problem(server, reply)
        else:
            return reply
        if done and not repeatable:
            raise error
        yield from waiting.wait(error, asked)


def checked(server: Server, answer: Answer) -> Any:
    """The JSON of a good answer."""
    try:
        return answer.json()
    except ValueError as error:
        text = f"{server.url} answers with no JSON: is it an agentkit server?"
        raise ApiError(answer.status, "not_agentkit", text) from error


def problem(server: Server, answer: Answer) -> ApiError:
    """The error that a problem document, or whatever else came, stands for."""
    status = answer.status
    try:
        body = answer.json()
        return ApiError(status, body["code"], body.get("detail") or body.get("title", ""), body.get("errors"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ApiError(status, "not_agentkit", f"{server.url} answered {status} without a problem document")


def _seconds(retry_after: str) -> float:
    """A Retry-After in seconds; its other form, a date, counts as none."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
