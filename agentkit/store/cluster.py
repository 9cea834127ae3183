"""A client of a Redis Cluster, made of redis-py's: each command goes to the master that has its key's slot.

redis-py follows what the cluster says (MOVED, ASK, TRYAGAIN), and reads the topology anew where a node is gone. What is
added here is what the store relies on: nothing is connected before it is used, each process connects for itself, and a
node that takes a command and gives no answer is not asked twice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import redis
import redis.cluster
import redis.exceptions
from redis.cluster import ClusterNode, ClusterPipeline, PipelineCommand

from agentkit.core.forks import ForkSafeLock
from agentkit.core.urls import ClusterUrl

__all__ = ["Cluster", "ClusterClient", "is_cluster", "masters", "stream_fields", "with_raw_streams"]


_ELSEWHERE = (redis.exceptions.ConnectionError, redis.exceptions.AskError, redis.exceptions.TryAgainError)
"""Why a command of a pipeline is sent once more by itself. An AskError is a MovedError, too."""


class _Pipeline(ClusterPipeline):
    """Commands for any nodes: written to all of them before the first answer is read.

    redis-py's own would send each command of a node that gives no answer again by itself, and wait for every one. So a
    node that hangs would hold up the others' leases for minutes.
    """

    def __init__(self, client: ClusterClient, **options: Any) -> None:
        super().__init__(**options)
        self._client = client
        self._is_transaction = options["transaction"]

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        if self._is_transaction:
            return super().execute(raise_on_error)
        commands = list(self._execution_strategy.command_queue)
        try:
            results: list[Any] = self.send_cluster_commands(  # type: ignore[no-untyped-call]
                commands, raise_on_error=False, allow_redirections=False
            )
        finally:
            self.reset()  # type: ignore[no-untyped-call]
        if any(isinstance(result, redis.exceptions.TimeoutError) for result in results):
            self.nodes_manager.initialize()  # another may have its slots by now
        for place, command in enumerate(commands):
            if isinstance(results[place], _ELSEWHERE):
                results[place] = self._sent_again(command)
        errors = [result for result in results if isinstance(result, Exception)]
        if errors and raise_on_error:
            raise errors[0]
        return results

    def _sent_again(self, command: PipelineCommand) -> Any:
        try:
            return self._client.execute_command(*command.args, **command.options)  # type: ignore[no-untyped-call]
        except (redis.exceptions.RedisError, redis.exceptions.RedisClusterException) as error:
            return error

    def get_redis_connection(self, node: ClusterNode) -> redis.Redis:
        return with_raw_streams(super().get_redis_connection(node))


class ClusterClient(redis.RedisCluster):
    """redis-py's client, which connects when it is made."""

    ERRORS_ALLOW_RETRY = (  # type: ignore[assignment]
        redis.exceptions.ConnectionError,
        redis.exceptions.ClusterDownError,
        redis.exceptions.SlotNotCoveredError,
    )
    """After these a command is sent again: each script knows whether it was done. A timeout's caller has waited."""

    @classmethod
    def of(cls, url: ClusterUrl, options: Mapping[str, Any]) -> Self:
        """Connect. `options`: of redis-py's client and its connections. Raises what redis-py does."""
        nodes = [ClusterNode(host, port) for host, port in url.nodes[1:]]  # type: ignore[no-untyped-call]
        return cls(
            url=url.server,
            startup_nodes=nodes,
            connection_pool_class=redis.BlockingConnectionPool,
            require_full_coverage=False,  # what has lost its master waits, and the rest goes on
            reinitialize_steps=1,  # who learns that one slot has moved learns where all of them are
            **options,
        )

    def get_redis_connection(self, node: ClusterNode) -> redis.Redis:
        return with_raw_streams(super().get_redis_connection(node))

    def pipeline(self, transaction: bool | None = None, shard_hint: object = None) -> ClusterPipeline:
        """A pipeline, which is a transaction only where that is said: then all its keys must be in one slot."""
        return _Pipeline(
            self,
            nodes_manager=self.nodes_manager,
            commands_parser=self.commands_parser,
            startup_nodes=list(self.nodes_manager.startup_nodes.values()),
            result_callbacks=self.result_callbacks,
            cluster_response_callbacks=self.cluster_response_callbacks,
            reinitialize_steps=self.reinitialize_steps,
            retry=self.retry,
            lock=self._lock,
            transaction=bool(transaction),
        )


class Cluster:
    """A `ClusterClient` that is made when it is first used, in each process anew."""

    def __init__(self, url: ClusterUrl, options: dict[str, Any]) -> None:
        self._url = url
        self._options = options
        self._lock = ForkSafeLock()
        self._client: ClusterClient | None = None
        self._pid = 0
        self._parents: list[ClusterClient] = []
        """Of processes that have forked this one: collected as garbage they would wait for locks of their threads."""

    def close(self) -> None:
        with self._lock:
            if self._client is not None and self._pid == os.getpid():
                self._client.close()
                self._client = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connected(), name)

    def _connected(self) -> ClusterClient:
        client = self._client
        if client is not None and self._pid == os.getpid():
            return client
        with self._lock:
            if self._client is not None and self._pid != os.getpid():
                self._parents.append(self._client)
                self._client = None
            if self._client is None:
                self._client, self._pid = ClusterClient.of(self._url, self._options), os.getpid()
            return self._client


def is_cluster(client: object) -> bool:
    """Whether a client, as `connect` makes it, is a cluster's."""
    return not isinstance(client, redis.Redis)


def masters(client: Any) -> dict[str, redis.Redis]:
    """Return a client of each server that takes writes, by its host:port; "" for one that is no cluster's."""
    if not is_cluster(client):
        return {"": client}
    return {node.name: client.get_redis_connection(node) for node in client.get_primaries()}


def with_raw_streams(client: redis.Redis) -> redis.Redis:
    """Have a client give entries of streams as they come: as dicts they cost four times as much.

    That of a cluster does so by itself, for each of its nodes.
    """
    if is_cluster(client):
        return client
    for command in ("XRANGE", "XREVRANGE"):
        client.response_callbacks.pop(command, None)
    return client


def stream_fields(entry: Sequence[Any]) -> dict[bytes, bytes]:
    """Return the fields of a stream's entry as it comes, [id, [field, value, …]]."""
    return dict(zip(entry[1][::2], entry[1][1::2], strict=True))
