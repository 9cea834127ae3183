"""The Lua scripts of `scripts/` as functions: the order of their keys and arguments is said here and there alone.

Replies come back as the server gives them, for the store to read. Each script works on the keys of one run, or on the
due index alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import redis
import redis.exceptions

from agentkit.core.record import SCHEMA_VERSION, Lease
from agentkit.store.encoding import SMALL_QUEUE_BYTES, EncodedChange
from agentkit.store.protocol import Push

__all__ = ["RunKeys", "Scripts"]

_NAMES = (
    "append",
    "claim",
    "commit",
    "commit_call",
    "delete",
    "events",
    "forbid",
    "load",
    "release",
    "renew",
    "request_abort",
    "reschedule",
    "schedule",
    "take",
)


@dataclass(frozen=True, slots=True)
class RunKeys:
    """The keys of one run, which share a cluster slot by their hash tag."""

    run: str
    messages: str
    events: str
    resolutions: str
    deleted: str
    queued: str

    @classmethod
    def of(cls, prefix: str, run_id: str) -> RunKeys:
        """Name the keys of a run."""
        run = f"{prefix}{{{run_id}}}"
        return cls(run, f"{run}:m", f"{run}:e", f"{run}:r", f"{run}:x", f"{run}:q")


class Scripts:
    """Sends the scripts by their digest; a server that has lost them gets them again.

    `version`: of the records that the caller can read, as `Bodies.version` has it.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.version = str(SCHEMA_VERSION)
        folder = resources.files("agentkit.store") / "scripts"
        common = (folder / "common.lua").read_text()
        self._texts = {name: common + (folder / f"{name}.lua").read_text() for name in _NAMES}
        self._digests = {name: hashlib.sha1(text.encode()).hexdigest() for name, text in self._texts.items()}

    # -- one run

    def commit(
        self,
        keys: RunKeys,
        request_id: str,
        change: EncodedChange,
        *,
        version: int | None,
        lease: Lease | None,
        pushes: Sequence[Push],
        retention_ms: int,
        max_events: int,
    ) -> Any:
        """Make a change true; `version` None makes a new run."""
        args: list[Any] = [
            request_id,
            "new" if version is None else version,
            lease.step if lease else "",
            lease.token if lease else "",
            change.status,
            change.fixed,
            change.state,
            change.turn_from,
            change.flushed,
            retention_ms if change.ended else "",
            max_events,
            change.on_claim,
            change.version,
            change.dropped_calls,
            change.abort,
            SMALL_QUEUE_BYTES,
        ]
        args += [len(change.messages), *change.messages]
        args += [len(change.events), *change.events]
        args.append(len(change.opened))
        for step in change.opened:
            args += [step.number, step.reads_from, step.due, "" if step.call is None else step.call, step.first_claim]
        args += [len(change.closed), *change.closed]
        for group in (change.resolutions, change.calls, change.results):
            args.append(len(group))
            for item in group:
                args += item
        args.append(len(change.receipts))
        for name, since, text in change.receipts:
            args += [name, "" if since is None else since, text]
        args += [len(change.unqueued), *change.unqueued]
        args += [len(change.queued), *change.queued]
        args += [push.message for push in pushes]
        names = [keys.run, keys.messages, keys.events, keys.resolutions, keys.deleted, keys.queued]
        return self._call("commit", [*names, *(push.queue for push in pushes)], *args)

    def commit_call(
        self,
        keys: RunKeys,
        request_id: str,
        lease: Lease,
        call: int,
        result: bytes,
        events: Sequence[bytes],
        max_events: int,
    ) -> Any:
        """Give a tool call its result, and append events."""
        names = [keys.run, keys.messages, keys.events, keys.queued]
        args = (request_id, lease.step, lease.token, call, result, max_events, self.version, SMALL_QUEUE_BYTES)
        return self._call("commit_call", names, *args, *events)

    def request_abort(self, keys: RunKeys, version: int, request: bytes) -> Any:
        return self._call("request_abort", [keys.run], version, request)

    def load(self, keys: RunKeys, *, messages: bool) -> Any:
        names = [keys.run, keys.messages, keys.queued]
        return self._call("load", names, int(messages), 1)

    def load_many(self, runs: Sequence[RunKeys]) -> list[Any]:
        """Read several runs without their messages, also those that are queued, in one round trip."""
        return self._call_many("load", [([keys.run, keys.messages, keys.queued], [0, 0]) for keys in runs])

    def claim(self, keys: RunKeys, request_id: str, step: int, lease_ms: int, max_events: int) -> Any:
        names = [keys.run, keys.messages, keys.events, keys.queued]
        return self._call("claim", names, step, lease_ms, max_events, self.version, request_id, SMALL_QUEUE_BYTES)

    def append(self, keys: RunKeys, lease: Lease, events: Sequence[bytes], flush: int, max_events: int) -> Any:
        names = [keys.run, keys.messages, keys.events]
        return self._call("append", names, lease.step, lease.token, flush, max_events, *events)

    def renew(self, leases: Sequence[tuple[RunKeys, Lease]], lease_ms: int) -> list[Any]:
        """Extend several leases, in one round trip."""
        calls = [([keys.run], [lease.step, lease.token, lease_ms]) for keys, lease in leases]
        return self._call_many("renew", calls)

    def release(self, keys: RunKeys, lease: Lease, *, untouched: bool, failed: bool) -> Any:
        how = "untouched" if untouched else "failed" if failed else ""
        return self._call("release", [keys.run], lease.step, lease.token, how)

    def events(self, keys: RunKeys, after: int, limit: int, size: int | None) -> Any:
        names = [keys.run, keys.messages, keys.events]
        return self._call("events", names, after + 1, limit, "" if size is None else size, self.version)

    def delete(self, keys: RunKeys, retention_ms: int) -> Any:
        names = [keys.run, keys.messages, keys.events, keys.resolutions, keys.deleted, keys.queued]
        return self._call("delete", names, self.version, retention_ms)

    def forbid(self, keys: RunKeys, retention_ms: int) -> Any:
        return self._call("forbid", [keys.run, keys.deleted], retention_ms)

    # -- the due index

    def schedule(self, due: str, run_id: str, at: int) -> Any:
        return self._call("schedule", [due], run_id, at)

    def take(self, due: str, limit: int, hold_ms: int) -> Any:
        return self._call("take", [due], limit, hold_ms)

    def reschedule(self, due: str, run_id: str, mark: float, at: int | None) -> Any:
        return self._call("reschedule", [due], run_id, repr(mark), "" if at is None else at)

    def _call(self, name: str, keys: Sequence[str], *args: Any) -> Any:
        # Not `register_script`: its layers cost as much again as the round trip itself.
        try:
            return self._client.execute_command("EVALSHA", self._digests[name], len(keys), *keys, *args)  # type: ignore[no-untyped-call]
        except redis.exceptions.NoScriptError:
            return self._client.execute_command("EVAL", self._texts[name], len(keys), *keys, *args)  # type: ignore[no-untyped-call]

    def _call_many(self, name: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Call the same script for several keys, in one round trip."""
        pipe = self._client.pipeline(transaction=False)
        for keys, args in calls:
            pipe.evalsha(self._digests[name], len(keys), *keys, *args)
        try:
            return pipe.execute()
        except redis.exceptions.NoScriptError:
            self._client.script_load(self._texts[name])
            return self._call_many(name, calls)
