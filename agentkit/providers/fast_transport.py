"""httpx's requests over aiohttp, whose HTTP parser is written in C: most of what a streamed token costs is reading it.

Where the extra `[fast]` is not installed, or a proxy is to be used, httpx's own transport does the same. The errors are
httpx's in both, so that nobody above notices which. Not by the package httpx-aiohttp: it quotes paths anew, which
breaks the signatures of Bedrock, and takes a server's end of the connection for a timeout. No vendor's format.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import httpx

try:
    import aiohttp
    from yarl import URL  # aiohttp's own URLs
except ImportError:
    AVAILABLE = False
else:
    AVAILABLE = True

__all__ = ["AVAILABLE", "FastTransport"]

_PIECE_BYTES = 64 * 1024
_UNANSWERED = "Server disconnected without sending a response."  # httpcore's words, which `transport` looks for
_CUT_OFF = "peer closed connection without sending complete message body"

_trace: ContextVar[Callable[[str, object], Awaitable[None]] | None] = ContextVar("trace", default=None)
"""httpx's `trace` extension of the request that this task sends; it is asked for new connections alone."""


class FastTransport(httpx.AsyncBaseTransport):
    """Connections of the running loop. `verify`: as for httpx's client; kept ones are closed after some seconds.

    No number of connections is refused, no cookie is remembered, and nothing is read from the environment.
    """

    def __init__(self, verify: ssl.SSLContext | bool, keepalive_seconds: float) -> None:
        self._verify = verify
        self._keepalive_seconds = keepalive_seconds
        self._session: aiohttp.ClientSession | None = None

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
        return httpx.Response(response.status, headers=response.raw_headers, stream=_Body(response), request=request)

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


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        content = self._response.content
        while True:
            with _as_httpx(_CUT_OFF):
                piece = await content.read(_PIECE_BYTES)
            if not piece:
                return
            yield piece

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
