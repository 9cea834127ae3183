"""The view behind all URLs of a kit: it has agentkit's WSGI application answer a request of Django's.

It writes no route a second time. What it knows is Django: which request `authenticate` gets, what middleware does to a
response, and when a thread's connections to the databases are given back.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from io import BytesIO
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.handlers.asgi import ASGIRequest
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, re_path
from django.utils.cache import patch_cache_control
from django.views.decorators.csrf import csrf_exempt
from flask import Flask
from flask import request as flask_request

from agentkit import web
from agentkit.core.sse import Render
from agentkit.django.connections import release_connections
from agentkit.kit import AgentKit
from agentkit.runs import KEEPALIVE_SECONDS, RunHandle
from agentkit.server.access import CALLER, HOST_REQUEST
from agentkit.server.streams import HEADERS, EventStream, StreamSlot

__all__ = ["sse_response", "urls"]

_ASGI: Mapping[str, Any] = {
    "SERVER_PROTOCOL": "HTTP/1.1",
    "wsgi.version": (1, 0),
    "wsgi.errors": sys.stderr,
    "wsgi.input_terminated": True,
    "wsgi.run_once": False,
}
"""What the environment of a request lacks that came by ASGI: all of the body is there before a view is called."""


def urls(kit: AgentKit, *, page: bool = True, system: bool = True) -> tuple[list[URLPattern], str]:
    """Make the URLs of the protocol's HTTP interface to the runs of `kit`: `path("agents/", include(urls(kit)))`.

    `page`: whether to serve the chat page. `system`: whether to serve `/healthz`, `/readyz` and `/metrics`. Several
    kits stand below several paths, each but one with a `namespace` of its own for `include`.

    The namespace is "agentkit", and one name is for all: `reverse("agentkit:path", args=["runs"])`.

    `authenticate` gets Django's HttpRequest, with its `user` and `session`. Django's CSRF check and ATOMIC_REQUESTS
    leave these URLs out: the Origin of every request that changes something is checked, and a stream lasts longer than
    any transaction should. So does LoginRequiredMiddleware where the kit has an `authenticate`.
    """
    app = web.make_app(kit, page=page, system=system)
    app.teardown_request(_release_after_message)

    @csrf_exempt
    def view(request: HttpRequest, path: str, **_: Any) -> HttpResponseBase:
        return _answer(app, request, path)

    for alias in connections:
        transaction.non_atomic_requests(using=alias)(view)
    if kit.authenticate is not None:
        login_not_required(view)  # who is not logged in gets a 401 and no page of LoginRequiredMiddleware's
    return [re_path(r"^(?P<path>[\s\S]*)$", view, name="path")], "agentkit"


def sse_response(
    request: HttpRequest,
    handle: RunHandle,
    after: int | None = None,
    until_pause: bool = True,
    *,
    render: Render | None = None,
    names: bool = False,
    keepalive: float = KEEPALIVE_SECONDS,
) -> HttpResponseBase:
    """Make the response of a view of yours to `request`, which streams the run: `agentkit.web.sse_response` for Django.

    After the seq `after`, or from where `handle` began; until the run ends or, with `until_pause`, pauses, the client
    leaves, or the server stops. `render`, `names`: as there. `keepalive`: seconds without an event after which a
    comment is sent.

    Give the view `transaction.non_atomic_requests` where ATOMIC_REQUESTS is on. Raises TooManyWatchersError where this
    process serves as many streams as it can.
    """
    stream = EventStream(
        handle,
        StreamSlot(),
        sock=request.META.get("gunicorn.socket"),
        after=after,
        until_pause=until_pause,
        keepalive=keepalive,
        opening=None,
        render=render,
        names=names,
    )
    return _stream(request, stream, headers={**HEADERS, "Content-Type": "text/event-stream"})


def _answer(app: Flask, request: HttpRequest, path: str) -> HttpResponseBase:
    """Have `app` answer the request for what is at `path` below the URLs."""
    heads: list[tuple[str, list[tuple[str, str]]]] = []
    call: Any = app
    body: Any = call(_environ(request, path), lambda *head: heads.append(head[:2]))
    if not heads:
        return _SocketResponse(body)
    [(line, fields)] = heads
    status, reason = line.split(" ", 1)
    headers: dict[str, str] = {}
    for name, value in fields:
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if isinstance(body, EventStream):
        return _stream(request, body, status=int(status), reason=reason, headers=headers)
    try:
        response = HttpResponse(b"".join(body), status=int(status), reason=reason, headers=headers)
    finally:
        body.close()
    if "Content-Type" not in headers:
        del response["Content-Type"]  # Django adds one
    if "public" not in headers.get("Cache-Control", ""):
        patch_cache_control(response, private=True)  # Django's own cache stores what says no-store
    return response


def _environ(request: HttpRequest, path: str) -> dict[str, Any]:
    """Make the WSGI environment of a request: below the path of the URLs, as Django knows its host and its path."""
    whole = request.META.get("SCRIPT_NAME", "").rstrip("/") + request.path_info  # under ASGI `path` may lack the former
    prefix = whole.removesuffix(path).removesuffix("/")
    environ = {
        **request.META,
        HOST_REQUEST: request,
        "SCRIPT_NAME": _in_latin_1(prefix),
        "PATH_INFO": _in_latin_1(whole.removeprefix(prefix)),
        "wsgi.url_scheme": request.scheme,
    }
    if settings.USE_X_FORWARDED_HOST:
        environ["HTTP_HOST"] = request.get_host()  # with which the Origin is compared
    if isinstance(request, ASGIRequest):
        return {**environ, **_ASGI, "asgi.scope": request.scope, "wsgi.input": request}
    body = getattr(request, "_body", None)
    if body is not None and environ.get("CONTENT_LENGTH"):  # a middleware has read it
        environ["wsgi.input"] = BytesIO(body)
    return environ


def _in_latin_1(text: str) -> str:
    """Return a text as WSGI has it: each byte of its UTF-8 a character."""
    return text.encode().decode("latin-1")


def _stream(request: HttpRequest, stream: EventStream, **options: Any) -> StreamingHttpResponse:
    """Make the response of an event stream, which no middleware may hold back. `options`: of the response."""
    request.META.pop("HTTP_ACCEPT_ENCODING", None)  # GZipMiddleware collects 32 kB before it sends anything
    kind = _AsyncChunks if isinstance(request, ASGIRequest) else _Chunks
    return StreamingHttpResponse(kind(stream), **options)


class _Chunks:
    """The body of an event stream. It begins when the view and the middleware are done, and holds no connection."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream
        self.close = stream.close

    def __iter__(self) -> Iterator[bytes]:
        return self._send()

    def _send(self) -> Iterator[bytes]:
        release_connections()
        yield from self._stream


class _AsyncChunks:
    """The same in an event loop, where it holds no thread while it waits."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream
        self.close = stream.close

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        await sync_to_async(release_connections)()  # in the thread that has answered the request
        async with aclosing(aiter(self._stream)) as chunks:
            async for chunk in chunks:
                yield chunk


class _SocketResponse(StreamingHttpResponse):
    """A WebSocket: what the web server iterates in place of a body (agentkit/server/websocket.py)."""

    def __init__(self, body: Any) -> None:
        super().__init__(status=101)
        del self["Content-Type"]
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        release_connections()
        return iter(self._body)  # never of the super class, which would catch what tells gunicorn to write nothing

    def close(self) -> None:
        self._body.close()
        super().close()


def _release_after_message(_error: BaseException | None) -> None:
    """Give back what a message of a WebSocket, which goes on for hours, has taken from the databases."""
    if CALLER in flask_request.environ:
        release_connections()
