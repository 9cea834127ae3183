"""The Lua scripts of `scripts/` as functions: the order of their keys and arguments is said here and there alone.

Replies come back as the server gives them, for the store to read. Each script works on the keys of one run, on the
due index, on the record of answers, on what processes report, on rates, on a quota, or on ready sets, alone. Only
`append` takes the keys of many runs, where they are on one server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import redis
import redis.exceptions

from agentkit.core.rates import Rate
from agentkit.core.record import SCHEMA_VERSION, Lease
from agentkit.store.cluster import is_cluster
from agentkit.store.encoding import SMALL_QUEUE_BYTES, EncodedChange
from agentkit.store.protocol import Push

__all__ = ["AuditKeys", "ChangeCall", "MetricsKeys", "QuotaKeys", "RateKeys", "RunKeys", "Scripts"]

_NAMES = (
    "add_ready",
    "admit_run",
    "append",
    "claim",
    "commit",
    "commit_call",
    "count_cost",
    "delete",
    "events",
    "extend_thread",
    "forbid",
    "leave_calls",
    "load",
    "messages",
    "postpone_entry",
    "record_answer",
    "references",
    "release",
    "remove_entries",
    "renew",
    "report",
    "request_abort",
    "reschedule",
    "restore_answer",
    "restore_run",
    "schedule",
    "settle_call",
    "snapshot",
    "take",
    "take_call",
    "take_entry",
    "take_ready",
    "trim_answers",
)
_AT_ONCE = 64
"""To so many runs one script appends: it takes the server about 10 µs for each, and others wait for all of them."""


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

    @property
    def restored(self) -> tuple[str, ...]:
        """Those that a backup of the run has: the hash, messages, events, resolutions, queued messages, outbox."""
        return self.run, self.messages, self.events, self.resolutions, self.queued, self.outbox

    @property
    def staging(self) -> str:
        """Names who lays the run down to be restored."""
        return f"{self.run}:i"

    def staged(self, by: str) -> tuple[str, ...]:
        """Where `by` lays down what is restored, before it becomes the run's."""
        return tuple(f"{self.staging}:{by}{part}" for part in ("", ":m", ":e", ":r", ":q", ":o"))


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


@dataclass(frozen=True, slots=True)
class MetricsKeys:
    """The keys of what processes report, which share a cluster slot by their hash tag.

    `number`: what the keys of the processes' last reports begin with.
    """

    counts: str
    number: str
    levels: str

    @classmethod
    def of(cls, prefix: str) -> MetricsKeys:
        counts = f"{prefix}{{metrics}}"
        return cls(counts, f"{counts}:n:", f"{counts}:l")


_OF_RATES = ("leave_calls", "settle_call", "take_call")
_OF_CHANGES = ("commit", "commit_call")


@dataclass(frozen=True, slots=True)
class RateKeys:
    """The keys of one rate. Those of all rates share a cluster slot by their hash tag: a call takes from several."""

    rate: Rate
    names: tuple[str, ...]

    @classmethod
    def of(cls, prefix: str, rate: Rate) -> RateKeys:
        state = f"{prefix}{{rates}}{rate.name}"
        return cls(rate, (state, *(f"{state}:{part}" for part in "csqwf")))

    @property
    def bounds(self) -> list[Any]:
        rate = self.rate
        bounds = (rate.requests, rate.tokens, rate.per_ms, rate.concurrent)
        return ["" if bound is None else bound for bound in bounds]


@dataclass(frozen=True, slots=True)
class QuotaKeys:
    """The keys of one owner's quota, which share a cluster slot by their hash tag, and what a day has cost."""

    active: str
    cost: str

    @classmethod
    def of(cls, prefix: str, owner: str, day: int) -> QuotaKeys:
        quota = f"{prefix}{{quota:{owner}}}"
        return cls(f"{quota}:a", f"{quota}:d:{day}")


@dataclass(frozen=True, slots=True)
class ChangeCall:
    """What commit.lua is called with to make a change true; `version` None makes a new run.

    `next_step`: the number of an opened step to lend, its lease (ms), and how many messages the committer has.
    """

    change: EncodedChange
    version: int | None
    lease: Lease | None
    pushes: Sequence[Push]
    next_step: tuple[int, int, int] | None
    retention_ms: int
    max_events: int

    def args(self, request_id: str) -> list[Any]:
        """List the arguments."""
        change = self.change
        args: list[Any] = [
            request_id,
            "new" if self.version is None else self.version,
            self.lease.step if self.lease else "",
            self.lease.token if self.lease else "",
            change.status,
            change.fixed,
            change.state,
            change.turn_from,
            change.flushed,
            self.retention_ms if change.ended else "",
            self.max_events,
            change.on_claim,
            change.version,
            change.dropped_calls,
            change.abort,
            SMALL_QUEUE_BYTES,
            "" if change.part is None else change.part,
            change.waiting,
            change.working,
            len(change.opened) - len(change.closed),
            *(self.next_step or ("", "", "")),
            change.call_count,
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
        args += [push.message for push in self.pushes]
        return args


class Scripts:
    """Sends the scripts by their digest; a server that has lost them gets them again.

    `version`: of the records that the caller can read, as `Bodies.version` has it.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._at_once = 1 if is_cluster(client) else _AT_ONCE
        self.version = str(SCHEMA_VERSION)
        folder = resources.files("agentkit.store") / "scripts"
        # In a cluster PUBLISH would reach every node, and count the subscribers of one.
        publish = "SPUBLISH" if is_cluster(client) else "PUBLISH"
        common = f"local PUBLISH = '{publish}'\n" + (folder / "common.lua").read_text()
        rates = common + (folder / "rates.lua").read_text()
        change = common + (folder / "change.lua").read_text()
        parts = dict.fromkeys(_NAMES, common) | dict.fromkeys(_OF_RATES, rates) | dict.fromkeys(_OF_CHANGES, change)
        self._texts = {name: parts[name] + (folder / f"{name}.lua").read_text() for name in _NAMES}
        self._digests = {name: hashlib.sha1(text.encode()).hexdigest() for name, text in self._texts.items()}

    # -- one run

    def commit(self, keys: RunKeys, request_id: str, call: ChangeCall) -> Any:
        return self._call("commit", _change_keys(keys, call), *call.args(request_id))

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
        last: ChangeCall | None,
    ) -> Any:
        """Give a tool call its result, or write it as one that waits for its sub-agent's run, and append events.

        `last`: made true as well where all calls of the turn have results then.
        """
        most = (max_events, self.version, SMALL_QUEUE_BYTES)
        args = (request_id, lease.step, lease.token, call, result, waiting, *most, len(events), *events)
        follows = () if last is None else last.args(f"{request_id}+")
        return self._call("commit_call", _change_keys(keys, last), *args, *follows)

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

    def claim(self, keys: RunKeys, request_id: str, step: int, lease_ms: int, max_events: int, first: int) -> Any:
        """Lend a step; `first`: the number of the first message that a model step reads."""
        names = [keys.run, keys.messages, keys.events, keys.queued]
        args = (step, lease_ms, max_events, self.version, request_id, SMALL_QUEUE_BYTES, first)
        return self._call("claim", names, *args)

    def append(self, appends: Sequence[tuple[RunKeys, Lease, Sequence[bytes], int]], max_events: int) -> list[Any]:
        """Append events to several runs, in one round trip; the refusal of one is an exception in its place."""
        groups = [appends[first : first + self._at_once] for first in range(0, len(appends), self._at_once)]
        replies: list[Any] = []
        calls = [_group(group, max_events) for group in groups]
        for group, reply in zip(groups, self._call_many("append", calls, raise_on_error=False), strict=True):
            if isinstance(reply, redis.exceptions.ClusterCrossSlotError) and len(group) > 1:
                self._at_once = 1  # it is a cluster behind the URL of one server
                replies += self.append(group, max_events)
            else:
                replies += [reply] * len(group) if isinstance(reply, Exception) else reply
        return replies

    def renew(self, leases: Sequence[tuple[RunKeys, Lease]], lease_ms: int) -> list[Any]:
        """Extend several leases, in one round trip."""
        calls = [([keys.run], [lease.step, lease.token, lease_ms]) for keys, lease in leases]
        return self._call_many("renew", calls)

    def release(
        self, keys: RunKeys, lease: Lease, *, untouched: bool, failed: bool = False, until: int | None = None
    ) -> Any:
        how = "untouched" if untouched else "failed" if failed else ""
        return self._call("release", [keys.run], lease.step, lease.token, how, "" if until is None else until)

    def events(self, keys: RunKeys, after: int, limit: int) -> tuple[Any, list[Any]]:
        """Read entries of the log, as [id, [field, JSON]], and say where it stands right after that."""
        pipe = self._client.pipeline(transaction=False)
        names = [keys.run, keys.events]
        pipe.execute_command("XRANGE", keys.events, after + 1, "+", "COUNT", limit)  # type: ignore[no-untyped-call]
        pipe.execute_command("EVALSHA", self._digests["events"], len(names), *names, self.version)  # type: ignore[no-untyped-call]
        entries, head = pipe.execute(raise_on_error=False)
        if isinstance(head, redis.exceptions.NoScriptError):
            self._call("events", names, self.version)
            return self.events(keys, after, limit)
        for reply in (head, entries):
            if isinstance(reply, Exception):
                raise reply
        return head, entries

    def references(self, keys: RunKeys, references: Sequence[tuple[int, int]], size: int | None) -> Any:
        args = [part for reference in references for part in reference]
        return self._call("references", [keys.messages], "" if size is None else size, *args)

    def delete(self, keys: RunKeys, retention_ms: int) -> Any:
        names = [keys.run, keys.messages, keys.events, keys.resolutions, keys.deleted, keys.queued]
        return self._call("delete", names, self.version, retention_ms)

    def forbid(self, keys: RunKeys, retention_ms: int) -> Any:
        return self._call("forbid", [keys.run, keys.deleted], retention_ms)

    # -- its backup

    def snapshot(self, keys: RunKeys) -> Any:
        """Read all of a run but its messages and its events, of which it says how many there are."""
        return self._call("snapshot", keys.restored)

    def restore_run(self, keys: RunKeys, mark: str, by: str, expires_at: int | None) -> Any:
        """Make what `by` has staged the run's, where none of its id is there."""
        names = [*keys.restored, keys.deleted, *keys.staged(by), keys.staging]
        return self._call("restore_run", names, mark, by, "" if expires_at is None else expires_at)

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

    # -- threads

    def extend_thread(self, key: str, run_id: str, after: str, retention_ms: int, messages: Mapping[str, bytes]) -> Any:
        """Make a run a thread's last one; `messages`: the fields of those that it takes, and their values."""
        pairs = [part for field, value in messages.items() for part in (field, value)]
        return self._call("extend_thread", [key], run_id, after, retention_ms, *pairs)

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

    def restore_answers(self, keys: AuditKeys, answers: Sequence[tuple[int, str, int, str, str, Sequence[str]]]) -> Any:
        """Append entries as they were: number, decision id, time (ms), stored hash, line, names of lists."""
        names = [keys.chain, keys.entries, keys.decisions]
        return self._call_many("restore_answer", [(names, [*facts, *lists]) for *facts, lists in answers])

    # -- what processes report

    def report(
        self,
        keys: MetricsKeys,
        process: str,
        number: int,
        remembered_ms: int,
        ttl_ms: int,
        levels: bytes,
        counts: Mapping[str, float],
    ) -> Any:
        """Add amounts to counts, and note the levels of a process, JSON, where its last report had a lower number."""
        names = [keys.counts, f"{keys.number}{process}", keys.levels]
        counted = [part for name, amount in counts.items() for part in (name, repr(amount))]
        return self._call("report", names, process, number, remembered_ms, ttl_ms, levels, *counted)

    # -- rates

    def take_call(self, rates: Sequence[RateKeys], *args: Any) -> Any:
        """`args`: call id, waiting step, owner, tokens, lease ms, wake ms."""
        return self._call_rates("take_call", rates, *args)

    def settle_call(self, rates: Sequence[RateKeys], *args: Any) -> Any:
        """`args`: call id, tokens, wake ms, lease ms."""
        return self._call_rates("settle_call", rates, *args)

    def leave_calls(self, rates: Sequence[RateKeys], step: bytes) -> Any:
        return self._call_rates("leave_calls", rates, step)

    def _call_rates(self, name: str, rates: Sequence[RateKeys], *args: Any) -> Any:
        names = [key for keys in rates for key in keys.names]
        return self._call(name, names, *args, *(bound for keys in rates for bound in keys.bounds))

    # -- ready sets

    def add_ready(self, keys: Sequence[str], owner: str, urgency: int, ttl_ms: int, steps: Sequence[bytes]) -> Any:
        return self._call("add_ready", keys, owner, urgency, ttl_ms, *steps)

    def take_ready(self, queues: Sequence[Sequence[str]], step: bytes) -> Any:
        return self._call("take_ready", [key for keys in queues for key in keys], step)

    # -- quotas

    def admit_run(self, keys: QuotaKeys, run_id: str, active_runs: int | None, cost_per_day: int | None) -> Any:
        bounds = ("" if bound is None else bound for bound in (active_runs, cost_per_day))
        return self._call("admit_run", [keys.active, keys.cost], run_id, *bounds)

    def count_cost(self, keys: QuotaKeys, run_id: str, before: int, after: int, ttl_ms: int) -> Any:
        return self._call("count_cost", [keys.cost], run_id, before, after, ttl_ms)

    def _call(self, name: str, keys: Sequence[str], *args: Any) -> Any:
        # Not `register_script`: its layers cost as much again as the round trip itself.
        try:
            return self._client.execute_command("EVALSHA", self._digests[name], len(keys), *keys, *args)  # type: ignore[no-untyped-call]
        except redis.exceptions.NoScriptError:
            return self._client.execute_command("EVAL", self._texts[name], len(keys), *keys, *args)  # type: ignore[no-untyped-call]

    def _call_many(
        self, name: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]], *, raise_on_error: bool = True
    ) -> list[Any]:
        """Call the same script several times, in one round trip."""
        replies: list[Any]
        if len(calls) == 1:  # a pipeline of one costs twice as much
            replies = [self._reply(name, *calls[0])]
        else:
            pipe = self._client.pipeline(transaction=False)
            for keys, args in calls:
                pipe.execute_command("EVALSHA", self._digests[name], len(keys), *keys, *args)  # type: ignore[no-untyped-call]
            replies = pipe.execute(raise_on_error=False)
        for place, call in enumerate(calls):
            if isinstance(replies[place], redis.exceptions.NoScriptError):
                replies[place] = self._reply(name, *call)
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        if errors and raise_on_error:
            raise errors[0]
        return replies

    def _reply(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Return what a script replies, or what it raises."""
        try:
            return self._call(name, keys, *args)
        except redis.exceptions.RedisError as error:
            return error


def _group(
    appends: Sequence[tuple[RunKeys, Lease, Sequence[bytes], int]], max_events: int
) -> tuple[list[str], list[Any]]:
    """Make the keys and arguments of one append to several runs."""
    names: list[str] = []
    args: list[Any] = [max_events]
    for keys, lease, events, flush in appends:
        names += (keys.run, keys.messages, keys.events)
        args += (lease.step, lease.token, flush, len(events), *events)
    return names, args


def _add_group(args: list[Any], group: Sequence[Sequence[Any]]) -> None:
    """Add a counted list of tuples to a script's arguments; None is written as nothing."""
    args.append(len(group))
    for item in group:
        args += ["" if value is None else value for value in item]


def _change_keys(keys: RunKeys, call: ChangeCall | None) -> list[str]:
    names = [keys.run, keys.messages, keys.events, keys.resolutions, keys.deleted, keys.queued, keys.outbox]
    return names if call is None else [*names, *(push.queue for push in call.pushes)]
