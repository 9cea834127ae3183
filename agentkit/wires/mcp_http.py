"""agentkit's own MCP server by streamable HTTP, in whatever web server there is: one request in, one answer out.

The SDK's server is an ASGI application without sessions. It runs on an event loop of this process's own and answers
each POST with JSON, so that a WSGI server can serve it too; no stream is left open.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings

from agentkit.client import Client
from agentkit.core.event_loop import EventLoop, models_loop
from agentkit.wires.mcp_tools import MAX_WAIT_SECONDS, make_server

__all__ = ["answer"]

_ANSWER_SECONDS = MAX_WAIT_SECONDS + 15.0

_loop = EventLoop("agentkit-mcp-server", under_gevent=models_loop)
_api: ContextVar[Client] = ContextVar("agentkit_mcp_api")
_running: _Running | None = None


def answer(headers: Iterable[tuple[str, str]], body: bytes, api: Client) -> tuple[int, list[tuple[str, str]], bytes]:
    """Answer one POST for the caller whose client `api` is: the status, the headers and the body."""
    return _loop.submit(_answer(list(headers), body, api)).result(_ANSWER_SECONDS)


async def _answer(headers: list[tuple[str, str]], body: bytes, api: Client) -> tuple[int, list[tuple[str, str]], bytes]:
    manager = await _manager()
    _api.set(api)
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/mcp",
        "raw_path": b"/mcp",
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
    }
    parts: list[bytes] = []
    status = 500
    sent: list[tuple[str, str]] = []
    requests = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        found = next(requests, None)
        return found if found is not None else await asyncio.Future()  # it stays connected until it is answered

    async def send(message: Any) -> None:
        nonlocal status, sent
        if message["type"] == "http.response.start":
            status = message["status"]
            sent = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
        else:
            parts.append(message.get("body", b""))

    await manager.handle_request(scope, receive, send)
    return status, sent, b"".join(parts)


async def _manager() -> StreamableHTTPSessionManager:
    """Return the server of this process, running."""
    global _running
    if _running is None or _running.pid != os.getpid():
        _running = _Running()
    await asyncio.shield(_running.started)
    return _running.manager


class _Running:
    """The server, and the task that keeps it running as long as the process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        server = make_server(lambda: _api.get())
        # Hosts and origins were checked before: by AGENTKIT_HOSTS and AGENTKIT_CORS_ORIGINS.
        server.streamable_http_app(
            json_response=True,
            stateless_http=True,
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        self.manager = server.session_manager
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        async with self.manager.run():
            self.started.set_result(None)
            await asyncio.Future()
