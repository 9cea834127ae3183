"""Which hosts are answered, and which pages may act: the Host and Origin headers of every request.

A browser sends the requests of any page, with its cookies, to any server that it can reach, one on this machine
included. That a page is a foreign one shows only in its Origin; that it has made its own name mean this server's
address (DNS rebinding) only in the Host. Both are checked before anything else, also for what is not there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from flask import request

from agentkit.core.hosts import Host, HostPattern
from agentkit.errors import ConfigurationError, ForbiddenError, InvalidRequestError
from agentkit.server.state import endpoint, state

__all__ = ["checks"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SOCKET = "ws.run_socket"
_ORIGIN = re.compile(r"(https?)://([^/?#@\s]+)", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}


def checks(hosts: Sequence[str]) -> Callable[[], None]:
    """Make what checks the Host of every request, and the Origin of those that change something or open a WebSocket.

    `hosts`: those that are answered; none for all. Raises ConfigurationError where they cannot be read.
    """
    patterns = _patterns(hosts)

    def check() -> None:
        _check_host(patterns)
        if request.method not in _SAFE_METHODS or endpoint() == _SOCKET:
            _check_origin()

    return check


def _patterns(hosts: Sequence[str]) -> list[HostPattern]:
    patterns: list[HostPattern] = []
    for text in hosts:
        pattern = HostPattern.read(text)
        if pattern is None:
            raise ConfigurationError(f"AGENTKIT_HOSTS has {text!r}; expected hosts such as app.example.com")
        patterns.append(pattern)
    return patterns


def _check_host(patterns: Sequence[HostPattern]) -> None:
    """Refuse a request for a host that AGENTKIT_HOSTS does not name. Raises InvalidRequestError.

    It is the Host header that counts, never X-Forwarded-Host: any client can write that one.
    """
    if not patterns:
        return
    header = request.environ.get("HTTP_HOST", "")
    host = Host.read(header)
    if host is None or not any(pattern.matches(host) for pattern in patterns):
        raise InvalidRequestError(f"this server does not answer for the host {header[:200]!r} (AGENTKIT_HOSTS)")


def _check_origin() -> None:
    """Refuse a request that a page of another origin made without AGENTKIT_CORS_ORIGINS naming it.

    For a request that a cookie authenticates `*` is not enough. Raises ForbiddenError.
    """
    origin = request.headers.get("Origin")
    allowed = state().settings.cors_origins
    if origin is None or origin.lower() in allowed or (allowed == ("*",) and not _is_by_cookie()) or _is_own(origin):
        return
    raise ForbiddenError(
        f"pages of {origin[:200]} may not call this server ({request.host}): "
        "add the origin to AGENTKIT_CORS_ORIGINS to allow them"
    )


def _is_by_cookie() -> bool:
    has_token = endpoint() == _SOCKET and "token" in request.args
    return state().kit.authenticate is not None and not has_token and "Cookie" in request.headers


def _is_own(origin: str) -> bool:
    """Whether the origin is this server's own, by the Host header. Behind a proxy only that knows the scheme."""
    match = _ORIGIN.fullmatch(origin)
    page, server = Host.read(match[2]) if match else None, Host.read(request.environ.get("HTTP_HOST", ""))
    if match is None or page is None or server is None:
        return False
    default = _PORTS[match[1].lower()]
    return (page.name, page.port or default) == (server.name, server.port or default)
