"""What a store on Redis or Valkey gives to a backup, and takes from one (agentkit/store/backup.py).

A run is read at one moment but for its messages and events: of these a script says how many there are then, and they
are read in pages after that, since what a list has never changes. To be restored it is laid down beside its place, in
pages too, and one script of six renames puts it there. So neither reading nor writing a long run holds up the server,
and nobody sees half of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar, cast

import redis

from agentkit.core.ids import random_id
from agentkit.core.record import RunState
from agentkit.errors import StoreError
from agentkit.store.backup import (
    VERSION,
    Answer,
    AnswerChain,
    BoundKey,
    Presence,
    Quota,
    RefusedRecipient,
    StoredRun,
    StoredThreadHash,
    read_run,
    unheld,
)
from agentkit.store.bodies import Bodies
from agentkit.store.cluster import stream_fields
from agentkit.store.connection import translated
from agentkit.store.lua import AuditKeys, QuotaKeys, RunKeys, Scripts

__all__ = ["RedisBackup"]

T = TypeVar("T")

_PAGE = 1000
"""How many messages, events or keys are read or written at once."""
_STAGED_MS = 86_400_000
_DAY_MS = 86_400_000
_COSTS_MS = 2 * _DAY_MS


class RedisBackup:
    """The part of `RedisStore` that is backed up and restored; see `agentkit.store.backup.BackupStore`."""

    _client: redis.Redis
    _bodies: Bodies
    _scripts: Scripts
    _audit: AuditKeys

    def __init__(self, prefix: str, now: Callable[[], int]) -> None:
        self._kept_under = prefix
        self._time = now
        self._stager = random_id()

    # -- runs

    @translated
    def read_run(self, run_id: str) -> StoredRun | None:
        keys = RunKeys.of(self._kept_under, run_id)
        while True:
            reply = self._scripts.snapshot(keys)
            if reply == b"missing":
                return None
            now, pairs, count, resolutions, queued, outbox, ttl = reply
            fields = _texts(pairs, run_id)
            messages = self._messages_of(keys, count)
            first, events = self._events_of(keys, int(fields["seq"]))
            if len(messages) == count and first + len(events) - 1 == int(fields["seq"]):
                break  # else it has expired or was deleted meanwhile
        fields.pop("im", None)
        return StoredRun(
            version=VERSION,
            id=run_id,
            status=fields["status"],
            exported_at=int(now),
            expires_at=None if ttl < 0 else int(now) + ttl,
            fields=fields,
            messages=[_text(message, run_id) for message in messages],
            first_seq=first,
            events=[_text(event, run_id) for event in events],
            resolutions=_texts(resolutions, run_id),
            queued=[_text(message, run_id) for message in queued],
            outbox=_texts(outbox, run_id),
        )

    def _messages_of(self, keys: RunKeys, count: int) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < count:
            last = min(len(found) + _PAGE, count) - 1
            page = cast(list[bytes], self._client.lrange(keys.messages, len(found), last))
            if not page:
                break
            found += page
        return found

    def _events_of(self, keys: RunKeys, last: int) -> tuple[int, list[bytes]]:
        """Read the log up to the seq `last`; the seq of its first event, and the events."""
        first, found = 1, cast(list[bytes], [])
        start = 0
        while start <= last:
            page = cast(list[Any], self._client.xrange(keys.events, f"{start}", f"{last}", count=_PAGE))
            if not page:
                break
            seq = int(page[0][0].partition(b"-")[0])
            if seq != first + len(found):  # what came before is trimmed, or was since it was read
                first, found = seq, []
            found += [fields[1] for _, fields in page]
            start = first + len(found)
        return (first, found) if found else (last + 1, [])

    def state_of(self, run: StoredRun) -> RunState:
        return read_run(run, self._bodies, self._time())

    @translated
    def presence(self, run: StoredRun) -> Presence:
        keys = RunKeys.of(self._kept_under, run.id)
        pipe = self._client.pipeline(transaction=False)
        pipe.hmget(keys.run, ["v", "im"])
        pipe.exists(keys.deleted)
        (version, mark), is_deleted = pipe.execute()
        if version is not None:
            return "restored" if mark == run.mark.encode() else "exists"
        return "deleted" if is_deleted else "absent"

    @translated
    def stage_run(self, run: StoredRun) -> None:
        keys = RunKeys.of(self._kept_under, run.id)
        hash_, messages, events, resolutions, queued, outbox = keys.staged(self._stager)
        before = cast(bytes | None, self._client.set(keys.staging, self._stager, px=_STAGED_MS, get=True))
        pipe = self._client.pipeline(transaction=False)
        for by in {self._stager, self._stager if before is None else before.decode()}:
            for name in keys.staged(by):
                pipe.delete(name)
        pipe.execute()
        self._write_hash(hash_, {**unheld(run.fields, self._time()), "im": run.mark})
        self._write_hash(resolutions, run.resolutions)
        self._write_hash(outbox, run.outbox)
        self._write_list(messages, run.messages)
        self._write_list(queued, run.queued)
        for page in _pages(enumerate(run.events, run.first_seq)):
            pipe = self._client.pipeline(transaction=False)
            for seq, event in page:
                pipe.xadd(events, {"d": event}, id=f"{seq}-0")
            pipe.pexpire(events, _STAGED_MS)
            pipe.execute()

    def _write_hash(self, name: str, fields: Mapping[str, str]) -> None:
        for page in _pages(fields.items()):
            pipe = self._client.pipeline(transaction=False)
            pipe.hset(name, mapping=dict(page))
            pipe.pexpire(name, _STAGED_MS)
            pipe.execute()

    def _write_list(self, name: str, values: Sequence[str]) -> None:
        for page in _pages(values):
            pipe = self._client.pipeline(transaction=False)
            pipe.rpush(name, *page)
            pipe.pexpire(name, _STAGED_MS)
            pipe.execute()

    @translated
    def activate_run(self, run_id: str, mark: str, expires_at: int | None) -> Presence:
        keys = RunKeys.of(self._kept_under, run_id)
        reply = self._scripts.restore_run(keys, mark, self._stager, expires_at).decode()
        if reply == "absent":
            raise StoreError(f"run {run_id} was laid down and is gone, or another import lays it down: import it again")
        return "absent" if reply == "ok" else cast(Presence, reply)

    # -- what its owner's quota counts of it

    @translated
    def quota_of(self, owner: str, run_id: str) -> Quota | None:
        today = self._time() // _DAY_MS
        active = QuotaKeys.of(self._kept_under, owner, today).active
        since = self._client.zscore(active, run_id)
        costs: dict[str, tuple[int, int]] = {}
        for day in (today - 1, today):
            name = QuotaKeys.of(self._kept_under, owner, day).cost
            counted = cast(bytes | None, self._client.hget(name, run_id))
            if counted is not None:
                low, _, high = counted.partition(b" ")
                costs[str(day)] = (int(low), int(high))
        if since is None and not costs:
            return None
        return Quota(active_since=None if since is None else int(since), costs=costs)

    @translated
    def restore_quota(self, owner: str, run_id: str, quota: Quota) -> None:
        today = self._time() // _DAY_MS
        if quota.active_since is not None:
            active = QuotaKeys.of(self._kept_under, owner, today).active
            self._client.zadd(active, {run_id: quota.active_since}, nx=True)
        for day, (low, high) in quota.costs.items():
            if int(day) >= today - 1:
                keys = QuotaKeys.of(self._kept_under, owner, int(day))
                self._scripts.count_cost(keys, run_id, low, high, _COSTS_MS)

    # -- what is bound to runs, and what is of none

    def bound_keys(self) -> Iterator[BoundKey]:
        for name, ttl, value in self._found("idem:"):
            text = _text(value, f"of the idempotency key {name}")
            run_id = text.rpartition(" ")[2]
            yield BoundKey(version=VERSION, name=name, value=text, run_id=run_id, expires_at=self._end(ttl))

    def threads(self) -> Iterator[StoredThreadHash]:
        for name, ttl, value in self._found("thread:"):
            pairs = [part for pair in value.items() for part in pair]
            fields = _texts(pairs, f"of the thread {name}")
            if "run" in fields:
                yield StoredThreadHash(
                    version=VERSION, name=name, fields=fields, run_id=fields["run"], expires_at=self._end(ttl)
                )

    def _found(self, kind: str) -> Iterator[tuple[str, int, Any]]:
        """Read the keys that begin so: what comes after that, ms that they are kept yet, and what is stored."""
        for names in _pages(self._names_like(f"{self._kept_under}{kind}*")):
            for name, ttl, value in self._values(names):
                yield name.decode().removeprefix(f"{self._kept_under}{kind}"), ttl, value

    @translated
    def _names_like(self, pattern: str) -> list[bytes]:
        return sorted(set(self._client.scan_iter(pattern, count=_PAGE)))

    @translated
    def _values(self, names: Sequence[bytes]) -> list[tuple[bytes, int, Any]]:
        """Read strings and hashes that expire, but for those that have expired meanwhile."""
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.pttl(name)
            pipe.get(name)
            pipe.hgetall(name)
        replies = pipe.execute(raise_on_error=False)  # a hash is no string
        found = []
        for name, ttl, *values in zip(names, *(replies[part::3] for part in range(3)), strict=True):
            found += [(name, ttl, value) for value in values if value and not isinstance(value, Exception)]
        return found

    def _end(self, ttl: int) -> int | None:
        return None if ttl < 0 else self._time() + ttl

    @translated
    def refused_recipients(self) -> Iterator[RefusedRecipient]:
        for name, since in cast(dict[bytes, bytes], self._client.hgetall(self._refused_name)).items():
            yield RefusedRecipient(version=VERSION, name=name.decode(), since=since.decode())

    @translated
    def restore(self, line: BoundKey | StoredThreadHash | RefusedRecipient) -> None:
        if isinstance(line, RefusedRecipient):
            self._client.hsetnx(self._refused_name, line.name, line.since)
            return
        if line.expires_at is not None and line.expires_at <= self._time():
            return
        if isinstance(line, BoundKey):
            self._client.set(f"{self._kept_under}idem:{line.name}", line.value, nx=True, pxat=line.expires_at)
            return
        name = f"{self._kept_under}thread:{line.name}"
        if not self._client.exists(name):
            pipe = self._client.pipeline(transaction=True)
            pipe.hset(name, mapping=cast(Any, line.fields))
            if line.expires_at is not None:
                pipe.pexpireat(name, line.expires_at)
            pipe.execute()

    @property
    def _refused_name(self) -> str:
        return f"{self._kept_under}refused"

    # -- the record of answers

    @translated
    def answer_chain(self) -> AnswerChain | None:
        names = ["first", "last", "anchor"]
        first, last, anchor = cast(list[bytes | None], self._client.hmget(self._audit.chain, names))
        if last is None:
            return None
        return AnswerChain(
            version=VERSION, first=int(first or 1), last=int(last), anchor="" if anchor is None else anchor.decode()
        )

    @translated
    def stored_answers(self, after: int, limit: int) -> list[Answer]:
        found = cast(list[Any], self._client.xrange(self._audit.entries, str(after + 1), "+", count=limit))
        return [
            Answer(
                version=VERSION,
                number=int(entry[0].partition(b"-")[0]),
                decision_id=fields[b"i"].decode(),
                at=int(fields[b"t"]),
                hash=fields[b"h"].decode(),
                lists=fields[b"l"].decode().split("\n") if fields[b"l"] else [],
                line=fields[b"d"].decode(),
            )
            for entry, fields in zip(found, map(stream_fields, found), strict=True)
        ]

    @translated
    def begin_answers(self, chain: AnswerChain) -> None:
        if chain.anchor and self._client.hsetnx(self._audit.chain, "last", str(chain.first - 1)):
            known = {"first": chain.first, "anchor": chain.anchor, "head": chain.anchor}
            self._client.hset(self._audit.chain, mapping=cast(Any, known))

    @translated
    def restore_answers(self, answers: Sequence[Answer]) -> bool:
        facts = [(each.number, each.decision_id, each.at, each.hash, each.line, each.lists) for each in answers]
        return b"other" not in self._scripts.restore_answers(self._audit, facts)


def _text(stored: bytes, of: str) -> str:
    try:
        return stored.decode()
    except UnicodeDecodeError as error:
        raise StoreError(f"what is stored {of} is no text, and cannot be exported: {error}") from error


def _texts(pairs: Sequence[bytes], run_id: str) -> dict[str, str]:
    names = (_text(name, f"of run {run_id}") for name in pairs[::2])
    return dict(zip(names, (_text(value, f"of run {run_id}") for value in pairs[1::2]), strict=True))


def _pages(values: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(values)
    while page := list(islice(rest, _PAGE)):
        yield page
