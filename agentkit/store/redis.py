"""The store on Redis or Valkey: one Lua script per act, so that an act happens whole or not at all.

The scripts and the schema of every key are in `scripts/`. What spans runs (the due index, the list of
runs) is never in one script with a run's keys, so the store can be a cluster.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any, cast

import redis
import redis.exceptions

from agentkit.core.events import Event
from agentkit.core.ids import new_id, now_ms
from agentkit.core.messages import Message
from agentkit.core.record import SCHEMA_VERSION, Change, Lease, RunState
from agentkit.errors import (
    LeaseLostError,
    RunNotFoundError,
    RunNotTerminalError,
    UnsupportedSchemaVersionError,
    VersionConflictError,
)
from agentkit.store.connection import connect, translated
from agentkit.store.encoding import decode_resolution, decode_state, encode_change
from agentkit.store.protocol import (
    Claim,
    Commit,
    DueRun,
    EventPage,
    Health,
    Push,
    StoredEvent,
    StoredResolution,
    Subscription,
)
from agentkit.store.pubsub import Hub

__all__ = ["RedisStore"]

_SCRIPTS = ("append", "claim", "commit", "delete", "events", "load", "note", "release", "renew", "settle", "take")


class Scripts:
    """The Lua scripts, sent by their digest; a server that has lost them gets them again."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        folder = resources.files("agentkit.store") / "scripts"
        common = (folder / "common.lua").read_text()
        self._texts = {name: common + (folder / f"{name}.lua").read_text() for name in _SCRIPTS}
        self._digests = {name: hashlib.sha1(text.encode()).hexdigest() for name, text in self._texts.items()}

    def call(self, name: str, keys: Sequence[str], *args: Any) -> Any:
        # Not `register_script`: its layers cost as much again as the round trip itself.
        try:
            return self._client.execute_command("EVALSHA", self._digests[name], len(keys), *keys, *args)  # type: ignore[no-untyped-call]
        except redis.exceptions.NoScriptError:
            return self._client.execute_command("EVAL", self._texts[name], len(keys), *keys, *args)  # type: ignore[no-untyped-call]

    def call_many(self, name: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """The same script for several keys, in one round trip."""
        pipe = self._client.pipeline(transaction=False)
        for keys, args in calls:
            pipe.evalsha(self._digests[name], len(keys), *keys, *args)
        try:
            return pipe.execute()
        except redis.exceptions.NoScriptError:
            self._client.script_load(self._texts[name])
            return self.call_many(name, calls)


class RedisStore:
    """See `agentkit.store.protocol.Store` for what each method promises."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "agentkit:",
        retention_seconds: int = 604_800,
        max_events: int = 100_000,
        client: redis.Redis | None = None,
    ) -> None:
        self.url = url
        self._client = client or connect(url)
        self._prefix = prefix
        self._retention_ms = retention_seconds * 1000
        self._max_events = max_events
        self._scripts = Scripts(self._client)
        self._hub = Hub(self._client)
        self._due = f"{prefix}due"
        self._runs = f"{prefix}runs"
        self._workers = f"{prefix}workers"

    def _key(self, run_id: str, part: str = "") -> str:
        return f"{self._prefix}{{{run_id}}}{part}"

    # -- one run

    @translated
    def create(self, change: Change, pushes: Sequence[Push] = (), *, act: str = "") -> bool:
        return bool(self._commit(change, "new", None, pushes, act) != b"exists")

    @translated
    def commit(
        self, change: Change, version: int, lease: Lease | None = None, pushes: Sequence[Push] = (), *, act: str = ""
    ) -> Commit:
        reply = self._commit(change, str(version), lease, pushes, act)
        if reply == b"missing":
            raise RunNotFoundError(f"there is no run {change.record.id}")
        if reply == b"lost":
            raise LeaseLostError
        if reply == b"conflict":
            raise VersionConflictError
        version, before, last = (int(value) for value in reply)
        return Commit(version, before + 1, last)

    def _commit(self, change: Change, version: str, lease: Lease | None, pushes: Sequence[Push], act: str) -> Any:
        encoded = encode_change(change, new=version == "new")
        run_id = change.record.id
        args: list[Any] = [
            act or new_id(),
            version,
            lease.step if lease else "",
            lease.token if lease else "",
            encoded.status,
            encoded.fixed,
            encoded.state,
            encoded.turn_from,
            self._retention_ms if encoded.ended else "",
            self._max_events,
            encoded.on_claim,
            change.record.schema_version,
        ]
        for group in (encoded.messages, encoded.events, encoded.opened, encoded.closed, encoded.resolutions):
            args.append(len(group))
            for item in group:
                args += item if isinstance(item, tuple) else (item,)
        args += [push.message for push in pushes]
        keys = [self._key(run_id, part) for part in ("", ":m", ":e", ":r", ":x")]
        keys += [push.queue for push in pushes]
        return self._scripts.call("commit", keys, *args)

    @translated
    def load(self, run_id: str) -> RunState:
        return self._load(run_id, "")

    @translated
    def messages(self, run_id: str) -> tuple[RunState, list[Message]]:
        state = self._load(run_id, "0")
        return state, list(state.turn)

    def _load(self, run_id: str, first: str) -> RunState:
        reply = self._scripts.call("load", [self._key(run_id), self._key(run_id, ":m")], first)
        if reply == b"missing":
            raise RunNotFoundError(f"there is no run {run_id}")
        return _state(reply)

    @translated
    def claim(self, run_id: str, step: int, lease_ms: int, *, act: str = "") -> Claim | None:
        keys = [self._key(run_id), self._key(run_id, ":m"), self._key(run_id, ":e")]
        reply = self._scripts.call("claim", keys, step, lease_ms, self._max_events, SCHEMA_VERSION, act or new_id())
        if reply == b"missing":
            raise RunNotFoundError(f"there is no run {run_id}")
        if reply == b"no":
            return None
        if reply == b"newer":
            raise UnsupportedSchemaVersionError
        token, attempt, state = reply
        return Claim(Lease(run_id, step, int(token), int(attempt)), _state(state))

    @translated
    def append(self, lease: Lease, events: Sequence[Event], flush: int) -> int:
        keys = [self._key(lease.run_id), self._key(lease.run_id, ":e")]
        bodies = [dumps(event) for event in events]
        reply = self._scripts.call("append", keys, lease.step, lease.token, flush, self._max_events, *bodies)
        if reply == b"lost":
            raise LeaseLostError
        return int(reply)

    @translated
    def renew(self, leases: Sequence[Lease], lease_ms: int) -> list[int | None]:
        calls = [([self._key(lease.run_id)], [lease.step, lease.token, lease_ms]) for lease in leases]
        return [None if reply == b"lost" else int(reply) for reply in self._scripts.call_many("renew", calls)]

    @translated
    def release(self, lease: Lease, *, untouched: bool = False) -> None:
        self._scripts.call("release", [self._key(lease.run_id)], lease.step, lease.token, int(untouched))

    @translated
    def resolution(self, run_id: str, *, decision_id: str | None, tool_call_id: str | None) -> StoredResolution | None:
        key = self._key(run_id, ":r")
        if decision_id is None:
            found = cast(bytes | None, self._client.hget(key, f"t:{tool_call_id}"))
            if found is None:
                return None
            decision_id = found.decode()
        stored = cast(bytes | None, self._client.hget(key, f"d:{decision_id}"))
        return None if stored is None else decode_resolution(decision_id, stored)

    @translated
    def resolutions(self, run_id: str) -> list[StoredResolution]:
        fields = cast(dict[bytes, bytes], self._client.hgetall(self._key(run_id, ":r")))
        found = [decode_resolution(key[2:].decode(), value) for key, value in fields.items() if key.startswith(b"d:")]
        return sorted(found, key=lambda each: each.seq)

    @translated
    def events(self, run_id: str, after: int, limit: int, *, size: int | None = None) -> EventPage:
        keys = [self._key(run_id), self._key(run_id, ":e")]
        reply = self._scripts.call("events", keys, after + 1, limit, "" if size is None else size, SCHEMA_VERSION)
        if reply == b"missing":
            raise RunNotFoundError(f"there is no run {run_id}")
        if reply == b"newer":
            raise UnsupportedSchemaVersionError
        status, last, first, entries = reply
        return EventPage(
            events=[StoredEvent(_seq(entry[0]), entry[1][1]) for entry in entries],
            first_seq=_seq(first[0][0]) if first else int(last) + 1,
            last_seq=int(last),
            status=status.decode(),
        )

    def subscribe(self, run_id: str, *, stops_only: bool = False) -> Subscription:
        return self._hub.subscribe(self._key(run_id, "" if stops_only else ":e"))

    @translated
    def delete(self, run_id: str) -> None:
        keys = [self._key(run_id, part) for part in ("", ":m", ":e", ":r", ":x")]
        reply = self._scripts.call("delete", keys, SCHEMA_VERSION, self._retention_ms)
        if reply == b"missing":
            self.unlist(run_id)  # whoever deleted it may not have come to that
            raise RunNotFoundError(f"there is no run {run_id}")
        if reply == b"newer":
            raise UnsupportedSchemaVersionError
        if reply == b"running":
            raise RunNotTerminalError
        self.unlist(run_id)

    # -- across runs

    @translated
    def note(self, run_id: str, at: int) -> None:
        self._scripts.call("note", [self._due], run_id, at)

    @translated
    def due(self, limit: int, hold_ms: int) -> list[DueRun]:
        mark, ids = self._scripts.call("take", [self._due], limit, hold_ms)
        return [DueRun(run_id.decode(), float(mark)) for run_id in ids]

    @translated
    def settle(self, run: DueRun, at: int | None) -> None:
        self._scripts.call("settle", [self._due], run.run_id, repr(run.mark), "" if at is None else at)

    @translated
    def remember(self, key: str, digest: str, run_id: str) -> tuple[str, str]:
        name = f"{self._prefix}idem:{key}"
        mine = f"{digest} {run_id}"
        theirs = cast(bytes | None, self._client.set(name, mine, nx=True, get=True, px=self._retention_ms))
        bound_digest, _, bound_run = (theirs.decode() if theirs else mine).partition(" ")
        return bound_digest, bound_run

    @translated
    def index(self, run_id: str) -> None:
        self._client.zadd(self._runs, {run_id: 0})

    @translated
    def unlist(self, run_id: str) -> None:
        self._client.zrem(self._runs, run_id)
        self._client.zrem(self._due, run_id)

    @translated
    def listing(self, before: str | None, limit: int) -> list[str]:
        newest = f"({before}" if before else "+"
        ids = cast(list[bytes], self._client.zrevrangebylex(self._runs, newest, "-", 0, limit))
        return [run_id.decode() for run_id in ids]

    @translated
    def loads(self, run_ids: Sequence[str]) -> list[RunState | UnsupportedSchemaVersionError | None]:
        calls = [([self._key(run_id), self._key(run_id, ":m")], ["none"]) for run_id in run_ids]
        replies = self._scripts.call_many("load", calls)
        return [None if reply == b"missing" else _state_or_error(reply) for reply in replies]

    # -- the store itself

    @translated
    def beat(self, worker: str, ttl_ms: int) -> None:
        now = now_ms()
        pipe = self._client.pipeline(transaction=False)
        pipe.zremrangebyscore(self._workers, "-inf", now)
        pipe.zadd(self._workers, {worker: now + ttl_ms})
        pipe.pexpire(self._workers, ttl_ms, nx=True)
        pipe.pexpire(self._workers, ttl_ms, gt=True)  # never earlier than another worker said
        pipe.execute()

    @translated
    def workers(self) -> list[str]:
        return [w.decode() for w in cast(list[bytes], self._client.zrangebyscore(self._workers, now_ms(), "+inf"))]

    @translated
    def backlog(self) -> tuple[int, int]:
        overdue = self._client.zcount(self._due, "-inf", now_ms())
        return self._client.zcard(self._due), overdue

    @translated
    def check(self) -> Health:
        # Asked by a write: a replica, a full server and one without its replicas answer a PING.
        self._client.set(f"{self._prefix}probe", "", px=1000)
        try:
            memory = self._client.info("memory")
            persistence = self._client.info("persistence")
        except redis.exceptions.NoPermissionError:
            return Health(("INFO is not permitted: whether the server evicts or forgets runs cannot be told",))
        warnings = []
        policy = memory.get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and memory.get("maxmemory"):
            warnings.append(f"maxmemory-policy is {policy}: Redis may evict runs; set it to noeviction")
        if not persistence.get("aof_enabled", 1):
            warnings.append("appendonly is off: a restart of Redis loses runs; set appendonly yes")
        return Health(tuple(warnings))

    def close(self) -> None:
        self._hub.close()
        self._client.close()


def _state(reply: Any) -> RunState:
    now, fields, messages = reply
    pairs = dict(zip(fields[::2], fields[1::2], strict=True))
    return decode_state(int(now), pairs, messages)


def _state_or_error(reply: Any) -> RunState | UnsupportedSchemaVersionError:
    try:
        return _state(reply)
    except UnsupportedSchemaVersionError as error:
        return error


def _seq(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])
