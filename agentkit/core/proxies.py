"""Which proxy a request goes through, by the environment: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.

Written down here, and not left to the HTTP client, for three reasons: loopback never goes through a proxy, an error can
name the setting, and one setting that cannot be used breaks no request that it does not concern.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

__all__ = ["Proxy", "proxy_for"]


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy. `url`: as a client takes it, perhaps with a password. `setting`: the variable that names it."""

    url: str = field(repr=False)
    setting: str

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS, for which the HTTP client needs a package of its own."""
        return self.url.lower().startswith("socks")

    def __str__(self) -> str:
        """Return the host and the setting, without a password."""
        try:
            parts = urlsplit(self.url)
            host = f"{parts.hostname or '?'}:{parts.port}" if parts.port else parts.hostname or "?"
        except ValueError:
            host = "?"
        return f"{host} ({self.setting})"


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy for a request to `url`; None where it goes there by itself."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    if not host or is_loopback(host):
        return None
    proxies = getproxies()
    scheme = next((scheme for scheme in (parts.scheme.lower(), "all") if proxies.get(scheme)), None)
    if scheme is None or proxy_bypass(f"{host}:{port}" if port else host) or _within(host, proxies.get("no", "")):
        return None
    value = proxies[scheme].strip()
    return Proxy(value if "://" in value else f"http://{value}", _setting(scheme))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    host = host.lower().strip("[]").removesuffix(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _within(host: str, no_proxy: str) -> bool:
    """Whether NO_PROXY names a network that holds the host, which `urllib` does not read."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return False
    for entry in no_proxy.split(","):
        try:
            if address in ip_network(entry.strip().strip("[]"), strict=False):
                return True
        except ValueError:
            continue
    return False


def _setting(scheme: str) -> str:
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
    return next((name for name in names if os.environ.get(name)), "the system's settings")
