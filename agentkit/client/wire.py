"""Plans and httpx: how a request is built, and what its answers and errors mean to a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import httpx

from agentkit.client.plans import Answer, Failure, Request, ServerUnreachableError

__all__ = ["BROKEN", "answer_of", "failure_of", "make", "request_of"]

H = TypeVar("H", httpx.Client, httpx.AsyncClient)

BROKEN = (httpx.TransportError, httpx.StreamError, httpx.DecodingError)
"""What is raised where no answer comes, or its body breaks off or comes garbled."""

_OURS = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
"""Those of them that are the fault of what was asked: a URL without http, a header that HTTP does not allow."""

_CONNECT_SECONDS = 5.0


def make(kind: type[H], url: str, timeout: float, transport: Any) -> H:
    """An httpx client. Raises ServerUnreachableError where `url` is none."""
    try:
        return kind(
            base_url=url,
            timeout=_timeout(timeout),
            transport=transport,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),  # a stream holds a connection
        )
    except (httpx.InvalidURL, ValueError) as error:
        raise ServerUnreachableError(f"{url!r} is no URL of a server: {error}") from error


def request_of(http: httpx.Client | httpx.AsyncClient, act: Request, headers: Mapping[str, str]) -> httpx.Request:
    return http.build_request(
        act.method,
        act.path,
        json=act.body,
        params=dict(act.params) or None,
        headers={**headers, **act.headers},
        timeout=http.timeout if act.timeout is None else _timeout(act.timeout),
    )


def answer_of(response: httpx.Response, *, opened: bool) -> Answer:
    """`opened`: its body stays where it is, to be read as a stream."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, b"" if opened else response.content)


def failure_of(error: Exception) -> Failure:
    return Failure(
        str(error) or type(error).__name__,
        sent=not isinstance(error, httpx.ConnectError),
        passes=not isinstance(error, _OURS),
        silent=isinstance(error, httpx.ReadTimeout),
    )


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS))
