"""The store in memory: for scripts and tests in one process. It keeps encoded bytes, so that nothing that
works here fails on Redis for want of a codec, and nobody can change a stored value by holding on to it.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentkit.core.events import Event
from agentkit.core.ids import now_ms
from agentkit.core.messages import Message
from agentkit.core.record import Change, Lease, RunRecord, RunState
from agentkit.errors import (
    LeaseLostError,
    RunNotFoundError,
    RunNotTerminalError,
    UnsupportedSchemaVersionError,
    VersionConflictError,
)
from agentkit.store.encoding import decode_resolution, encode_change
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

__all__ = ["MemoryStore"]


_UNTOUCHED = "="
"""Stands for the claim of a step that was given back with nothing done in it."""


@dataclass
class _Step:
    reads_from: int
    first_claim: str
    token: int = 0
    until: int = 0
    attempt: int = 0
    flush: int = 0
    claim: str = ""


@dataclass
class _Run:
    fixed: str
    state: str = ""
    status: str = ""
    turn_from: int = 0
    version: int = 0
    seq: int = 0
    acts: deque[tuple[str, Commit]] = field(default_factory=lambda: deque(maxlen=8))
    tokens: int = 0
    on_claim: str = ""
    expires: int | None = None
    steps: dict[int, _Step] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    events: deque[StoredEvent] = field(default_factory=deque)
    resolutions: dict[str, bytes] = field(default_factory=dict)
    by_call: dict[str, str] = field(default_factory=dict)


class MemorySubscription:
    def __init__(self, store: MemoryStore, run_id: str) -> None:
        self._store = store
        self._run_id = run_id
        self._seen = store.changes
        self._woken = False

    def get(self, timeout: float) -> Sequence[StoredEvent] | None:
        with self._store.news:
            self._store.news.wait_for(lambda: self._woken or self._store.changes != self._seen, timeout)
            self._woken = False
            if self._store.changes == self._seen:
                return None
            self._seen = self._store.changes
            return []

    def wake(self) -> None:
        with self._store.news:
            self._woken = True
            self._store.news.notify_all()

    def close(self) -> None:
        """Nothing is held."""


class MemoryStore:
    """See `agentkit.store.protocol.Store` for what each method promises."""

    def __init__(self, *, retention_seconds: int = 604_800, max_events: int = 100_000) -> None:
        self._retention_ms = retention_seconds * 1000
        self._max_events = max_events
        self._runs: dict[str, _Run] = {}
        self._listed: set[str] = set()
        self._due: dict[str, float] = {}
        self._keys: dict[str, tuple[str, str, int]] = {}
        self._deleted: dict[str, int] = {}
        self._workers: dict[str, int] = {}
        self.news = threading.Condition(threading.RLock())
        self.changes = 0

    # -- one run

    def create(self, change: Change, pushes: Sequence[Push] = (), *, act: str = "") -> bool:
        with self.news:
            known = self._find(change.record.id)
            if known is not None:
                return _done(known, act) is not None
            if self._deleted.get(change.record.id, 0) > now_ms():
                return False
            run = self._runs[change.record.id] = _Run(fixed=change.record.encode_fixed())
            self._write(run, change, act)
            return True

    def commit(
        self, change: Change, version: int, lease: Lease | None = None, pushes: Sequence[Push] = (), *, act: str = ""
    ) -> Commit:
        with self.news:
            run = self._get(change.record.id)
            if (done := _done(run, act)) is not None:
                return done
            if lease is not None:
                self._held(lease)
            if run.version != version:
                raise VersionConflictError
            return self._write(run, change, act)

    def _write(self, run: _Run, change: Change, act: str) -> Commit:
        encoded = encode_change(change)
        before = run.seq
        run.messages += encoded.messages
        self._append(run, encoded.events)
        for number, reads_from, due, first_claim in encoded.opened:
            run.steps[number] = _Step(reads_from, first_claim, until=due)
        for number in encoded.closed:
            run.steps.pop(number, None)
        for decision_id, tool_call_id, event, text in encoded.resolutions:
            run.resolutions[decision_id] = f"{before + event + 1} {text}".encode()
            run.by_call[tool_call_id] = decision_id
        run.state, run.status, run.turn_from = encoded.state, encoded.status, encoded.turn_from
        run.on_claim = encoded.on_claim or run.on_claim
        run.version += 1
        if encoded.ended:
            run.on_claim = ""
            run.expires = now_ms() + self._retention_ms
        self._tell()
        commit = Commit(run.version, before + 1, run.seq)
        run.acts.append((act, commit))
        return commit

    def load(self, run_id: str) -> RunState:
        with self.news:
            run = self._get(run_id)
            return self._state(run, run.turn_from)

    def messages(self, run_id: str) -> tuple[RunState, list[Message]]:
        with self.news:
            state = self._state(self._get(run_id), 0)
            return state, list(state.turn)

    def claim(self, run_id: str, step: int, lease_ms: int, *, act: str = "") -> Claim | None:
        with self.news:
            run = self._get(run_id)
            found = run.steps.get(step)
            now = now_ms()
            if found is not None and act and found.claim == act:
                return Claim(Lease(run_id, step, found.token, found.attempt), self._state(run, found.reads_from))
            if found is None or found.until > now:
                return None
            RunRecord.decode(run.fixed, run.state, run.status)  # a record that cannot be read stays untouched
            run.tokens += 1
            found.attempt += found.claim != _UNTOUCHED
            found.token, found.until, found.flush, found.claim = run.tokens, now + lease_ms, 0, act
            self._append(run, [line for text in (run.on_claim, found.first_claim) if text for line in text.split("\n")])
            run.on_claim = found.first_claim = ""
            if run.status == "queued":
                run.status = "running"
            run.version += 1
            self._tell()
            return Claim(Lease(run_id, step, found.token, found.attempt), self._state(run, found.reads_from))

    def append(self, lease: Lease, events: Sequence[Event], flush: int) -> int:
        with self.news:
            run, step = self._held(lease)
            if flush > step.flush:
                step.flush = flush
                self._append(run, [dumps(event) for event in events])
                self._tell()
            return run.version

    def renew(self, leases: Sequence[Lease], lease_ms: int) -> list[int | None]:
        versions: list[int | None] = []
        with self.news:
            for lease in leases:
                try:
                    run, step = self._held(lease)
                except (LeaseLostError, RunNotFoundError):
                    versions.append(None)
                    continue
                if step.until:
                    step.until = now_ms() + lease_ms
                versions.append(run.version if step.until else None)
        return versions

    def release(self, lease: Lease, *, untouched: bool = False) -> None:
        with self.news:
            try:
                run, step = self._held(lease)
            except (LeaseLostError, RunNotFoundError):
                return
            if step.until:
                step.until = 0
                if untouched:
                    step.claim = _UNTOUCHED
                else:
                    step.attempt = max(1, step.attempt - 1)
                run.version += 1

    def resolution(self, run_id: str, *, decision_id: str | None, tool_call_id: str | None) -> StoredResolution | None:
        with self.news:
            run = self._get(run_id)
            decision_id = decision_id or run.by_call.get(tool_call_id or "", "")
            stored = run.resolutions.get(decision_id)
            return None if stored is None else decode_resolution(decision_id, stored)

    def resolutions(self, run_id: str) -> list[StoredResolution]:
        with self.news:
            run = self._find(run_id)
            stored = run.resolutions.items() if run else ()
            return sorted((decode_resolution(*item) for item in stored), key=lambda found: found.seq)

    def events(self, run_id: str, after: int, limit: int, *, size: int | None = None) -> EventPage:
        with self.news:
            run = self._get(run_id)
            RunRecord.decode(run.fixed, run.state, run.status)
            first = run.events[0].seq if run.events else run.seq + 1
            start = max(0, after + 1 - first)
            wanted: list[StoredEvent] = []
            had = 0
            for i in range(start, min(start + limit, len(run.events))):
                had += len(run.events[i].data)
                if size is not None and had > size and wanted:
                    break
                wanted.append(run.events[i])
            return EventPage(wanted, first, run.seq, run.status)

    def subscribe(self, run_id: str, *, stops_only: bool = False) -> Subscription:
        return MemorySubscription(self, run_id)

    def delete(self, run_id: str) -> None:
        with self.news:
            run = self._get(run_id)
            RunRecord.decode(run.fixed, run.state, run.status)
            if run.status not in ("completed", "failed", "aborted"):
                raise RunNotTerminalError
            del self._runs[run_id]
            self._deleted[run_id] = now_ms() + self._retention_ms
            self.unlist(run_id)
            self._tell()

    # -- across runs

    def note(self, run_id: str, at: int) -> None:
        with self.news:
            self._due[run_id] = float(int(min(self._due.get(run_id, at), at)))

    def due(self, limit: int, hold_ms: int) -> list[DueRun]:
        with self.news:
            now = now_ms()
            ready = sorted((at, run_id) for run_id, at in self._due.items() if at <= now)[:limit]
            mark = now + hold_ms + 0.5
            for _, run_id in ready:
                self._due[run_id] = mark
            return [DueRun(run_id, mark) for _, run_id in ready]

    def settle(self, run: DueRun, at: int | None) -> None:
        with self.news:
            if self._due.get(run.run_id) == run.mark:
                if at is None:
                    del self._due[run.run_id]
                else:
                    self._due[run.run_id] = at

    def remember(self, key: str, digest: str, run_id: str) -> tuple[str, str]:
        with self.news:
            bound = self._keys.get(key)
            if bound is None or bound[2] <= now_ms():
                bound = self._keys[key] = (digest, run_id, now_ms() + self._retention_ms)
            return bound[0], bound[1]

    def index(self, run_id: str) -> None:
        with self.news:
            self._listed.add(run_id)

    def unlist(self, run_id: str) -> None:
        with self.news:
            self._listed.discard(run_id)
            self._due.pop(run_id, None)

    def listing(self, before: str | None, limit: int) -> list[str]:
        with self.news:
            return sorted((i for i in self._listed if before is None or i < before), reverse=True)[:limit]

    def loads(self, run_ids: Sequence[str]) -> list[RunState | UnsupportedSchemaVersionError | None]:
        found: list[RunState | UnsupportedSchemaVersionError | None] = []
        with self.news:
            for run in (self._find(run_id) for run_id in run_ids):
                try:
                    found.append(None if run is None else self._state(run, len(run.messages)))
                except UnsupportedSchemaVersionError as error:
                    found.append(error)
        return found

    # -- the store itself

    def beat(self, worker: str, ttl_ms: int) -> None:
        with self.news:
            self._workers[worker] = now_ms() + ttl_ms

    def workers(self) -> list[str]:
        with self.news:
            return sorted(worker for worker, until in self._workers.items() if until > now_ms())

    def backlog(self) -> tuple[int, int]:
        with self.news:
            return len(self._due), sum(at <= now_ms() for at in self._due.values())

    def check(self) -> Health:
        return Health(("the store is this process's memory: its runs end with it",))

    def close(self) -> None:
        """Nothing is held."""

    # -- inside

    def _find(self, run_id: str) -> _Run | None:
        run = self._runs.get(run_id)
        if run is not None and run.expires is not None and run.expires <= now_ms():
            del self._runs[run_id]
            return None
        return run

    def _get(self, run_id: str) -> _Run:
        run = self._find(run_id)
        if run is None:
            raise RunNotFoundError(f"there is no run {run_id}")
        return run

    def _held(self, lease: Lease) -> tuple[_Run, _Step]:
        run = self._get(lease.run_id)
        step = run.steps.get(lease.step)
        if step is None or step.token != lease.token:
            raise LeaseLostError
        return run, step

    def _append(self, run: _Run, bodies: Sequence[str]) -> None:
        stamp = now_ms()
        for body in bodies:
            run.seq += 1
            data = f'{{"seq":{run.seq},"timestamp":{stamp},{body[1:]}'
            run.events.append(StoredEvent(run.seq, data.encode()))
        while len(run.events) > self._max_events:
            run.events.popleft()

    def _state(self, run: _Run, first: int) -> RunState:
        now = now_ms()
        return RunState(
            record=RunRecord.decode(run.fixed, run.state, run.status),
            version=run.version,
            last_seq=run.seq,
            turn=tuple(json.loads(message) for message in run.messages[first:]),
            claimed=frozenset(number for number, step in run.steps.items() if step.attempt),
            live={number: step.until for number, step in run.steps.items() if step.until > now and step.token},
        )

    def _tell(self) -> None:
        self.changes += 1
        self.news.notify_all()


def _done(run: _Run, act: str) -> Commit | None:
    """What a commit of this name brought, if it is among the run's last few."""
    return next((commit for name, commit in run.acts if act and name == act), None)
