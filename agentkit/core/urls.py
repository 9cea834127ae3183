"""URLs that name several servers: of Redis Sentinel, for a store or a broker, and of a Redis Cluster, for a store.

    redis+sentinel://[user:password@]host:port[,host:port…]/service[/db][?option=value…]    rediss+sentinel:// for TLS
    redis+cluster://[user:password@]host:port[,host:port…][?option=value…]                  rediss+cluster:// for TLS

The hosts of the first are the sentinels; user, password and db are those of the Redis servers that they watch. Options
are `sentinel_username` and `sentinel_password`, the sentinels' own, and with TLS, which then both speak, those of
`rediss://` (`ssl_ca_certs` and the like). The hosts of the second are some of the cluster's nodes, which know the
others; its options are those of `rediss://`. What it means to the store and to Celery is theirs to know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from agentkit.errors import ConfigurationError

__all__ = ["ClusterUrl", "SentinelUrl"]

_SCHEMES = ("redis+sentinel://", "rediss+sentinel://")
_PORT = 26379
_FORM = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://"
    r"(?:(?P<user>[^:@/\s]*)(?::(?P<password>[^@/\s]*))?@)?(?P<hosts>[^@/?#\s]+)/(?P<service>[^/?#\s]+)(?:/(?P<db>\d+))?/?(?:\?(?P<query>[^\s#]*))?"
)
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_cert_reqs")
_LOGINS = ("sentinel_username", "sentinel_password")
_NO = ("0", "f", "false", "n", "no")

_CLUSTER_PORT = 6379
_CLUSTER_FORM = re.compile(
    r"(?P<scheme>rediss?)\+cluster://(?P<login>(?:[^@/\s]*@)?)(?P<hosts>[^@/?#\s]+)(?:/0?)?(?P<query>(?:\?\S*)?)"
)


@dataclass(frozen=True, slots=True)
class ClusterUrl:
    """`nodes` are (host, port) of some of the cluster's; `server`: the URL of the first of them, as redis-py has it."""

    nodes: tuple[tuple[str, int], ...]
    server: str

    @classmethod
    def read(cls, url: str) -> ClusterUrl | None:
        """The parts of `url`; None where it is another kind of URL. Raises ConfigurationError."""
        if not cls.names(url):
            return None
        match = _CLUSTER_FORM.fullmatch(url)
        if match is None:  # the URL itself may hold a password
            raise ConfigurationError(
                "a Cluster URL has the form redis+cluster://[user:password@]host:port[,host:port…], without a database"
            )
        nodes = tuple(_address(part, _CLUSTER_PORT, "Cluster") for part in match["hosts"].split(","))
        host, port = nodes[0]
        return cls(nodes, f"{match['scheme']}://{match['login']}{_shown(host)}:{port}{match['query']}")

    @staticmethod
    def names(url: str) -> bool:
        """Whether a URL names a cluster."""
        return url.startswith(("redis+cluster://", "rediss+cluster://"))


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """`sentinels` are (host, port); `service` is the name under which they know the master.

    `tls`: the options of TLS connections, as redis-py takes them; None where they are plain.
    """

    sentinels: tuple[tuple[str, int], ...]
    service: str
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    tls: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, url: str) -> SentinelUrl | None:
        """The parts of `url`; None where it is another kind of URL. Raises ConfigurationError."""
        if not cls.names(url):
            return None
        match = _FORM.fullmatch(url)
        if match is None:  # the URL itself may hold a password
            raise ConfigurationError(
                f"a Sentinel URL has the form {_SCHEMES[0]}host:port[,host:port…]/service[/db], with TLS {_SCHEMES[1]}…"
            )
        options = _options(match["query"] or "", is_tls=match["scheme"] == "rediss")
        return cls(
            tuple(_address(part, _PORT, "Sentinel") for part in match["hosts"].split(",")),
            unquote(match["service"]),
            int(match["db"] or 0),
            unquote(match["user"]) if match["user"] else None,
            unquote(match["password"]) if match["password"] else None,
            sentinel_username=options.pop("sentinel_username", None),
            sentinel_password=options.pop("sentinel_password", None),
            tls=options if match["scheme"] == "rediss" else None,
        )

    @staticmethod
    def names(url: str) -> bool:
        """Whether a URL is one of Sentinel."""
        return url.startswith(_SCHEMES)

    def sentinel_options(self) -> dict[str, Any]:
        """Return how a sentinel is connected to, as redis-py takes it."""
        login = {"username": self.sentinel_username, "password": self.sentinel_password}
        return {**login, **({} if self.tls is None else {"ssl": True, **self.tls})}

    def broker_url(self) -> str:
        """The same for Celery, which wants one `sentinel://` URL per sentinel and the service beside them."""
        login = ""
        if self.username is not None or self.password is not None:
            login = f"{quote(self.username or '', safe='')}:{quote(self.password or '', safe='')}@"
        return ";".join(f"sentinel://{login}{_shown(host)}:{port}/{self.db}" for host, port in self.sentinels)


def _options(query: str, *, is_tls: bool) -> dict[str, Any]:
    """Read the options of a URL. Raises ConfigurationError."""
    found: dict[str, Any] = {}
    known = (*_LOGINS, *((*_TLS_OPTIONS, "ssl_check_hostname") if is_tls else ()))
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            hint = ": TLS has the scheme rediss+sentinel://" if name.startswith("ssl") and not is_tls else ""
            raise ConfigurationError(f"{name!r} is no option of a Sentinel URL{hint}; it takes {', '.join(known)}")
        found[name] = value.lower() not in _NO if name == "ssl_check_hostname" else value
    return found


def _address(text: str, port: int, kind: str) -> tuple[str, int]:
    """Read a host and its port, `port` where it names none."""
    match = re.fullmatch(r"(\[[^\]]+\]|[^:\[\]]+)(?::(\d{1,5}))?", text)
    if match is None:
        raise ConfigurationError(f"{text!r} is no server: a {kind} URL names them as host:port")
    return match[1].strip("[]"), int(match[2] or port)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
