"""httpx's requests over aiohttp, whose HTTP parser is written in C: most of what a streamed token costs is reading it.

Where the extra `[fast]` is not installed, or a proxy is to be used, httpx's own transport does the same. The errors are
httpx's in both, so that nobody above notices which. Not by the package httpx-aiohttp: it quotes paths anew, which
breaks the signatures of Bedrock, and takes a server's end of the connection for a timeout. No vendor's format.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

import httpx

try:
    import aiohttp
    from yarl import URL  # aiohttp's own URLs
except ImportError:
    AVAILABLE = False
else:
    AVAILABLE = True

__all__ = ["AVAILABLE", "Collector", "FastTransport"]

_PIECE_BYTES = 64 * 1024
_MUCH_BYTES = 16 * 1024
_MOMENT = 0.001  # seconds
_UNANSWERED = "Server disconnected without sending a response."  # httpcore's words, which `transport` looks for
_CUT_OFF = "peer closed connection without sending complete message body"

_trace: ContextVar[Callable[[str, object], Awaitable[None]] | None] = ContextVar("trace", default=None)
"""httpx's `trace` extension of the request that this task sends; it is asked for new connections alone."""


class Collector(Protocol):
    """Who reads a body, where that need not be at once: a request's extension `collector`."""

    def rest_seconds(self) -> float:
        """Return how long what comes from now on may stay where it is; 0 or less for not at all."""
        ...

    def put(self, piece: bytes) -> bool:
        """Take a piece that came in a rest; return whether there may be another rest."""
        ...


class FastTransport(httpx.AsyncBaseTransport):
    """Connections of the running loop. What a request's `collector` lets rest is given to that, and not iterated over.

    `verify`: as for httpx's client; kept ones are closed after some seconds.

    No number of connections is refused, no cookie is remembered, and nothing is read from the environment.
    """

    def __init__(self, verify: ssl.SSLContext | bool, keepalive_seconds: float) -> None:
        self._verify = verify
        self._keepalive_seconds = keepalive_seconds
        self._session: aiohttp.ClientSession | None = None
        self._rests = _Rests()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        session = self._session = self._session or self._new_session()
        timeout = request.extensions.get("timeout", {})
        # httpx has made a header of what stood there; a path that was signed is sent as it is.
        url = URL(str(request.url.copy_with(username=None, password=None)), encoded=True)
        _trace.set(request.extensions.get("trace"))
        with _as_httpx(_UNANSWERED):
            response = await session.request(
                request.method,
                url,
                headers=request.headers.multi_items(),
                data=await request.aread() or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(sock_connect=timeout.get("connect"), sock_read=timeout.get("read")),
            )
        body = _Body(response, self._rests, request.extensions.get("collector"))
        return httpx.Response(response.status, headers=response.raw_headers, stream=body, request=request)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _new_session(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_start.append(_note_opened)
        return aiohttp.ClientSession(
            auto_decompress=False,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=self._keepalive_seconds, ssl=self._verify),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[trace],
            trust_env=False,
        )


class _Rests:
    """Ends the rests of all bodies that end at about one time together: for each alone a task would be woken twice."""

    def __init__(self) -> None:
        self._bodies: dict[int, list[_Body]] = {}

    def add(self, body: _Body, seconds: float) -> None:
        """Have the rest of a body end after some seconds, or up to a moment later."""
        at = int((time.monotonic() + seconds) / _MOMENT) + 1
        bodies = self._bodies.get(at)
        if bodies is None:
            bodies = self._bodies[at] = []
            asyncio.get_running_loop().call_later(at * _MOMENT - time.monotonic(), self._end, at)
        bodies.append(body)

    def _end(self, at: int) -> None:
        bodies = [body for body in self._bodies.pop(at) if body.resume()]
        # A loop calls first, and reads then: at the second call what the kernel has for them was read.
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._collect, bodies)

    def _collect(self, bodies: list[_Body]) -> None:
        for body in bodies:
            body.collect()


class _Body(httpx.AsyncByteStream):
    """A body that is read again only after a rest, in which the kernel collects what comes, and nothing wakes for it.

    What is there after a rest goes to the collector, and the next rest begins. Where there is nothing, it is iterated
    over: read at once, as the end is. There is no rest while much comes: the kernel holds little.
    """

    def __init__(self, response: aiohttp.ClientResponse, rests: _Rests, collector: Collector | None) -> None:
        self._response = response
        self._content = response.content
        self._rests = rests
        self._collector = collector
        self._busy_until = 0.0
        self._transport: asyncio.Transport | None = None
        self._rested: asyncio.Future[None] | None = None
        """Done when the rests are over. None while there are none."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._content.on_eof(self._end_rests)
        while True:
            with _as_httpx(_CUT_OFF):
                piece = await self._content.read(_PIECE_BYTES)
            if not piece:
                return
            yield piece
            if self._collector is not None and (seconds := self._rest_after(piece, self._collector)) > 0:
                await self._rest(seconds)

    def _rest_after(self, piece: bytes, collector: Collector) -> float:
        """Return how long to rest after a piece."""
        seconds, now = collector.rest_seconds(), time.monotonic()
        if len(piece) > _MUCH_BYTES:
            self._busy_until = now + seconds
        return 0.0 if now < self._busy_until or self._content.is_eof() else seconds

    async def _rest(self, seconds: float) -> None:
        """Rest, again and again where what comes meanwhile can be given to the collector."""
        connection = self._response.connection
        self._transport = None if connection is None else connection.transport
        if connection is None or connection.protocol is None or self._transport is None:  # it is closed
            return
        # Who collects knows how long nothing came. aiohttp would make a timer for it with each read.
        connection.protocol.read_timeout = None
        self._rested = asyncio.get_running_loop().create_future()
        try:
            self._begin_rest(self._transport, seconds)
            await self._rested
        finally:
            self._rested = None
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def _begin_rest(self, transport: asyncio.Transport, seconds: float) -> None:
        transport.pause_reading()
        self._rests.add(self, seconds)

    def resume(self) -> bool:
        """End a rest by reading on; return whether there was one: the connection may be another's by now."""
        if self._rested is None or self._rested.done() or self._transport is None:
            return False
        if not self._transport.is_closing():
            self._transport.resume_reading()
        return True

    def collect(self) -> None:
        """Give what was read after a rest to the collector, and rest again where that may be."""
        if self._rested is None or self._rested.done():
            return
        try:
            seconds = self._given()
        except Exception as error:
            self._rested.set_exception(error)
            return
        if seconds > 0 and self._transport is not None and not self._transport.is_closing():
            self._begin_rest(self._transport, seconds)
        else:
            self._end_rests()

    def _given(self) -> float:
        """Give on what has come; return how long to rest then, 0 where iterating must go on."""
        content, collector = self._content, self._collector
        if collector is None or content.exception() is not None:
            return 0.0
        piece = content.read_nowait()
        return self._rest_after(piece, collector) if piece and collector.put(piece) else 0.0

    def _end_rests(self) -> None:
        if self._rested is not None and not self._rested.done():
            self._rested.set_result(None)

    async def aclose(self) -> None:
        """Give the connection back where all was read; otherwise close it."""
        self._response.release()


async def _note_opened(_session: object, _context: object, _parameters: object) -> None:
    if (trace := _trace.get()) is not None:
        await trace("connection.connect_tcp.started", {})


@contextmanager
def _as_httpx(disconnected: str) -> Iterator[None]:
    """Raise aiohttp's errors as httpx has them. `disconnected`: what the end of the connection means here."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise httpx.ConnectTimeout(_text(error)) from error
    except aiohttp.SocketTimeoutError as error:
        raise httpx.ReadTimeout(_text(error)) from error
    except aiohttp.ClientConnectorError as error:
        raise httpx.ConnectError(_text(error)) from error
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError) as error:
        raise httpx.RemoteProtocolError(disconnected) from error
    except aiohttp.InvalidURL as error:
        raise httpx.UnsupportedProtocol(_text(error)) from error
    except aiohttp.ClientResponseError as error:
        raise httpx.RemoteProtocolError(error.message) from error
    except (aiohttp.ClientError, OSError) as error:
        raise httpx.ReadError(_text(error)) from error
    except ValueError as error:
        raise httpx.LocalProtocolError(_text(error)) from error


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
