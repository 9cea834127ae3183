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
from collections.abc import AsyncIterator, Callable, Container, Generator, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Generic, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from httpx_sse import EventSource, ServerSentEvent

from agentkit.core.bounds import Bounds
from agentkit.core.cancellation import Cancellation
from agentkit.core.event_loop import event_loop, submit
from agentkit.core.masking import mask_log, mask_secrets, url_secrets
from agentkit.core.messages import Json
from agentkit.errors import AgentKitError, ConfigurationError, ProviderError
from agentkit.providers.body import ACCEPT_ENCODING, BoundedBody
from agentkit.providers.connection import Endpoint
from agentkit.providers.failures import status_error, vendor_message
from agentkit.providers.protocol import BlockEnd, Finish, Part, TextDelta, ThinkingDelta, ToolCallDelta

__all__ = ["Answer", "HttpRequest", "answer_parts", "encoded", "stream_binary", "stream_lines", "stream_sse"]

T = TypeVar("T")

mask_log("httpx")  # its line for each request shows the whole URL, at -l info

_WINDOW = 256  # items that may wait for the reader: beyond them no more are read from the vendor
_CREDIT = 64  # items that the reader takes before it widens the window again, which wakes the event loop
_BODY_LIMIT = 64 * 1024  # bytes of a body that describes an error
_BODY_SECONDS = 10.0
_NAME_LENGTH = 100  # characters of a vendor's header that an error quotes
_DRAIN_SECONDS = 1.0
_UNAUTHORIZED = 401


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

    def read(body: httpx.Response) -> AsyncIterator[ServerSentEvent]:
        return EventSource(body).aiter_sse()

    def ends(event: ServerSentEvent) -> bool:
        return event.event in last_events or is_last(event.data)

    return Answer(request, cancel, "text/event-stream", read, ends)


def stream_lines(request: HttpRequest, cancel: Cancellation, *, content_type: str) -> Answer[str]:
    """Iterate over the lines of an answer of `content_type`. Only a line feed ends a line, and none is empty."""
    return Answer(request, cancel, content_type, _lines, lambda _: False)


def stream_binary(
    request: HttpRequest,
    cancel: Cancellation,
    *,
    content_type: str,
    read: Callable[[httpx.Response], AsyncIterator[T]],
    is_last: Callable[[T], bool],
) -> Answer[T]:
    """Iterate over what `read` makes of an answer that is no text. What its pieces may be is for `read` to bound."""
    return Answer(request, cancel, content_type, read, is_last, has_lines=False)


async def _lines(body: httpx.Response) -> AsyncIterator[str]:
    # Not httpx's aiter_lines: that also splits at U+2028 and others, which JSON allows inside strings.
    begun: list[str] = []  # the pieces of the line so far: adding them up each time takes long where lines are
    async for text in body.aiter_text():
        first, *others = text.split("\n")
        begun.append(first)
        for other in others:
            if (line := "".join(begun)).strip():
                yield line
            begun = [other]
    if (line := "".join(begun)).strip():
        yield line


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
        read: Callable[[httpx.Response], AsyncIterator[T]],
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
                task.cancel()

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
        read: Callable[[httpx.Response], AsyncIterator[T]],
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
        request = self._request
        try:
            async with _client().stream(
                "POST",
                request.url,
                content=encoded(request.body),
                headers=_headers(request, self._content_type),
                timeout=httpx.Timeout(request.silence_seconds, connect=request.connect_timeout, pool=None),
            ) as response:
                self.answered = True
                await _check(request, response, self._content_type)
                await self._put_items(_bounded(request, response, self._content_type, self._has_lines))
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            self.inbox.put(_connection_error(request, error))
        except Exception as error:
            self.inbox.put(error)
        finally:
            self.inbox.put(None)

    async def _put_items(self, body: httpx.Response) -> None:
        items = self._read(body)
        async for item in items:
            await self.window.acquire()
            self.inbox.put(item)
            if self._is_last(item):
                self.inbox.put(None)
                await _drain(items)
                return


def _bounded(request: HttpRequest, response: httpx.Response, content_type: str, has_lines: bool) -> httpx.Response:
    """Return a response of the decompressed body, whose reading raises ProviderError beyond the bounds."""
    bounds = request.bounds
    body = BoundedBody(
        response,
        request.vendor,
        answer_bytes=bounds.model_answer_bytes,
        line_bytes=bounds.model_line_bytes if has_lines else None,
    )
    # Server-sent events and lines of JSON are UTF-8, whatever the header says, and EventSource wants this spelling.
    return httpx.Response(200, headers={"content-type": f"{content_type}; charset=utf-8"}, stream=body)


_pool: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None


def _client() -> httpx.AsyncClient:
    """Return the process's client. It belongs to its loop: a forked child has a new loop, so it gets a new client."""
    global _pool
    loop = asyncio.get_running_loop()
    if _pool is None or _pool[0] is not loop:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30.0)
        _pool = loop, httpx.AsyncClient(limits=limits, follow_redirects=False)
    return _pool[1]


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


async def _check(request: HttpRequest, response: httpx.Response, content_type: str) -> None:
    """Raise unless the answer is the stream that was asked for."""
    if response.status_code != 200:
        raise status_error(
            request.vendor,
            response.status_code,
            response.headers,
            request.redact(await _body(response)),
            key_setting=request.endpoint.key_setting,
            url_setting=request.endpoint.url_setting,
        )
    received_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()[:_NAME_LENGTH]
    if received_type != content_type:
        error_text = vendor_message(request.redact(await _body(response)))
        raise ProviderError(
            f"{request.vendor} answered with {received_type or 'no content type'} instead of {content_type}: "
            f"{error_text or 'nothing'}",
            status=response.status_code,
            vendor=request.vendor,
            internal=f"check {request.endpoint.url_setting}",
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


def _connection_error(request: HttpRequest, error: Exception) -> ProviderError:
    host, retryable = _host(request.url), True
    match error:
        case httpx.InvalidURL() | httpx.UnsupportedProtocol():
            problem, detail, retryable = "its URL is not usable", f"check {request.endpoint.url_setting}", False
        case httpx.LocalProtocolError():
            problem, detail, retryable = "the request cannot be sent as HTTP", "", False
        case httpx.ConnectTimeout():
            problem, detail = f"no connection within {request.connect_timeout:g} s", f"to {host}"
        case httpx.ReadTimeout():
            problem, detail = f"silent for {request.silence_seconds:g} s", host
        case httpx.ConnectError():
            problem, detail = "no connection", f"to {host}: {error}"
        case _:
            problem, detail = "the connection broke", f"to {host}: {error or type(error).__name__}"
    provider_error = ProviderError(
        f"{request.vendor}: {problem}",
        retryable=retryable,
        vendor=request.vendor,
        internal=request.redact(detail) or None,
    )
    if not isinstance(error, httpx.LocalProtocolError):  # that one quotes the header, and with it the key
        provider_error.__cause__ = error
    return provider_error


def _host(url: str) -> str:
    """Return the host alone: a URL may carry a password."""
    try:
        return urlsplit(url).hostname or "the vendor"
    except ValueError:
        return "the vendor"
