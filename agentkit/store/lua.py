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

__all__ = ["AuditKeys", "RunKeys", "Scripts"]

_NAMES = (
    "append",
    "claim",
    "commit",
    "commit_call",
    "delete",
    "events",
    "forbid",
    "load",
    "messages",
    "postpone_entry",
    "record_answer",
    "release",
    "remove_entries",
    "renew",
    "request_abort",
    "reschedule",
    "schedule",
    "take",
    "take_entry",
    "trim_answers",
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
    outbox: str

    @classmethod
    def of(cls, prefix: str, run_id: str) -> RunKeys:
        """Name the keys of a run."""
        run = f"{prefix}{{{run_id}}}"
        return cls(run, f"{run}:m", f"{run}:e", f"{run}:r", f"{run}:x", f"{run}:q", f"{run}:o")


@dataclass(frozen=True, slots=True)
class AuditKeys:
    """The keys of the record of answers, which share a cluster slot by their hash tag. The lists begin with `chain`."""

    chain: str
    entries: str
    decisions: str

    @classmethod
    def of(cls, prefix: str) -> AuditKeys:
        chain = f"{prefix}{{audit}}"
        return cls(chain, f"{chain}:e", f"{chain}:d")


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
            "" if change.part is None else change.part,
            change.waiting,
            change.working,
            len(change.opened) - len(change.closed),
        ]
        args += [len(change.messages), *change.messages]
        _add_group(args, change.calls)
        _add_group(args, change.results)
        args += [len(change.events), *change.events]
        args.append(len(change.opened))
        for step in change.opened:
            args += [step.number, step.reads_from, step.due, "" if step.call is None else step.call, step.first_claim]
        args += [len(change.closed), *change.closed]
        _add_group(args, change.tool_steps)
        _add_group(args, change.resolutions)
        _add_group(args, change.items)
        _add_group(args, change.receipts)
        args += [len(change.unqueued), *change.unqueued]
        args += [len(change.queued), *change.queued]
        _add_group(args, change.outbox)
        args += [push.message for push in pushes]
        names = [keys.run, keys.messages, keys.events, keys.resolutions, keys.deleted, keys.queued, keys.outbox]
        return self._call("commit", [*names, *(push.queue for push in pushes)], *args)

    def commit_call(
        self,
        keys: RunKeys,
        request_id: str,
        lease: Lease,
        call: int,
        result: bytes,
        waiting: bytes,
        events: Sequence[bytes],
        max_events: int,
    ) -> Any:
        """Give a tool call its result, or write it as one that waits for its sub-agent's run, and append events."""
        names = [keys.run, keys.messages, keys.events, keys.queued]
        most = (max_events, self.version, SMALL_QUEUE_BYTES)
        args = (request_id, lease.step, lease.token, call, result, waiting, *most)
        return self._call("commit_call", names, *args, *events)

    def request_abort(self, keys: RunKeys, version: int, request: bytes) -> Any:
        return self._call("request_abort", [keys.run], version, request)

    def load(
        self, keys: RunKeys, *, messages: bool = False, call: int | None = None, decision_id: str | None = None
    ) -> Any:
        """Read a run; of the calls of its turn this one alone, or that of a pending item, where one is named."""
        names = [keys.run, keys.messages, keys.queued]
        args = (int(messages), 1, self.version, "" if call is None else call, decision_id or "")
        return self._call("load", names, *args)

    def load_many(self, runs: Sequence[RunKeys]) -> list[Any]:
        """Read several runs without their messages, also those that are queued, in one round trip."""
        args = (0, 0, self.version, "", "")
        return self._call_many("load", [([keys.run, keys.messages, keys.queued], args) for keys in runs])

    def messages(self, keys: RunKeys, first: int, size: int) -> Any:
        return self._call("messages", [keys.run, keys.messages], first, size, self.version)

    def claim(self, keys: RunKeys, request_id: str, step: int, lease_ms: int, max_events: int) -> Any:
        names = [keys.run, keys.messages, keys.events, keys.queued]
        return self._call("claim", names, step, lease_ms, max_events, self.version, request_id, SMALL_QUEUE_BYTES)

    def append(self, appends: Sequence[tuple[RunKeys, Lease, Sequence[bytes], int]], max_events: int) -> list[Any]:
        """Append events to several runs, in one round trip; the refusal of one is an exception in its place."""
        calls = [
            ([keys.run, keys.messages, keys.events], [lease.step, lease.token, flush, max_events, *events])
            for keys, lease, events, flush in appends
        ]
        return self._call_many("append", calls, raise_on_error=False)

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

    # -- its outbox

    def take_entry(self, keys: RunKeys, entry_id: str, hold_ms: int) -> Any:
        return self._call("take_entry", [keys.outbox], entry_id, hold_ms)

    def postpone_entry(self, keys: RunKeys, entry_id: str, tries: int, at: int) -> Any:
        return self._call("postpone_entry", [keys.outbox], entry_id, tries, at)

    def remove_entries(self, keys: RunKeys, entry_ids: Sequence[str]) -> Any:
        return self._call("remove_entries", [keys.run, keys.outbox], *entry_ids)

    # -- the due index

    def schedule(self, due: str, run_id: str, at: int) -> Any:
        return self._call("schedule", [due], run_id, at)

    def take(self, due: str, limit: int, hold_ms: int) -> Any:
        return self._call("take", [due], limit, hold_ms)

    def reschedule(self, due: str, run_id: str, mark: float, at: int | None) -> Any:
        return self._call("reschedule", [due], run_id, repr(mark), "" if at is None else at)

    # -- the record of answers

    def record_answer(
        self,
        keys: AuditKeys,
        number: int,
        head: bytes,
        decision_id: str,
        own_hash: bytes,
        line: bytes,
        lists: Sequence[str],
    ) -> Any:
        """Append the answer that was computed after the entry `number`, whose stored hash is `head`."""
        names = [keys.chain, keys.entries, keys.decisions]
        return self._call("record_answer", names, number, head, decision_id, own_hash, line, *lists)

    def trim_answers(self, keys: AuditKeys, before: int, limit: int) -> Any:
        return self._call("trim_answers", [keys.chain, keys.entries, keys.decisions], before, limit)

    def _call(self, name: str, keys: Sequence[str], *args: Any) -> Any:
        # Not `register_script`: its layers cost as much again as the round trip itself.
        try:
            return self._client.execute_command("EVALSHA", self._digests[name], len(keys), *keys, *args)  # type: ignore[no-untyped-call]
        except redis.exceptions.NoScriptError:
            return self._client.execute_command("EVAL", self._texts[name], len(keys), *keys, *args)  # type: ignore[no-untyped-call]

    def _call_many(
        self, name: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]], *, raise_on_error: bool = True
    ) -> list[Any]:
        """Call the same script for several keys, in one round trip."""
        pipe = self._client.pipeline(transaction=False)
        for keys, args in calls:
            pipe.execute_command("EVALSHA", self._digests[name], len(keys), *keys, *args)  # type: ignore[no-untyped-call]
        replies = pipe.execute(raise_on_error=False)
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        if any(isinstance(error, redis.exceptions.NoScriptError) for error in errors):
            self._client.script_load(self._texts[name])
            return self._call_many(name, calls, raise_on_error=raise_on_error)
        if errors and raise_on_error:
            raise errors[0]
        return replies


def _add_group(args: list[Any], group: Sequence[Sequence[Any]]) -> None:
    """Add a counted list of tuples to a script's arguments; None is written as nothing."""
    args.append(len(group))
    for item in group:
        args += ["" if value is None else value for value in item]
