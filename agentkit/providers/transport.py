"""The process's HTTP clients, one for each proxy, and what their failures are in our words. No vendor's format."""

from __future__ import annotations

import asyncio
import atexit
import ssl
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from urllib.parse import urlsplit

import httpx

from agentkit.core.event_loop import submit
from agentkit.core.proxies import Proxy, proxy_for
from agentkit.errors import ProviderError
from agentkit.providers.fast_transport import AVAILABLE, FastTransport

__all__ = ["FreshConnection", "client_for", "close_clients", "connection_error", "ended_unanswered"]

_KEEPALIVE_SECONDS = 30.0
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=_KEEPALIVE_SECONDS)
_CLOSE_SECONDS = 1.0
_UNANSWERED = "without sending a response"  # in the words of httpcore

_clients: dict[asyncio.AbstractEventLoop, dict[tuple[str | None, bool], httpx.AsyncClient]] = {}
"""By loop. Those of a parent's loop stay, unused, in a child: what frees them would touch the parent's connections."""


def client_for(url: str, vendor: str) -> httpx.AsyncClient:
    """Return the client for a request to `url`.

    Clients belong to their loop: a forked child has a new loop, so it gets new ones. Raises ProviderError where the
    environment names a proxy or certificates that cannot be used.
    """
    loop = asyncio.get_running_loop()
    clients = _clients.setdefault(loop, {})
    proxy, secure = proxy_for(url), not url.lower().startswith("http:")
    key = proxy.url if proxy else None, secure
    if key not in clients:
        clients[key] = _client(proxy, secure, vendor)
    return clients[key]


async def close_clients() -> None:
    """Close the clients of the running loop; whoever asks for one afterwards gets a new one."""
    for client in _clients.pop(asyncio.get_running_loop(), {}).values():
        await client.aclose()


def _close_at_exit() -> None:
    """Close them in peace: aiohttp complains of connections that the end of the process closes."""
    if _clients:
        with suppress(FutureTimeoutError, RuntimeError):
            submit(close_clients()).result(_CLOSE_SECONDS)


atexit.register(_close_at_exit)


def _client(proxy: Proxy | None, secure: bool, vendor: str) -> httpx.AsyncClient:
    try:
        verify: ssl.SSLContext | bool = httpx.create_ssl_context() if secure else True
    except OSError as error:
        problem = f"{vendor}: the certificates to check it with cannot be read"
        raise ProviderError(
            problem, vendor=vendor, internal=f"check SSL_CERT_FILE and SSL_CERT_DIR: {error}"
        ) from error
    try:
        # The environment is read by `proxy_for`, and otherwise has no say: httpx would make clients for all proxies.
        fast = AVAILABLE and proxy is None
        return httpx.AsyncClient(
            transport=FastTransport(verify, _KEEPALIVE_SECONDS) if fast else None,
            limits=_LIMITS,
            follow_redirects=False,
            trust_env=False,
            proxy=proxy.url if proxy else None,
            verify=verify,
        )
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        hint = (
            "install httpx[socks]" if isinstance(error, ImportError) else "use http://, https:// or socks5://host:port"
        )
        raise ProviderError(
            f"{vendor}: the proxy on the way to it cannot be used", vendor=vendor, internal=f"{proxy}: {hint}"
        ) from None  # the error quotes the URL, and with it the password


class FreshConnection:
    """Notes whether a request opened a connection: pass it as httpx's `trace` extension."""

    def __init__(self) -> None:
        self.opened = False

    async def __call__(self, event: str, info: object) -> None:
        if event.endswith(("connect_tcp.started", "connect_unix_socket.started")):
            self.opened = True


def ended_unanswered(error: Exception) -> bool:
    """Return whether the connection ended, or broke, before a byte of the answer came."""
    if isinstance(error, httpx.RemoteProtocolError):
        return _UNANSWERED in str(error)
    return isinstance(error, httpx.ReadError | httpx.WriteError | httpx.CloseError)


def connection_error(
    error: Exception, *, vendor: str, url: str, url_setting: str, connect_timeout: float, silence_seconds: float
) -> ProviderError:
    """Make the error for a failure of the connection. Timeouts are in seconds.

    The message says what happened; `internal` names hosts and settings, and is not redacted yet.
    """
    host, proxy, retryable = _host(url), proxy_for(url), True
    cause = str(error) or type(error).__name__
    match error:
        case httpx.InvalidURL() | httpx.UnsupportedProtocol():
            problem, detail, retryable = "its URL is not usable", f"check {url_setting}", False
        case httpx.LocalProtocolError():
            problem, detail, retryable = "the request cannot be sent as HTTP", "", False
        case httpx.ProxyError():
            problem, detail = "the proxy on the way to it refused the connection", f"{proxy}: {cause}"
        case httpx.ConnectTimeout() if proxy:
            problem, detail = f"no connection to the proxy on the way to it within {connect_timeout:g} s", str(proxy)
        case httpx.ConnectTimeout():
            problem, detail = f"no connection within {connect_timeout:g} s", f"to {host}"
        case httpx.ReadTimeout():
            problem, detail = f"silent for {silence_seconds:g} s", host
        case httpx.ConnectError() if "CERTIFICATE_VERIFY_FAILED" in cause:
            problem, retryable = "its certificate cannot be verified", False
            detail = f"of {host}: {cause}; SSL_CERT_FILE names the authorities to trust"
        case httpx.ConnectError() if proxy:
            problem, detail = "no connection to the proxy on the way to it", f"{proxy}: {cause}"
        case httpx.ConnectError():
            problem, detail = "no connection", f"to {host}: {cause}"
        case httpx.RemoteProtocolError():
            problem, detail = f"the connection broke: {_words(cause)}", f"to {host}"
        case _:
            problem, detail = "the connection broke", f"to {host}: {cause}"
    provider_error = ProviderError(f"{vendor}: {problem}", retryable=retryable, vendor=vendor, internal=detail or None)
    if not isinstance(error, httpx.LocalProtocolError):  # that one quotes the header, and with it the key
        provider_error.__cause__ = error
    return provider_error


def _words(cause: str) -> str:
    """Return what is known of how a connection ended, in words that name nobody."""
    if _UNANSWERED in cause:
        return "the server closed it without an answer"
    return "the answer was cut off" if "incomplete" in cause or "peer closed" in cause else "the answer was no HTTP"


def _host(url: str) -> str:
    """Return the host alone: a URL may carry a password."""
    try:
        return urlsplit(url).hostname or "the vendor"
    except ValueError:
        return "the vendor"
