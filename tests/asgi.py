"""An ASGI application in front of werkzeug's test client: what passes under Flask is to pass here, byte for byte.

It stands in for uvicorn between the client's WSGI environment and the application's messages, in one event loop that
all tests of the process share.
"""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any
from urllib.parse import quote_from_bytes

__all__ = ["AsgiServer", "event_loop", "scope_of"]

_SECONDS = 20


@functools.cache
def event_loop() -> asyncio.AbstractEventLoop:
    """An event loop that runs in a thread of its own, for the rest of the process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="tests-event-loop", daemon=True).start()
    return loop


def scope_of(environ: dict[str, Any], kind: str = "http") -> dict[str, Any]:
    """The scope of a request, as uvicorn would make it."""
    path = environ["PATH_INFO"].encode("latin-1")
    root = environ.get("SCRIPT_NAME", "")
    names = {"CONTENT_TYPE": "content-type", "CONTENT_LENGTH": "content-length"}
    names |= {key: key[5:].lower().replace("_", "-") for key in environ if key.startswith("HTTP_")}
    shown = [key for key in names if environ.get(key) or key.startswith("HTTP_")]  # an empty header is one, too
    headers = [(names[key].encode(), str(environ[key]).encode("latin-1")) for key in shown]
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": environ["SERVER_PROTOCOL"].removeprefix("HTTP/"),
        "method": environ["REQUEST_METHOD"],
        "scheme": environ["wsgi.url_scheme"],
        "root_path": root,
        "path": root + path.decode("utf-8", "replace"),
        "raw_path": quote_from_bytes(root.encode("latin-1") + path).encode(),
        "query_string": environ.get("QUERY_STRING", "").encode("latin-1"),
        "headers": headers,
        "server": (environ["SERVER_NAME"], int(environ["SERVER_PORT"])),
        "client": ("127.0.0.1", 12345),
    }


class AsgiServer:
    """A WSGI application that has an ASGI application answer."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> _Exchange:
        exchange = _Exchange(self._app, environ)
        head = exchange.next_message()
        assert head["type"] == "http.response.start", head
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head["headers"]]
        start_response(f"{head['status']} {'X'}", headers)
        return exchange


class _Exchange:
    """One request and its answer; what a WSGI server iterates."""

    def __init__(self, app: Any, environ: dict[str, Any]) -> None:
        self._messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self._gone = asyncio.Event()
        self._body = iter(_body_of(environ))
        self._task: Future[None] = asyncio.run_coroutine_threadsafe(
            app(scope_of(environ), self._receive, self._send), event_loop()
        )
        self._task.add_done_callback(lambda task: self._messages.put({"type": "end"}))

    async def _receive(self) -> dict[str, Any]:
        for message in self._body:
            return message
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self._messages.put(message)

    def next_message(self) -> dict[str, Any]:
        message = self._messages.get(timeout=_SECONDS)
        if message["type"] == "end":
            self._task.result()
        return message

    def __iter__(self) -> Iterator[bytes]:
        more = True
        while more:
            message = self.next_message()
            assert message["type"] == "http.response.body", message
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]

    def close(self) -> None:
        """Hang up, and wait until the application has noticed."""
        event_loop().call_soon_threadsafe(self._gone.set)
        self._task.result(_SECONDS)


def _body_of(environ: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The messages of a request's body, in two pieces where it has two bytes; one that is too short breaks off."""
    length = environ.get("CONTENT_LENGTH") or "0"
    whole = environ.get("wsgi.input_terminated", False)
    data: bytes = environ["wsgi.input"].read() if whole else environ["wsgi.input"].read(_number(length))
    if not whole and len(data) < _number(length):
        yield {"type": "http.request", "body": data, "more_body": True}
        yield {"type": "http.disconnect"}
        return
    middle = len(data) // 2
    if middle:
        yield {"type": "http.request", "body": data[:middle], "more_body": True}
    yield {"type": "http.request", "body": data[middle:], "more_body": False}


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else 0
