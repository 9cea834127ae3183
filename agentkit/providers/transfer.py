"""One request and its answer on the event loop: what becomes of it is put into a queue for the reader's thread.

Every failure of httpx, and every bound that the answer exceeds, becomes a ProviderError here. It must not know any
vendor's format.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Generic, TypeVar

import httpx

from agentkit.core.bounds import Bounds
from agentkit.core.masking import mask_log, mask_secrets, url_secrets
from agentkit.core.messages import Json
from agentkit.errors import ConfigurationError, ProviderError
from agentkit.providers.body import ACCEPT_ENCODING, BoundedBody
from agentkit.providers.connection import Endpoint
from agentkit.providers.failures import status_error, vendor_message
from agentkit.providers.framing import NotAStreamError
from agentkit.providers.transport import FreshConnection, client_for, connection_error, ended_unanswered

__all__ = ["CREDIT", "HttpRequest", "Reader", "Transfer", "encoded"]

T = TypeVar("T")

mask_log("httpx")  # its line for each request shows the whole URL, at -l info

_WINDOW = 1024  # items that may wait for the reader: beyond them no more are read from the vendor
CREDIT = 256
"""Items that the reader takes before it widens the window again, which wakes the event loop."""

_BODY_LIMIT = 64 * 1024  # bytes of a body that describes an error
_BODY_SECONDS = 10.0
_NAME_LENGTH = 100  # characters of a vendor's header that an error quotes
_DRAIN_SECONDS = 1.0
_MOST_STALE = 3  # connections of before that a request tries, and finds closed
_STALE_SECONDS = 2.0  # what is closed later than this after the request was begun, the server may have worked on


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A POST of JSON that a stream answers. A body of bytes, which may be signed, is sent as it is.

    `endpoint`: what the URL and the headers were made of; its own headers stand in front, and its secrets are replaced
    in every error. Timeouts are seconds; the read timeout is of silence, not of the whole, and by default that
    of the `bounds`. `pace`: as in ModelRequest.
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

    @property
    def silence_seconds(self) -> float:
        """How long the vendor may send no content."""
        return self.bounds.model_silence_seconds if self.read_timeout is None else self.read_timeout

    def redact(self, text: str) -> str:
        """Replace the secrets in a text, and those in the URL: all of them, parts, and Base64 of them."""
        return mask_secrets(text, [*self.endpoint.secrets, *url_secrets(self.url)])


Reader = Callable[[AsyncIterable[bytes], bool], AsyncIterator[T]]
"""Splits a body into items. The flag: whether the answer's content type is the one that was asked for."""


class Transfer(Generic[T]):
    """One request and its answer, on the event loop. `inbox` is filled with what came, and ended by None.

    What comes within the request's pace after the batch before is put there together: each batch wakes a thread.
    `widen` lets more be read. `answered`: whether the answer has begun.
    """

    def __init__(
        self,
        request: HttpRequest,
        content_type: str,
        read: Reader[T],
        is_last: Callable[[T], bool],
        has_lines: bool,
    ) -> None:
        self.inbox: SimpleQueue[list[T] | Exception | None] = SimpleQueue()
        self._room = _WINDOW
        self._has_room = asyncio.Event()
        self._batch: list[T] = []
        self._last_put = float("-inf")
        self._put_later: asyncio.TimerHandle | None = None
        self.answered = False
        self._request = request
        self._content_type = content_type
        self._read = read
        self._is_last = is_last
        self._has_lines = has_lines

    async def run(self) -> None:
        try:
            await self._exchange()
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            self._end(self._connection_error(error))
        except Exception as error:
            self._end(error)
        finally:
            self._end(None)

    def widen(self) -> None:
        """Let as many more items be read as the reader takes at once. On the event loop."""
        self._room += CREDIT
        self._has_room.set()

    def _put(self, item: T) -> None:
        self._batch.append(item)
        if self._put_later is None:
            loop = asyncio.get_running_loop()
            at = self._last_put + self._request.pace()
            if loop.time() >= at:
                self._put_batch()
            else:
                self._put_later = loop.call_at(at, self._put_batch)

    def _put_batch(self) -> None:
        if self._put_later is not None:
            self._put_later.cancel()
            self._put_later = None
        if self._batch:
            self.inbox.put(self._batch)
            self._batch = []
            self._last_put = asyncio.get_running_loop().time()

    def _end(self, outcome: Exception | None) -> None:
        self._put_batch()
        self.inbox.put(outcome)

    async def _exchange(self) -> None:
        """Send the request and put the answer's items into the inbox.

        A connection that was kept for the next use may have been closed by the server meanwhile. That shows at once, as
        its end without an answer, and is no failure: the request is sent again on another. Later than that, or after
        the head of an answer, the server may have worked on it, and a second request would be paid as well. A head that
        breaks off half-way cannot be told from none, by either transport.
        """
        client = client_for(self._request.url, self._request.vendor)
        clock = asyncio.get_running_loop().time
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
            headers=_headers(request, self._content_type),
            timeout=httpx.Timeout(request.silence_seconds, connect=request.connect_timeout, pool=None),
            extensions={"trace": fresh},
        ) as response:
            self.answered = True
            await _check(request, response)
            await self._put_items(response)

    async def _put_items(self, response: httpx.Response) -> None:
        request, bounds = self._request, self._request.bounds
        received_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()[:_NAME_LENGTH]
        body = BoundedBody(
            response,
            request.vendor,
            answer_bytes=bounds.model_answer_bytes,
            line_bytes=bounds.model_line_bytes if self._has_lines else None,
        )
        items = self._read(body, received_type == self._content_type)
        try:
            async for item in items:
                while self._room == 0:
                    self._put_batch()  # for the reader to make room
                    self._has_room.clear()
                    await self._has_room.wait()
                self._room -= 1
                self._put(item)
                if self._is_last(item):
                    self._end(None)
                    await _drain(items)
                    return
        except NotAStreamError as error:
            error_text = vendor_message(request.redact(error.text)) or "nothing"
            raise ProviderError(
                f"{request.vendor} answered with {received_type or 'no content type'} instead of {self._content_type}: "
                f"{error_text}",
                status=response.status_code,
                vendor=request.vendor,
                internal=f"check {request.endpoint.url_setting}",
            ) from None

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
    headers = httpx.Headers({**ours, **request.headers})
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
    pieces = BoundedBody(response, "", answer_bytes=_BODY_LIMIT, line_bytes=_BODY_LIMIT)
    body = b""
    with suppress(httpx.HTTPError, ProviderError, TimeoutError):
        async with asyncio.timeout(_BODY_SECONDS):
            async for piece in pieces:
                body += piece
    return body.decode(errors="replace")


async def _drain(items: AsyncIterator[T]) -> None:
    """Read to the end of the body, so that the connection can be used again; without it where that takes too long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in items:
                pass
