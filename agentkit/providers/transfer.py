"""One request and its answer on the event loop: its bytes are put into a queue for the reader's thread.

Nothing is done with them here: all calls of a process share the loop, and what comes within a call's pace is cheaper to
read together. Every failure of httpx becomes a ProviderError here. It must not know any vendor's format.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue

import httpx

from agentkit.core.bounds import Bounds
from agentkit.core.event_loop import event_loop
from agentkit.core.masking import mask_log, mask_secrets, url_secrets
from agentkit.core.messages import Json
from agentkit.core.propagation import outgoing_headers
from agentkit.errors import ConfigurationError, ProviderError
from agentkit.providers.body import ACCEPT_ENCODING, BoundedBody
from agentkit.providers.connection import Endpoint
from agentkit.providers.failures import status_error
from agentkit.providers.protocol import Reader
from agentkit.providers.transport import FreshConnection, client_for, connection_error, ended_unanswered

__all__ = ["Head", "HttpRequest", "Transfer", "encoded"]

mask_log("httpx")  # its line for each request shows the whole URL, at -l info

_MOST_UNREAD = 256 * 1024
"""Bytes that may wait for the reader: beyond them no more are read from the vendor."""
_LONGEST_REST = 0.25  # seconds
_REST_SHARE = 0.05  # of the time since the answer began: its end is noticed after a rest, and may be so much later
_PACE_SHARE = 0.25  # of the time for which the vendor may be silent: no piece that waits is taken for silence
_EARLY = 0.002  # seconds by which a timer may be early

_BODY_LIMIT = 64 * 1024  # bytes of a body that describes an error
_BODY_SECONDS = 10.0
_NAME_LENGTH = 100  # characters of a vendor's header that an error quotes
_MOST_STALE = 3  # connections of before that a request tries, and finds closed
_STALE_SECONDS = 2.0  # what is closed later than this after the request was begun, the server may have worked on


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A POST of JSON that a stream answers. A body of bytes, which may be signed, is sent as it is.

    `endpoint`: what the URL and the headers were made of; its own headers stand in front, and its secrets are replaced
    in every error. Timeouts are seconds; the read timeout is of silence, not of the whole, and by default that
    of the `bounds`. `pace` and `reader`: as in ModelRequest.
    """

    vendor: str
    url: str = field(repr=False)
    body: Json | bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    endpoint: Endpoint = field(default_factory=Endpoint)
    bounds: Bounds = field(default_factory=Bounds)
    connect_timeout: float = 10.0
    read_timeout: float | None = None
    pace: Callable[[], float] = lambda: 0.0
    reader: Reader | None = field(default=None, repr=False)

    @property
    def silence_seconds(self) -> float:
        """How long the vendor may send no content."""
        return self.bounds.model_silence_seconds if self.read_timeout is None else self.read_timeout

    def redact(self, text: str) -> str:
        """Replace the secrets in a text, and those in the URL: all of them, parts, and Base64 of them."""
        return mask_secrets(text, [*self.endpoint.secrets, *url_secrets(self.url)])


@dataclass(frozen=True, slots=True)
class Head:
    """What an answer says of its body. `content_type`: without its parameters, in small letters; "" for none."""

    status: int
    content_type: str
    encoding: str


class Transfer:
    """One request and its answer, on the event loop.

    `inbox` is filled with the answer's head and then with its body as it is sent, each time what came together; an
    exception or None is the end. What comes after a batch, within the request's pace as it was then, is put there
    together, since each batch wakes a thread; a piece with one of `last_marks`, and the end, wait for nothing. Where
    the request has a reader, that learns of what it finds there.
    `answered`: whether the answer has begun.
    """

    def __init__(self, request: HttpRequest, content_type: str, last_marks: Sequence[bytes] = ()) -> None:
        self.inbox: SimpleQueue[Head | bytes | Exception | None] = SimpleQueue()
        self.answered = False
        self._request = request
        self.content_type = content_type
        self._last_marks = last_marks
        self._batch: list[bytes] = []
        self._next_put = self._began = float("-inf")
        self._put_later: asyncio.TimerHandle | None = None
        self._read_bytes = self._taken_bytes = 0  # each is counted by one thread alone
        self._is_full = False
        self._has_room = asyncio.Event()
        self._discards = False

    async def run(self) -> None:
        try:
            await self._exchange()
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            self._end(self._connection_error(error))
        except Exception as error:
            self._end(error)
        finally:
            self._end(None)

    def take(self, timeout: float) -> Head | bytes | Exception | None:
        """Take what comes next, in the reader's thread. Raises queue.Empty after so many seconds."""
        item = self.inbox.get(timeout=timeout)
        if isinstance(item, bytes):
            self._taken_bytes += len(item)
            if self._is_full:
                event_loop().call_soon_threadsafe(self._has_room.set)
        return item

    # -- what the transport asks, on the loop (`fast_transport.Collector`)

    def rest_seconds(self) -> float:
        """Return for how long the transport may leave what comes where it is: within the pace, but not long.

        Only what is read can be the end of an answer, or the last of one whose connection stays open.
        """
        if self._discards:
            return 0.0
        now = time.monotonic()
        return min(self._next_put - now, _LONGEST_REST, _REST_SHARE * (now - self._began))

    def put(self, piece: bytes) -> bool:
        """Take a piece of the body; return whether there is room for more."""
        if self._discards:
            return False
        self._batch.append(piece)
        self._read_bytes += len(piece)
        now = time.monotonic()
        late = now - self._next_put
        if any(mark in piece for mark in self._last_marks):
            self._put_batch(hurry=True)
        elif late >= -_EARLY:
            self._put_batch(hurry=late > self._pace())  # the first after a quiet time
        elif self._put_later is None:
            self._put_later = asyncio.get_running_loop().call_later(-late, self._put_batch)
        return self._unread() <= _MOST_UNREAD

    def drain(self) -> None:
        """Read on for a moment without keeping anything, so that the connection can be used again. On the loop."""
        self._discards = True
        self._has_room.set()

    def _pace(self) -> float:
        return min(self._request.pace(), self._request.silence_seconds * _PACE_SHARE)

    def _put_batch(self, *, hurry: bool = False) -> None:
        if self._put_later is not None:
            self._put_later.cancel()
            self._put_later = None
        if self._batch:
            batch = b"".join(self._batch)
            self._batch.clear()
            self.inbox.put(batch)
            self._say(hurry)
            self._next_put = time.monotonic() + self._pace()

    def _say(self, hurry: bool) -> None:
        """Tell the reader that there is something in the inbox."""
        if (reader := self._request.reader) is not None:
            if hurry:
                reader.wake()
            else:
                reader.collected()

    def _end(self, outcome: Exception | None) -> None:
        self._put_batch(hurry=True)
        self.inbox.put(outcome)
        self._say(hurry=True)

    async def _exchange(self) -> None:
        """Send the request and put the answer into the inbox.

        A connection that was kept for the next use may have been closed by the server meanwhile. That shows at once, as
        its end without an answer, and is no failure: the request is sent again on another. Later than that, or after
        the head of an answer, the server may have worked on it, and a second request would be paid as well. A head that
        breaks off half-way cannot be told from none, by either transport.
        """
        client = client_for(self._request.url, self._request.vendor)
        clock = time.monotonic
        for stale in range(_MOST_STALE + 1):
            fresh, began = FreshConnection(), clock()
            try:
                await self._send(client, fresh)
            except httpx.TransportError as error:
                late = clock() - began > _STALE_SECONDS
                if self.answered or fresh.opened or late or stale == _MOST_STALE or not ended_unanswered(error):
                    raise
            else:
                return

    async def _send(self, client: httpx.AsyncClient, fresh: FreshConnection) -> None:
        request = self._request
        async with client.stream(
            "POST",
            request.url,
            content=encoded(request.body),
            headers=_headers(request, self.content_type),
            timeout=httpx.Timeout(request.silence_seconds, connect=request.connect_timeout, pool=None),
            extensions={"trace": fresh, "collector": self},
        ) as response:
            self.answered, self._began = True, time.monotonic()
            await _check(request, response)
            self.inbox.put(_head(response))
            await self._put_body(response)

    async def _put_body(self, response: httpx.Response) -> None:
        async for piece in response.aiter_raw():
            if not self.put(piece) and not self._discards:
                await self._wait_for_room()

    def _unread(self) -> int:
        return self._read_bytes - self._taken_bytes

    async def _wait_for_room(self) -> None:
        self._put_batch(hurry=True)  # for the reader to make room
        self._is_full = True
        while self._unread() > _MOST_UNREAD // 2 and not self._discards:
            self._has_room.clear()
            if self._unread() > _MOST_UNREAD // 2:  # what the reader takes from here on sets it again
                await self._has_room.wait()
        self._is_full = False

    def _connection_error(self, error: Exception) -> ProviderError:
        request = self._request
        failure = connection_error(
            error,
            vendor=request.vendor,
            url=request.url,
            url_setting=request.endpoint.url_setting,
            connect_timeout=request.connect_timeout,
            silence_seconds=request.silence_seconds,
        )
        failure.internal = request.redact(failure.internal or "") or None
        return failure


def _headers(request: HttpRequest, content_type: str) -> httpx.Headers:
    """Join the headers. Names are compared without their case, so that each is sent once."""
    ours = {"content-type": "application/json", "accept": content_type, "accept-encoding": ACCEPT_ENCODING}
    headers = httpx.Headers({**outgoing_headers.get({}), **ours, **request.headers})
    headers.update(request.endpoint.headers)
    return headers


def encoded(body: Json | bytes) -> bytes:
    """Return the bytes of a request's body. Raises ConfigurationError for what is no JSON."""
    if isinstance(body, bytes):
        return body
    try:
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the model's options must be JSON: {error}") from error


async def _check(request: HttpRequest, response: httpx.Response) -> None:
    """Raise unless the request was accepted."""
    if response.status_code != 200:
        raise status_error(
            request.vendor,
            response.status_code,
            response.headers,
            request.redact(await _body(response)),
            key_setting=request.endpoint.key_setting,
            url_setting=request.endpoint.url_setting,
        )


async def _body(response: httpx.Response) -> str:
    """Read the beginning of a body that describes an error; as much as came where it breaks off."""
    body = b""
    with suppress(httpx.HTTPError, ProviderError, TimeoutError):
        encoding = response.headers.get("content-encoding", "")
        bounded = BoundedBody(encoding, "", answer_bytes=_BODY_LIMIT, line_bytes=_BODY_LIMIT)
        async with asyncio.timeout(_BODY_SECONDS):
            async for raw in response.aiter_raw():
                for piece in bounded.feed(raw):
                    body += piece
    return body.decode(errors="replace")


def _head(response: httpx.Response) -> Head:
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()[:_NAME_LENGTH]
    return Head(response.status_code, content_type, response.headers.get("content-encoding", ""))
