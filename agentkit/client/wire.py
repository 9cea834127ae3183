"""Between plans and httpx: how a request is built, and what httpx's responses and errors are to a plan."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar

import httpx

from agentkit.client.plans import Answer, Failure, Request, ServerUnreachableError
from agentkit.core.masking import mask_log, mask_url
from agentkit.core.proxies import proxy_for

__all__ = ["BROKEN", "answer_of", "failure_of", "http_client", "request_of"]

H = TypeVar("H", httpx.Client, httpx.AsyncClient)

mask_log("httpx")  # its line for each request shows the whole URL

BROKEN = (httpx.TransportError, httpx.StreamError, httpx.DecodingError)
"""What httpx raises where no answer comes, or its body breaks off or cannot be decoded."""

_REQUEST_ERRORS = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
"""Those that a retry would meet again: a URL without http, a header that HTTP does not allow."""

_CONNECT_SECONDS = 5.0


def http_client(kind: type[H], url: str, timeout: float, transport: Any) -> H:
    """Make an httpx client of class `kind`, which goes through the environment's proxy unless `url` is on this machine.

    Raises ServerUnreachableError where `url` is not a URL, and where the proxy or its certificates cannot be used.
    """
    proxy = None if transport is not None else proxy_for(url)
    try:
        return kind(
            base_url=url,
            timeout=_timeout(timeout),
            transport=transport,
            trust_env=False,  # httpx would make clients for all proxies of the environment, and fail where one is odd
            proxy=proxy.url if proxy else None,
            verify=httpx.create_ssl_context() if url.lower().startswith("https:") else True,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),  # a stream holds a connection
        )
    except ImportError:
        text = (
            f"{mask_url(url)} is reached through the proxy {proxy}, which needs a package: pip install 'httpx[socks]'"
        )
        raise ServerUnreachableError(text) from None
    except OSError as error:
        raise ServerUnreachableError(
            f"the certificates of SSL_CERT_FILE or SSL_CERT_DIR cannot be read: {error}"
        ) from error
    except (httpx.InvalidURL, ValueError) as error:
        if proxy is not None:
            raise ServerUnreachableError(
                f"{mask_url(url)} cannot be reached: {proxy} is no proxy that can be used"
            ) from None
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
    reason = str(error) or type(error).__name__
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        with suppress(RuntimeError):  # of an error that knows no request
            proxy = proxy_for(str(error.request.url))
            reason += f", through the proxy {proxy}" if proxy else ""
    return Failure(
        reason,
        transient=not isinstance(error, _REQUEST_ERRORS),
        silent=isinstance(error, httpx.ReadTimeout),
    )


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS))
