"""The connection to Redis: a client with agentkit's timeouts and retries, and its errors as ours.

Two kinds of error leave this package: StoreUnavailableError, after which the same call may be made again, and
StoreError, which no repetition helps.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, TypeVar, cast

import redis
import redis.backoff
import redis.exceptions
import redis.retry
import redis.sentinel

from agentkit.core.struct import half_surrogate
from agentkit.core.urls import ClusterUrl, SentinelUrl
from agentkit.errors import StoreError, StoreUnavailableError
from agentkit.store.client import Client, Pool
from agentkit.store.cluster import Cluster

__all__ = ["connect", "own_connection", "translated"]

F = TypeVar("F", bound=Callable[..., Any])

_CONNECT_SECONDS = 2.0
_SOCKET_SECONDS = 5.0
_CONNECTIONS = 32

_PASSING = re.compile(
    r"(?:^|-)(BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|MOVED|NOREPLICAS|OOM|READONLY|TRYAGAIN|UNBLOCKED)\b"
)
"""How a server says that it cannot serve now. Redis 6 puts what a script met behind a "-" in the text."""

_PASSING_TYPES = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.ClusterError,
    redis.exceptions.MovedError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.TryAgainError,
    redis.exceptions.AskError,
)


def connect(url: str) -> redis.Redis:
    """A client of the server or the cluster that `url` names, or of the master that Sentinel names.

    A broken connection is made anew and the command sent again, which is safe: each script knows whether it
    was done. A server that takes a connection and gives no answer is not asked twice: its caller has waited.
    Raises ConfigurationError for a Sentinel or Cluster URL that cannot be read.
    """
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": _SOCKET_SECONDS,
        "socket_connect_timeout": _CONNECT_SECONDS,
        "socket_keepalive": True,
        "retry": redis.retry.Retry(
            redis.backoff.ExponentialBackoff(cap=0.5, base=0.05),
            3,
            supported_errors=(redis.exceptions.ConnectionError,),
        ),
    }
    # A thousand watchers that read the log at once wait for a connection, and open no thousand of them.
    bounds: dict[str, Any] = {"max_connections": _CONNECTIONS, "timeout": _SOCKET_SECONDS}
    cluster = ClusterUrl.read(url)
    if cluster is not None:
        return cast(redis.Redis, Cluster(cluster, {**options, **bounds}))
    options["health_check_interval"] = 30
    sentinel = SentinelUrl.read(url)
    if sentinel is None:
        return Client.from_pool(Pool.from_url(url, **bounds, **options))
    asking = {"socket_timeout": _CONNECT_SECONDS, "socket_connect_timeout": _CONNECT_SECONDS}
    asking |= sentinel.sentinel_options()
    manager = redis.sentinel.Sentinel(sentinel.sentinels, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    login = {"username": sentinel.username, "password": sentinel.password, "db": sentinel.db}
    if sentinel.tls is not None:
        login |= {"ssl": True, **sentinel.tls}
    return cast(redis.Redis, manager.master_for(sentinel.service, Client, **login, **options))  # type: ignore[no-untyped-call]


def own_connection(client: redis.Redis) -> redis.Connection:
    """One more connection to where `client`, made by `connect`, has its own: outside its pool, and not open yet.

    It never reconnects in the middle of a command: its owner gets the error.
    """
    pool = client.connection_pool
    never = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    options = {**pool.connection_kwargs, "protocol": 2, "retry": never}  # RESP3 would hand messages to callbacks
    return cast(redis.Connection, pool.connection_class(**options))


def translated(method: F) -> F:
    """Redis's errors become ours at this edge. For methods of what has its client as `_client`.

    Raises InvalidRequestError too, for an id or a name that is no text: nothing can be stored under it.
    """

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except UnicodeEncodeError as error:
            raise half_surrogate("the id or name of what is asked for") from error
        except (redis.exceptions.RedisError, redis.exceptions.RedisClusterException) as error:
            if not passes(error):
                raise refusal(error) from error
            text = f"{type(error).__name__}: {error}{_hint(str(error))}"
            if _is_read_only(error) and not isinstance(self._client, Cluster):  # a node of a cluster says MOVED
                # Our name for the server may lead to another by now, and an open connection would never see it.
                self._client.connection_pool.disconnect(inuse_connections=False)
            raise StoreUnavailableError(f"the store cannot be used: {text}") from error

    return cast(F, call)


_HINTS = {
    "CERTIFICATE VERIFY FAILED": "ssl_ca_certs in the URL names the authorities to trust, and the certificate must be "
    "that of the URL's host",
    "ALERT CERTIFICATE REQUIRED": "the server wants a client certificate: ssl_certfile and ssl_keyfile in the URL",
    "EOF occurred in violation of protocol": "the server may want a client certificate, or not trust this one: "
    "ssl_certfile and ssl_keyfile in the URL",
}


def _hint(text: str) -> str:
    """Say what to do about an error of TLS; nothing about others."""
    return next((f" ({hint})" for words, hint in _HINTS.items() if words in text.replace("_", " ")), "")


def refusal(error: Exception) -> StoreError:
    """Make our error for what the store will not do, however often it is asked."""
    return StoreError(f"the store refused: {type(error).__name__}: {error}")


def passes(error: Exception) -> bool:
    """Whether the same call may be done later."""
    if isinstance(error, redis.exceptions.RedisClusterException):  # no node answers, or none has the slot now
        return "same key slot" not in str(error)
    return isinstance(error, _PASSING_TYPES) or _PASSING.search(str(error)) is not None


def _is_read_only(error: Exception) -> bool:
    return isinstance(error, redis.exceptions.ReadOnlyError) or "-READONLY" in str(error)
