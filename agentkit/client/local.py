"""A client of an application in this process, whose requests are calls of its WSGI function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import httpx

from agentkit.client.sync import Client

__all__ = ["local_client"]

_REQUESTS_OWN = ("wsgi.input", "REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "RAW_URI", "REQUEST_URI")
_OWN_PREFIXES = ("CONTENT_", "HTTP_ACCEPT", "HTTP_CONTENT_", "HTTP_IF_", "HTTP_LAST_EVENT", "HTTP_MCP_")
_SERVERS_PREFIXES = ("HTTP_TRANSFER_", "HTTP_X_FORWARDED_", "gunicorn.", "werkzeug.")


def local_client(app: Callable[..., Any], environ: Mapping[str, Any], path: str) -> Client:
    """Make a client that calls `app` for whoever made the request `environ`: with its credentials, host and origin.

    `path`: where the interface is mounted, below the request's SCRIPT_NAME.
    """
    kept = {
        key: value
        for key, value in environ.items()
        if key not in _REQUESTS_OWN and not key.startswith((*_OWN_PREFIXES, *_SERVERS_PREFIXES))
    }

    def call(request: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        return app({**request, **kept}, start_response)

    transport = httpx.WSGITransport(app=call, raise_app_exceptions=False)
    return Client(f"http://localhost{path}", retry_seconds=0, transport=transport)
