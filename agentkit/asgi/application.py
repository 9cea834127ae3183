"""The Flask application under ASGI: what lasts is served by the event loop, all else by a bounded pool of threads.

Every request goes through the Flask application, which checks and answers it as it does under WSGI. Where its answer is
an event stream or a WebSocket, the thread is done with it then: the event loop goes on with the same EventStream or
RunSocket, which holds no thread.

A request's environment is made here, and not by a2wsgi: that joins cookies by commas, takes a header with an underscore
for the one with a dash, and the beginning of a body whose client left for the whole of it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import IO, Any
from urllib.parse import unquote_to_bytes

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from agentkit.asgi.sockets import serve
from agentkit.runtime.threads import in_thread
from agentkit.runtime.web_server import stopping
from agentkit.server.frames import STALL_SECONDS
from agentkit.server.streams import EventStream
from agentkit.server.websocket import RunSocket, SocketBody

__all__ = ["AsgiApp", "EventStreamResponse", "environ_of"]

_BODY_BYTES_IN_MEMORY = 1_000_000
_STOP_CHECK_SECONDS = 1.0
_HANDSHAKE = {
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_UPGRADE": "websocket",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "HTTP_SEC_WEBSOCKET_KEY": "AAAAAAAAAAAAAAAAAAAAAA==",
}
"""What the Flask application wants to see of a handshake. The server has checked it, and HTTP/2 has none of this."""

Environ = dict[str, Any]


class AsgiApp:
    """An ASGI application that answers as a WSGI application does. `max_body_bytes`: what that takes of a body.

    `on_stop` is called in a thread when the server stops, where the server says so: not to a mounted application.
    """

    def __init__(
        self, wsgi: Callable[[Environ, Any], Iterable[bytes]], max_body_bytes: int, on_stop: Callable[[], None]
    ) -> None:
        self._wsgi = wsgi
        self._max_body_bytes = max_body_bytes
        self._on_stop = on_stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._shake_hands(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            raise RuntimeError(f"agentkit serves http and websocket, not {scope['type']}")

    async def _live(self, receive: Receive, send: Send) -> None:
        """Take part in the server's start and stop, of which the application needs little."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await in_thread(self._on_stop)
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        environ = environ_of(scope)
        with SpooledTemporaryFile(_BODY_BYTES_IN_MEMORY) as body:
            # Before there is a thread for it, so that who sends slowly holds none.
            if not await _read_body(environ, receive, body, self._max_body_bytes + 1):  # as web.py has werkzeug do
                return
            answer = await in_thread(self._call, environ)
        await answer.response()(scope, receive, send)

    async def _shake_hands(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        answer = await in_thread(self._call, {**environ_of(scope), **_HANDSHAKE, "wsgi.input": BytesIO()})
        if isinstance(answer.content, RunSocket):
            await serve(answer.content, receive, send)
        elif "websocket.http.response" in scope.get("extensions", {}):
            await answer.response()(scope, receive, send)
        else:
            await send({"type": "websocket.close"})  # which is 403 before a handshake

    def _call(self, environ: Environ) -> _Answer:
        """Call the WSGI application, and read its answer unless that lasts."""
        heads: list[tuple[str, list[tuple[str, str]]]] = []
        content = self._wsgi(environ, lambda status, headers, exc_info=None: heads.append((status, headers)))
        if isinstance(content, SocketBody):
            return _Answer(101, [], content.run_socket)
        status, headers = heads[-1]
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        if isinstance(content, EventStream):
            return _Answer(int(status[:3]), raw, content)
        try:
            return _Answer(int(status[:3]), raw, b"".join(content))
        finally:
            getattr(content, "close", lambda: None)()


@dataclass(frozen=True)
class _Answer:
    """What the WSGI application answered."""

    status: int
    headers: list[tuple[bytes, bytes]]
    content: bytes | EventStream | RunSocket

    def response(self) -> Response:
        """Make the response; not of a RunSocket."""
        response: Response
        if isinstance(self.content, EventStream):
            response = EventStreamResponse(self.content, self.status)
        else:
            assert isinstance(self.content, bytes)
            response = Response(self.content, self.status)
        response.raw_headers = self.headers
        return response


class EventStreamResponse(StreamingResponse):
    """A response that streams a run. It ends with its client, also one that has stopped reading."""

    def __init__(self, stream: EventStream, status_code: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(stream, status_code, headers)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":
            self._stream.close()
            await Response(status_code=self.status_code, headers=self.headers)(scope, receive, send)
            return
        await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async with aclosing(aiter(self._stream)) as chunks:
                async for chunk in chunks:
                    async with asyncio.timeout(STALL_SECONDS) as limit:
                        with _ends_on_stop(limit):
                            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError:
            return  # without an end: the server closes the connection, and the client goes on from the log
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@contextmanager
def _ends_on_stop(limit: asyncio.Timeout) -> Iterator[None]:
    """Let a timeout end within a second once this process stops: a client that reads nothing holds up no stop."""
    loop = asyncio.get_running_loop()
    checks: list[asyncio.TimerHandle] = []

    def check() -> None:
        if stopping():
            limit.reschedule(loop.time())
        else:
            checks[:] = [loop.call_later(_STOP_CHECK_SECONDS, check)]

    checks.append(loop.call_later(_STOP_CHECK_SECONDS, check))
    try:
        yield
    finally:
        checks[0].cancel()


def environ_of(scope: Scope) -> Environ:
    """Make the WSGI environment of a request, but for its body. `environ["asgi.scope"]` is the scope."""
    root = _wsgi_text(scope.get("root_path", "").rstrip("/"))
    host, port = scope.get("server") or ("localhost", None)
    environ: Environ = {
        "asgi.scope": scope,
        "REQUEST_METHOD": scope.get("method", "GET"),
        "SCRIPT_NAME": root,
        "PATH_INFO": _path_below(root, _wsgi_text(scope.get("app_root_path", "").rstrip("/")), _path(scope)),
        "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or 0),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": {"ws": "http", "wss": "https"}.get(scope.get("scheme", "http"), scope.get("scheme", "http")),
        "wsgi.errors": sys.stderr,
        "wsgi.input_terminated": True,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if scope.get("client"):
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = scope["client"][0], str(scope["client"][1])
    for name, value in scope["headers"]:
        if b"_" not in name:  # it would be read as another header, which a proxy has perhaps removed
            _add_header(environ, name.decode("latin-1").upper().replace("-", "_"), value.decode("latin-1"))
    return environ


def _wsgi_text(text: str) -> str:
    """Return bytes of UTF-8 as the characters that WSGI has for them."""
    return text.encode("utf-8", "replace").decode("latin-1")


def _path(scope: Scope) -> str:
    """Return the path as it was sent: `path` alone has lost bytes that are no UTF-8."""
    path: str = scope["path"]
    raw = unquote_to_bytes(scope.get("raw_path") or b"")
    return raw.decode("latin-1") if raw.decode("utf-8", "replace") == path else _wsgi_text(path)


def _path_below(root: str, app_root: str, path: str) -> str:
    """Return what of a path is below its root, which the mounts are a part of.

    `app_root`: what a proxy has added in front of those. It has perhaps taken it from the path, perhaps not.
    """
    for prefix in (root, root.removeprefix(app_root)):
        if f"{path}/".startswith(f"{prefix}/"):
            return path.removeprefix(prefix)
    return path


def _add_header(environ: Environ, name: str, value: str) -> None:
    if name == "TRANSFER_ENCODING":  # the server's matter: what is read here has no chunks
        return
    key = name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"
    separator = "; " if name == "COOKIE" else ","
    environ[key] = f"{environ[key]}{separator}{value}" if key in environ else value


async def _read_body(environ: Environ, receive: Receive, body: IO[bytes], limit: int) -> bool:
    """Read the request's body, or its first `limit` bytes and a little more; return whether the client is still there.

    Of one that says that it is longer nothing is read: the application refuses it by its length.
    """
    environ["wsgi.input"] = body
    declared = environ.get("CONTENT_LENGTH", "")
    if declared.isdecimal() and int(declared) > limit:
        return True
    while True:
        message: MutableMapping[str, Any] = await receive()
        if message["type"] == "http.disconnect":
            return False
        body.write(message.get("body", b""))
        if not message.get("more_body", False) or body.tell() > limit:
            break
    environ.setdefault("CONTENT_LENGTH", str(body.tell()))
    body.seek(0)
    return True
