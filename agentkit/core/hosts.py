"""Names of hosts as Host and Origin headers and AGENTKIT_HOSTS write them: `name`, `name:port`, `[address]:port`.

Two names of one host are equal here: letter case, the dot at the end of a domain name, and the ways to write an IPv6
address do not count. Nothing is looked up.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

__all__ = ["Host", "HostPattern"]

_LABEL = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
_FORM = re.compile(
    rf"(?:(?P<name>{_LABEL}(?:\.{_LABEL})*)\.?|\[(?P<address>[0-9a-f:.]{{2,45}})\])(?::(?P<port>[0-9]{{0,5}}))?",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Host:
    """A host, by its name in lower case or its address, and a port where one is named."""

    name: str
    port: int | None = None

    @classmethod
    def read(cls, text: str) -> Host | None:
        """Read `text`; None where it has not the form of a host."""
        match = _FORM.fullmatch(text)
        if match is None:
            return None
        port = int(match["port"]) if match["port"] else None
        if match["name"]:
            return cls(match["name"].lower(), port)
        try:
            return cls(ipaddress.IPv6Address(match["address"]).compressed, port)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class HostPattern:
    """Hosts that are answered: one, or with `subdomains` all below it. Without a port any port will do."""

    host: Host
    subdomains: bool = False

    @classmethod
    def read(cls, text: str) -> HostPattern | None:
        """Read a host, `*.` and a host for those below it, or an IPv6 address without brackets; None for others."""
        if text.count(":") > 1 and "[" not in text:
            text = f"[{text}]"
        host = Host.read(text.removeprefix("*."))
        return None if host is None else cls(host, text.startswith("*."))

    def matches(self, host: Host) -> bool:
        """Whether `host` is one of these."""
        if self.host.port not in (None, host.port):
            return False
        return host.name.endswith(f".{self.host.name}") if self.subdomains else host.name == self.host.name
