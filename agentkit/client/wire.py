"""Between plans and httpx: how a request is built, and what httpx's responses and errors are to a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import httpx

from agentkit.client.plans import Answer, Failure, Request, ServerUnreachableError
from agentkit.core.masking import mask_log, mask_url

__all__ = ["BROKEN", "answer_of", "failure_of", "http_client", "request_of"]

H = TypeVar("H", httpx.Client, httpx.AsyncClient)

mask_log("httpx")  # its line for each request shows the whole URL

BROKEN = (httpx.TransportError, httpx.StreamError, httpx.DecodingError)
"""What httpx raises where no answer comes, or its body breaks off or cannot be decoded."""

_REQUEST_ERRORS = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
"""Those that a retry would meet again: a URL without http, a header that HTTP does not allow."""

_CONNECT_SECONDS = 5.0


def http_client(kind: type[H], url: str, timeout: float, transport: Any) -> H:
    """Make an httpx client of class `kind`. Raises ServerUnreachableError where `url` is not a URL."""
    try:
        return kind(
            base_url=url,
            timeout=_timeout(timeout),
            transport=transport,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),  # a stream holds a connection
        )
    except (httpx.InvalidURL, ValueError) as error:
        raise ServerUnreachableError(f"{mask_url(url)!r} is not the URL of a server: {error}") from error


def request_of(http: httpx.Client | httpx.AsyncClient, action: Request, headers: Mapping[str, str]) -> httpx.Request:
    """Build the httpx request of an action. Its own headers win over the client's `headers`."""
    return http.build_request(
        action.method,
        action.path,
        json=action.body,
        params=dict(action.params) or None,
        headers={**headers, **action.headers},
        timeout=http.timeout if action.timeout is None else _timeout(action.timeout),
    )


def answer_of(response: httpx.Response, *, opened: bool) -> Answer:
    """Convert a response. `opened`: its body is left to be read as a stream."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, b"" if opened else response.content)


def failure_of(error: Exception) -> Failure:
    """Convert one of the exceptions in BROKEN."""
    return Failure(
        str(error) or type(error).__name__,
        transient=not isinstance(error, _REQUEST_ERRORS),
        silent=isinstance(error, httpx.ReadTimeout),
    )


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS))
