"""The URL of a store, or of a broker, that is found through Redis Sentinel.

    redis+sentinel://[user:password@]host:port[,host:port…]/service[/db]

The hosts are the sentinels; user, password and db are those of the Redis servers that they watch. What it
means to the store and to Celery is theirs to know.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from agentkit.errors import ConfigurationError

__all__ = ["SentinelUrl"]

_SCHEME = "redis+sentinel://"
_PORT = 26379
_FORM = re.compile(
    r"redis\+sentinel://"
    r"(?:(?P<user>[^:@/\s]*)(?::(?P<password>[^@/\s]*))?@)?(?P<hosts>[^@/?#\s]+)/(?P<service>[^/?#\s]+)(?:/(?P<db>\d+))?/?"
)


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """`sentinels` are (host, port); `service` is the name under which they know the master."""

    sentinels: tuple[tuple[str, int], ...]
    service: str
    db: int = 0
    username: str | None = None
    password: str | None = None

    @classmethod
    def read(cls, url: str) -> SentinelUrl | None:
        """The parts of `url`; None where it is another kind of URL. Raises ConfigurationError."""
        if not url.startswith(_SCHEME):
            return None
        match = _FORM.fullmatch(url)
        if match is None:  # the URL itself may hold a password
            raise ConfigurationError(f"a Sentinel URL has the form {_SCHEME}host:port[,host:port…]/service[/db]")
        return cls(
            tuple(_address(part) for part in match["hosts"].split(",")),
            unquote(match["service"]),
            int(match["db"] or 0),
            unquote(match["user"]) if match["user"] else None,
            unquote(match["password"]) if match["password"] else None,
        )

    def broker_url(self) -> str:
        """The same for Celery, which wants one `sentinel://` URL per sentinel and the service beside them."""
        login = ""
        if self.username is not None or self.password is not None:
            login = f"{quote(self.username or '', safe='')}:{quote(self.password or '', safe='')}@"
        return ";".join(f"sentinel://{login}{_shown(host)}:{port}/{self.db}" for host, port in self.sentinels)


def _address(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[^\]]+\]|[^:\[\]]+)(?::(\d{1,5}))?", text)
    if match is None:
        raise ConfigurationError(f"{text!r} is no sentinel: a Sentinel URL names them as host:port")
    return match[1].strip("[]"), int(match[2] or _PORT)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
