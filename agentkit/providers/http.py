"""The narrow seam to httpx: one streamed POST, read as an ordinary iterator by the step's thread.

The request runs as a task on the process's event loop, because only a task can be cancelled while the vendor is silent:
closing a response from another thread waits for its next chunk. The task puts what it reads into a queue; the thread
takes it out, and measures how long there was no content. Every failure of httpx, and every bound that the answer
exceeds, becomes a ProviderError here. This module must not know any vendor's format.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Container, Generator, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Generic, Self, TypeVar

import httpx
from httpx_sse import ServerSentEvent

from agentkit.core.bounds import Bounds
from agentkit.core.cancellation import Cancellation
from agentkit.core.event_loop import event_loop, submit
from agentkit.core.masking import mask_log, mask_secrets, url_secrets
from agentkit.core.messages import Json
from agentkit.errors import AgentKitError, ConfigurationError, ProviderError
from agentkit.providers.body import ACCEPT_ENCODING, BoundedBody
from agentkit.providers.connection import Endpoint
from agentkit.providers.failures import status_error, vendor_message
from agentkit.providers.framing import NotAStreamError, json_lines, sse_events, text_of_body
from agentkit.providers.protocol import BlockEnd, Finish, Part, TextDelta, ThinkingDelta, ToolCallDelta
from agentkit.providers.transport import FreshConnection, client_for, connection_error

__all__ = ["Answer", "HttpRequest", "answer_parts", "encoded", "stream_binary", "stream_lines", "stream_sse"]

T = TypeVar("T")

mask_log("httpx")  # its line for each request shows the whole URL, at -l info

_WINDOW = 256  # items that may wait for the reader: beyond them no more are read from the vendor
_CREDIT = 64  # items that the reader takes before it widens the window again, which wakes the event loop
_BODY_LIMIT = 64 * 1024  # bytes of a body that describes an error
_BODY_SECONDS = 10.0
_NAME_LENGTH = 100  # characters of a vendor's header that an error quotes
_DRAIN_SECONDS = 1.0
_LINGER_SECONDS = 0.05
_UNAUTHORIZED = 401
_MOST_STALE = 3  # connections of before that a request tries, and finds closed


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A POST of JSON that a stream answers. A body of bytes, which may be signed, is sent as it is.

    `endpoint`: what the URL and the headers were made of; its own headers stand in front, and its secrets are replaced
    in every error. Timeouts are seconds; the read timeout is of silence, not of the whole, and by default that
    of the `bounds`.
    """

    vendor: str
    url: str = field(repr=False)
    body: Json | bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    endpoint: Endpoint = field(default_factory=Endpoint)
    bounds: Bounds = field(default_factory=Bounds)
    connect_timeout: float = 10.0
    read_timeout: float | None = None

    @property
    def silence_seconds(self) -> float:
        """How long the vendor may send no content."""
        return self.bounds.model_silence_seconds if self.read_timeout is None else self.read_timeout

    def redact(self, text: str) -> str:
        """Replace the secrets in a text, and those in the URL: all of them, parts, and Base64 of them."""
        return mask_secrets(text, [*self.endpoint.secrets, *url_secrets(self.url)])


def answer_parts(
    request: HttpRequest,
    cancel: Cancellation,
    answer: Answer[T],
    decode: Callable[[Iterable[T], str], Iterator[Part]],
) -> Generator[Part, None, None]:
    """Yield the parts that `decode` makes of an answer's items, as `Provider.stream` has it.

    The answer is closed at the end. Each part is content: what a vendor sends without any is silence. Whatever fails is
    a ProviderError with the vendor's name, without the secrets.
    """
    try:
        with closing(answer):
            for part in decode(answer, request.vendor):
                _check_texts(part)
                answer.content_came()
                yield part
    except ProviderError as error:
        if cancel.cancelled:
            return
        if error.status == _UNAUTHORIZED:
            request.endpoint.forget_key()
        error.args = (request.redact(error.message),)
        raise
    except AgentKitError:
        raise
    except Exception as error:
        raise ProviderError(f"{request.vendor} sent an answer of an unknown shape", vendor=request.vendor) from error


def _check_texts(part: Part) -> None:
    """Raise TypeError where a vendor sent something else for a text."""
    match part:
        case TextDelta(text):
            texts = [text]
        case ThinkingDelta(text, signature):
            texts = [text, signature or ""]
        case BlockEnd():
            texts = []
        case ToolCallDelta(_, call_id, name, arguments):
            texts = [call_id, name, arguments]
        case Finish(_, _, model):
            texts = [model or ""]
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"a text is {type(text).__name__}")


def stream_sse(
    request: HttpRequest,
    cancel: Cancellation,
    *,
    is_last: Callable[[str], bool] = lambda _: False,
    last_events: Container[str] = (),
) -> Answer[ServerSentEvent]:
    """Iterate over the answer's server-sent events; one of `last_events`, or of whose data `is_last`, is the last."""

    def ends(event: ServerSentEvent) -> bool:
        return event.event in last_events or is_last(event.data)

    return Answer(request, cancel, "text/event-stream", sse_events, ends)


def stream_lines(request: HttpRequest, cancel: Cancellation, *, content_type: str) -> Answer[str]:
    """Iterate over the lines of an answer of `content_type`. Only a line feed ends a line, and none is empty."""
    return Answer(request, cancel, content_type, json_lines, lambda _: False)


def stream_binary(
    request: HttpRequest,
    cancel: Cancellation,
    *,
    content_type: str,
    read: Callable[[AsyncIterable[bytes]], AsyncIterator[T]],
    is_last: Callable[[T], bool],
) -> Answer[T]:
    """Iterate over what `read` makes of an answer that is no text. What its pieces may be is for `read` to bound."""

    async def read_labelled(body: AsyncIterable[bytes], labelled: bool) -> AsyncIterator[T]:
        if not labelled:
            raise NotAStreamError(await text_of_body(body))
        async for item in read(body):
            yield item

    return Answer(request, cancel, content_type, read_labelled, is_last, has_lines=False)


Reader = Callable[[AsyncIterable[bytes], bool], AsyncIterator[T]]
"""Splits a body into items. The flag: whether the answer's content type is the one that was asked for."""


class Answer(Generic[T]):
    """The items of a vendor's answer, read while they are iterated over, once.

    Raises ProviderError for whatever the vendor or the network does wrong, and beyond the request's bounds; the time
    that the reader takes between two items does not count as the vendor's silence. Ends at once when `cancel` fires;
    that, or `close`, closes the connection.
    """

    def __init__(
        self,
        request: HttpRequest,
        cancel: Cancellation,
        content_type: str,
        read: Reader[T],
        is_last: Callable[[T], bool],
        *,
        has_lines: bool = True,
    ) -> None:
        self._request = request
        self._cancel = cancel
        self._transfer = _Transfer(request, content_type, read, is_last, has_lines)
        self._items = self._iterate()
        self._waited = 0.0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return next(self._items)

    def close(self) -> None:
        """Read no more."""
        self._items.close()

    def content_came(self) -> None:
        """Count the silence from here."""
        self._waited = 0.0

    def _iterate(self) -> Generator[T, None, None]:
        """Yield what the transfer puts into the inbox; None is the end, an exception is raised here."""
        transfer, inbox = self._transfer, self._transfer.inbox
        task = submit(transfer.run())

        def stop() -> None:
            task.cancel()
            inbox.put(None)

        remove_callback = self._cancel.on_cancel(stop)
        taken, ended = 0, False
        try:
            while True:
                item = self._take()
                if item is None:
                    ended = True
                    return
                if self._cancel.cancelled:
                    return
                if isinstance(item, Exception):
                    raise item
                yield item
                taken += 1
                if taken % _CREDIT == 0:
                    event_loop().call_soon_threadsafe(_widen, transfer.window)
        finally:
            remove_callback()
            if not ended:  # after the end, the task may still tidy the connection for its next use
                # It has a moment for that here too: who has read all that matters need not wait for the end.
                event_loop().call_soon_threadsafe(event_loop().call_later, _LINGER_SECONDS, task.cancel)

    def _take(self) -> T | Exception | None:
        """Take the next thing out of the inbox; a ProviderError where there was no content for too long."""
        request, began = self._request, time.monotonic()
        while True:
            # Until the headers have come, the connection's own timeouts say better what is wrong.
            limit = request.silence_seconds + (0.0 if self._transfer.answered else request.connect_timeout)
            waited = self._waited + time.monotonic() - began
            try:
                item = self._transfer.inbox.get(timeout=max(0.0, limit - waited))
            except Empty:
                if self._transfer.answered and limit > request.silence_seconds:
                    continue  # the headers came meanwhile
                return ProviderError(
                    f"{request.vendor}: silent for {request.silence_seconds:g} s (keepalives are no content)",
                    retryable=True,
                    vendor=request.vendor,
                    internal="the bound is AGENTKIT_MODEL_SILENCE_SECONDS, or the agent's read_timeout",
                )
            self._waited += time.monotonic() - began
            return item


def _widen(window: asyncio.Semaphore) -> None:
    for _ in range(_CREDIT):
        window.release()


class _Transfer(Generic[T]):
    """One request and its answer, on the event loop. `inbox` is filled, and ended whatever happens.

    `window`: how many items more may be put there. `answered`: whether the answer has begun.
    """

    def __init__(
        self,
        request: HttpRequest,
        content_type: str,
        read: Reader[T],
        is_last: Callable[[T], bool],
        has_lines: bool,
    ) -> None:
        self.inbox: SimpleQueue[T | Exception | None] = SimpleQueue()
        self.window = asyncio.Semaphore(_WINDOW)
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
            self.inbox.put(self._connection_error(error))
        except Exception as error:
            self.inbox.put(error)
        finally:
            self.inbox.put(None)

    async def _exchange(self) -> None:
        """Send the request and put the answer's items into the inbox.

        A connection that was kept for the next use may have been closed by the server meanwhile. That shows as its end
        without an answer, and is no failure: the request is sent again on another.
        """
        client = client_for(self._request.url, self._request.vendor)
        for stale in range(_MOST_STALE + 1):
            fresh = FreshConnection()
            try:
                await self._send(client, fresh)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError, httpx.CloseError):
                if self.answered or fresh.opened or stale == _MOST_STALE:
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
                await self.window.acquire()
                self.inbox.put(item)
                if self._is_last(item):
                    self.inbox.put(None)
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
