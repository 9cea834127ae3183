"""A receiver of webhooks as a team has one: it verifies what comes by the published `standardwebhooks` package."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

__all__ = ["Receiver", "Request"]


@dataclass(frozen=True)
class Request:
    """One POST. `event` is what was verified, None where the signature is not that of the receiver's secret."""

    path: str
    headers: dict[str, str]
    body: bytes
    event: Any


class Receiver:
    """Serves on a free port of 127.0.0.1 while its `with` block lasts.

    `answer`: makes the status of the answer, and its headers, of a request and of how many came before it.
    """

    def __init__(self, secret: str, answer: Callable[[Request, int], Any] = lambda request, number: 204) -> None:
        self.verifier = Webhook(secret)
        self.answer = answer
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.receiver = self
        self.port: int = self._server.server_address[1]

    def url(self, path: str = "/hook", login: str = "") -> str:
        return f"http://{login}127.0.0.1:{self.port}{path}"

    @property
    def events(self) -> list[Any]:
        return [request.event for request in self.requests]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> Any:
        """Note a request; what to answer."""
        try:
            event = self.verifier.verify(body, headers)
        except WebhookVerificationError:
            event = None
        request = Request(path, headers, body, event)
        self.requests.append(request)
        return self.answer(request, len(self.requests) - 1)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    receiver: Receiver


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.receiver.take(self.path, headers, body)
        status, more = answer if isinstance(answer, tuple) else (answer, {})
        if status is None:
            self.server.receiver.closing.wait(60)
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {"content-length": "0", **more}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
