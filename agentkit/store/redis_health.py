"""What the store on Redis or Valkey says of itself: whether it takes writes, and what of its settings may lose runs."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import redis
import redis.exceptions
from redis.crc import key_slot

from agentkit.store.cluster import is_cluster, masters
from agentkit.store.connection import translated
from agentkit.store.protocol import Health

__all__ = ["RedisHealth"]

_PROBE_MS = 1000
_SKEW_MS = 1000
_TRIES = 5000
"""Of names for a probe whose slot a master has; one with a hundredth of all slots is found in the first few hundred."""


class RedisHealth:
    """The part of `RedisStore` that examines its servers."""

    url: str
    _client: redis.Redis
    _prefix: str

    @translated
    def check(self) -> Health:
        servers = masters(self._client)
        # Asked by a write: a replica, a full server and one without its replicas answer a PING.
        pipe = self._client.pipeline(transaction=False)
        for key in _probes(self._client, self._prefix, len(servers)):
            pipe.set(key, "", px=_PROBE_MS)
        pipe.execute()
        try:
            infos = {name: _info(server) for name, server in servers.items()}
        except redis.exceptions.NoPermissionError:
            return Health(("INFO is not permitted: whether the server evicts or forgets runs cannot be told",))
        warnings = [
            f"{name}: {text}" if name else text for name, info in infos.items() for text in _troubles(info, bool(name))
        ]
        clocks = [info["now_ms"] for info in infos.values()]
        if max(clocks) - min(clocks) > _SKEW_MS:
            warnings.append(f"the clocks of the cluster's masters are {max(clocks) - min(clocks)} ms apart; set NTP up")
        fullest = max(infos.values(), key=_share_used)
        return Health(
            tuple(warnings),
            _version(list(infos.values()), is_cluster=is_cluster(self._client)),
            fullest.get("used_memory"),
            fullest.get("maxmemory") or None,
            self.url.startswith("rediss"),
        )


def _info(server: redis.Redis) -> dict[str, Any]:
    pipe = server.pipeline(transaction=False)
    for section in ("memory", "persistence", "server", "replication"):
        pipe.info(section)
    pipe.time()
    *sections, (seconds, microseconds) = pipe.execute()
    info: dict[str, Any] = {"now_ms": int(seconds) * 1000 + int(microseconds) // 1000}
    for section in sections:
        info |= section
    return info


def _troubles(info: Mapping[str, Any], of_cluster: bool) -> Iterator[str]:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and info.get("maxmemory"):
        yield f"maxmemory-policy is {policy}: Redis may evict runs; set it to noeviction"
    if not info.get("aof_enabled", 1):
        yield "appendonly is off: a restart of Redis loses runs; set appendonly yes"
    if of_cluster and not info.get("connected_slaves"):
        yield "this master of the cluster has no replica: its runs wait while it is away"


def _version(infos: list[dict[str, Any]], *, is_cluster: bool) -> str:
    first = infos[0]
    is_valkey = "valkey_version" in first
    name = f"Valkey {first['valkey_version']}" if is_valkey else f"Redis {first.get('redis_version', '')}"
    if not is_cluster:
        return name.strip()
    count = "1 master" if len(infos) == 1 else f"{len(infos)} masters"
    return f"a cluster of {count} of {name.strip()}"


def _share_used(info: Mapping[str, Any]) -> float:
    bound = info.get("maxmemory")
    return float(info.get("used_memory", 0)) / bound if bound else 0.0


def _probes(client: Any, prefix: str, count: int) -> list[str]:
    """Name a key for each of `count` masters, in a slot that it has."""
    key = f"{prefix}probe"
    if not is_cluster(client):
        return [key]
    found: dict[str, str] = {}
    for name, slot in _names(key):
        found.setdefault(client.nodes_manager.get_node_from_slot(slot).name, name)
        if len(found) == count:
            break
    return list(found.values())


@functools.cache
def _names(key: str) -> list[tuple[str, int]]:
    return [(f"{key}:{number}", key_slot(f"{key}:{number}".encode())) for number in range(_TRIES)]
