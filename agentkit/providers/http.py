"""The narrow seam to httpx: one streamed POST, read as an ordinary iterator by the step's thread.

The request runs as a task on the process's event loop, because only a task can be cancelled while the vendor is silent:
closing a response from another thread waits for its next chunk. The task puts what it reads into a queue; the thread
takes it out. Every failure of httpx becomes a ProviderError here. This module must not know any vendor's format.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
from httpx_sse import EventSource, ServerSentEvent

from agentkit.core.cancellation import Cancellation
from agentkit.core.event_loop import event_loop, submit
from agentkit.core.masking import mask_log, mask_secrets, url_secrets
from agentkit.core.messages import Json
from agentkit.errors import ConfigurationError, ProviderError
from agentkit.providers.failures import status_error, vendor_message

__all__ = ["HttpRequest", "api_key", "stream_lines", "stream_sse"]

T = TypeVar("T")

mask_log("httpx")  # its line for each request shows the whole URL, at -l info

_WINDOW = 256  # items that may wait for the reader: beyond them no more are read from the vendor
_CREDIT = 64  # items that the reader takes before it widens the window again, which wakes the event loop
_BODY_LIMIT = 64 * 1024
_BODY_SECONDS = 10.0
_DRAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A POST of JSON that a stream answers.

    `secrets` are replaced in every error. `key_setting` and `url_setting` name the settings that people should check
    when there is an error. Timeouts are seconds; the read timeout is of silence, not of the whole.
    """

    vendor: str
    url: str = field(repr=False)
    body: Json = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    key_setting: str = ""
    url_setting: str = ""
    connect_timeout: float = 10.0
    read_timeout: float = 300.0

    def redact(self, text: str) -> str:
        """Replace the secrets in a text, and those in the URL: all of them, parts, and Base64 of them."""
        return mask_secrets(text, [*self.secrets, *url_secrets(self.url)])


def api_key(setting: str, vendor: str) -> str:
    """Read the key from the environment variable `setting`; "" where it is unset.

    Raises ProviderError for one that no HTTP header can carry.
    """
    key = os.environ.get(setting, "").strip()
    # Refused here, because httpx would quote the key in its own error.
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ProviderError(
            f"the API key for {vendor} is not usable",
            vendor=vendor,
            internal=f"{setting} has characters that no API key has: copy it again",
        )
    return key


def stream_sse(
    request: HttpRequest, cancel: Cancellation, *, last: str | None = None, last_event: str | None = None
) -> Generator[ServerSentEvent, None, None]:
    """Yield the answer's server-sent events; one named `last_event`, or whose data is `last`, is the last in any case.

    Raises ProviderError for whatever the vendor or the network does wrong. Ends at once when `cancel` fires; that, or
    closing the iterator, closes the connection.
    """

    def read(response: httpx.Response) -> AsyncIterator[ServerSentEvent]:
        response.encoding = "utf-8"  # server-sent events are nothing else, whatever the header says
        response.headers["content-type"] = "text/event-stream"  # it was checked; EventSource wants this spelling
        return EventSource(response).aiter_sse()

    def is_last(event: ServerSentEvent) -> bool:
        return event.event == last_event or (last is not None and event.data.strip() == last)

    return _iterate(request, cancel, "text/event-stream", read, is_last)


def stream_lines(request: HttpRequest, cancel: Cancellation, *, content_type: str) -> Generator[str, None, None]:
    """Yield the lines of an answer of `content_type`, as `stream_sse` yields events.

    Only a line feed ends a line, and none is empty.
    """
    return _iterate(request, cancel, content_type, _lines, lambda _: False)


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    # Not httpx's aiter_lines: that also splits at U+2028 and others, which JSON allows inside strings.
    response.encoding = "utf-8"
    begun: list[str] = []  # the pieces of the line so far: adding them up each time takes long where lines are
    async for text in response.aiter_text():
        first, *others = text.split("\n")
        begun.append(first)
        for other in others:
            if (line := "".join(begun)).strip():
                yield line
            begun = [other]
    if (line := "".join(begun)).strip():
        yield line


def _iterate(
    request: HttpRequest,
    cancel: Cancellation,
    content_type: str,
    read: Callable[[httpx.Response], AsyncIterator[T]],
    is_last: Callable[[T], bool],
) -> Generator[T, None, None]:
    """Yield what the transfer puts into the inbox; None is the end, an exception is raised here."""
    inbox: SimpleQueue[T | Exception | None] = SimpleQueue()
    window = asyncio.Semaphore(_WINDOW)
    task = submit(_transfer(request, content_type, read, is_last, inbox, window))

    def stop() -> None:
        task.cancel()
        inbox.put(None)

    remove_callback = cancel.on_cancel(stop)
    taken, ended = 0, False
    try:
        while True:
            item = inbox.get()
            if item is None:
                ended = True
                return
            if cancel.cancelled:
                return
            if isinstance(item, Exception):
                raise item
            yield item
            taken += 1
            if taken % _CREDIT == 0:
                event_loop().call_soon_threadsafe(_widen, window)
    finally:
        remove_callback()
        if not ended:  # after the end, the task may still tidy the connection for its next use
            task.cancel()


def _widen(window: asyncio.Semaphore) -> None:
    for _ in range(_CREDIT):
        window.release()


async def _transfer(
    request: HttpRequest,
    content_type: str,
    read: Callable[[httpx.Response], AsyncIterator[T]],
    is_last: Callable[[T], bool],
    inbox: SimpleQueue[T | Exception | None],
    window: asyncio.Semaphore,
) -> None:
    """Fill the inbox on the event loop, and end it whatever happens."""
    try:
        async with _client().stream(
            "POST",
            request.url,
            content=_encoded(request.body),
            headers={"content-type": "application/json", "accept": content_type, **request.headers},
            timeout=httpx.Timeout(request.read_timeout, connect=request.connect_timeout, pool=None),
        ) as response:
            await _check(request, response, content_type)
            items = read(response)
            async for item in items:
                await window.acquire()
                inbox.put(item)
                if is_last(item):
                    inbox.put(None)
                    await _drain(items)
                    return
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
        inbox.put(_connection_error(request, error))
    except Exception as error:
        inbox.put(error)
    finally:
        inbox.put(None)


_pool: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None


def _client() -> httpx.AsyncClient:
    """Return the process's client. It belongs to its loop: a forked child has a new loop, so it gets a new client."""
    global _pool
    loop = asyncio.get_running_loop()
    if _pool is None or _pool[0] is not loop:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30.0)
        _pool = loop, httpx.AsyncClient(limits=limits, follow_redirects=False)
    return _pool[1]


def _encoded(body: Json) -> bytes:
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
            key_setting=request.key_setting,
            url_setting=request.url_setting,
        )
    received_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if received_type != content_type:
        error_text = vendor_message(request.redact(await _body(response)))
        raise ProviderError(
            f"{request.vendor} answered with {received_type or 'no content type'} instead of {content_type}: "
            f"{error_text or 'nothing'}",
            status=response.status_code,
            vendor=request.vendor,
            internal=f"check {request.url_setting}",
        )


async def _body(response: httpx.Response) -> str:
    """Read the beginning of a body that describes an error; as much as came where it breaks off."""
    body = b""
    with suppress(httpx.HTTPError, TimeoutError):
        async with asyncio.timeout(_BODY_SECONDS):
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > _BODY_LIMIT:
                    break
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
            problem, detail, retryable = "its URL is not usable", f"check {request.url_setting}", False
        case httpx.LocalProtocolError():
            problem, detail, retryable = "the request cannot be sent as HTTP", "", False
        case httpx.ConnectTimeout():
            problem, detail = f"no connection within {request.connect_timeout:g} s", f"to {host}"
        case httpx.ReadTimeout():
            problem, detail = f"silent for {request.read_timeout:g} s", host
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
