"""A local HTTP server that plays a model vendor: it records requests and answers bytes, well or badly.

It knows no vendor's format: who makes the replies does.
"""

from __future__ import annotations

import json
import select
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

__all__ = ["Reply", "Request", "WireServer"]


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: Any
    port: int
    """The client's: the same port is the same connection."""


@dataclass(frozen=True)
class Reply:
    """One answer. `pieces` are sent one by one, `delay` seconds apart.

    `silence`: the server says nothing, "before" the headers or "after" the pieces, until the client
    hangs up. `cut`: the connection closes without the end that HTTP asks for.
    """

    pieces: Iterable[bytes] = ()
    status: int = 200
    content_type: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    silence: str = ""
    cut: bool = False


class WireServer:
    """Serves on a free port of 127.0.0.1 while its `with` block lasts. `answer` makes the reply to a request."""

    def __init__(self, answer: Callable[[Request], Reply], port: int = 0) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.waiting = threading.Event()
        """Set when a silence begins."""
        self.hung_up = threading.Event()
        """Set when a client goes away during a silence."""
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.wire = self
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve_forever(self) -> None:
        self._server.serve_forever()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    wire: WireServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is the point of some tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        wire = self.server.wire
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.path, headers, body, self.client_address[1])
        wire.requests.append(request)
        reply = wire.answer(request)
        if reply.silence == "before":
            self._be_silent()
            return
        self.send_response(reply.status)
        self.send_header("content-type", reply.content_type)
        self.send_header("transfer-encoding", "chunked")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        for number, piece in enumerate(reply.pieces):
            if number and reply.delay and wire.closing.wait(reply.delay):
                return
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if reply.silence == "after":
            self._be_silent()
        elif reply.cut:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _be_silent(self) -> None:
        wire = self.server.wire
        wire.waiting.set()
        self.close_connection = True
        while not wire.closing.is_set():
            if select.select([self.connection], [], [], 0.02)[0]:
                wire.hung_up.set()
                return

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""
