"""The store in memory: for scripts and tests in one process.

It keeps encoded bytes, so that nothing that works here fails on Redis for want of a codec, and nobody can change a
stored value by holding on to it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from msgspec import structs

from agentkit.core.calls import Call
from agentkit.core.events import Event, PendingItem
from agentkit.core.ids import now_ms
from agentkit.core.message_list import MessageList
from agentkit.core.messages import Json, Message, ToolResultMessage
from agentkit.core.record import AbortRequest, Change, Lease, Receipt, RunRecord, RunState, check_version
from agentkit.core.struct import decode
from agentkit.errors import (
    LeaseLostError,
    RunNotFoundError,
    RunNotTerminalError,
    StoreError,
    UnreadableRunError,
)
from agentkit.store.conversations import Conversations
from agentkit.store.encoding import (
    SMALL_QUEUE_BYTES,
    EncodedChange,
    count_others,
    decode_receipt,
    decode_resolution,
    encode_body,
    encode_change,
    encode_events,
    expand,
    known_messages,
    result_events,
    state_after,
)
from agentkit.store.memory_shares import MemoryShares
from agentkit.store.protocol import (
    Append,
    Appended,
    Claim,
    Commit,
    Conflict,
    EventPage,
    Health,
    LastCall,
    LeaseStatus,
    NextClaim,
    Push,
    StepLease,
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
    call: int | None
    first_claim: bytes
    token: int = 0
    until: int = 0
    attempt: int = 0
    flush: int = 0
    claim: str = ""

    @property
    def waits(self) -> bool:
        """Whether it was given back until a time, and may be claimed before."""
        return not self.token and self.claim == _UNTOUCHED


@dataclass
class _Run:
    id: str
    fixed: bytes = b""
    state: bytes = b""
    status: str = ""
    version: int = 0
    shared: int = 0
    """Version of what more than one call depends on: `w` in scripts/common.lua."""
    waiting: int = 0
    working: int = 0
    items: dict[str, int] = field(default_factory=dict)
    seq: int = 0
    flushed: int = 0
    updated_at: int = 0
    abort: bytes | None = None
    commits: deque[tuple[str, Commit]] = field(default_factory=lambda: deque(maxlen=8))
    tokens: int = 0
    on_claim: bytes = b""
    expires: int | None = None
    steps: dict[int, _Step] = field(default_factory=dict)
    calls: list[bytes] = field(default_factory=list)
    results: dict[int, bytes] = field(default_factory=dict)
    messages: list[bytes] = field(default_factory=list)
    queued: list[bytes] = field(default_factory=list)
    events: deque[StoredEvent] = field(default_factory=deque)
    resolutions: dict[str, bytes] = field(default_factory=dict)
    by_call: dict[str, str] = field(default_factory=dict)
    receipts: dict[str, bytes] = field(default_factory=dict)


class MemorySubscription:
    def __init__(self, store: MemoryStore, run_id: str) -> None:
        self._store = store
        self._run_id = run_id
        store.followed[run_id] += 1
        self._closed = False
        self._seen = store.changes
        self._woken = False
        self._callback: Callable[[], None] | None = None

    def get(self, timeout: float) -> Sequence[StoredEvent] | None:
        with self._store.changed:
            self._store.changed.wait_for(lambda: self._woken or self._store.changes != self._seen, timeout)
            self._woken = False
            if self._store.changes == self._seen:
                return None
            self._seen = self._store.changes
            return []

    def wake(self) -> None:
        with self._store.changed:
            self._woken = True
            self._store.changed.notify_all()
            self._notify()

    def on_ready(self, callback: Callable[[], None]) -> None:
        with self._store.changed:
            self._callback = callback
            self._store.listeners.add(self._notify)
            if self._woken or self._store.changes != self._seen:
                callback()

    def close(self) -> None:
        with self._store.changed:
            if not self._closed:
                self._closed = True
                self._store.followed[self._run_id] -= 1
                self._store.followed += Counter()  # without those that nobody follows
            self._callback = None
            self._store.listeners.discard(self._notify)

    def _notify(self) -> None:
        if self._callback is not None:
            self._callback()


class MemoryStore(MemoryShares):
    """See `agentkit.store.protocol.Store` for what each method promises.

    `clock`: gives its time, in ms since the Unix epoch.
    """

    def __init__(
        self,
        *,
        retention_seconds: int = 604_800,
        max_events: int = 100_000,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        super().__init__(retention_seconds, clock)
        self._max_events = max_events
        self._runs: dict[str, _Run] = {}
        self._deleted: dict[str, int] = {}
        self._conversations = Conversations()
        self.changes = 0
        self.followed: Counter[str] = Counter()
        self.listeners: set[Callable[[], None]] = set()
        """Called at every change, with `changed` held."""

    # -- one run

    def create(self, change: Change, pushes: Sequence[Push] = (), *, request_id: str = "") -> bool:
        with self.changed:
            known = self._find(change.record.id)
            if known is not None:
                return _answered(known, request_id) is not None
            if self.was_deleted(change.record.id):
                return False
            run = self._runs[change.record.id] = _Run(change.record.id)
            self._write(run, encode_change(change, self._bodies), request_id)
            return True

    def commit(
        self,
        change: Change,
        version: int,
        lease: Lease | None = None,
        pushes: Sequence[Push] = (),
        *,
        next_claim: NextClaim | None = None,
        request_id: str = "",
    ) -> Commit | Conflict:
        with self.changed:
            run = self._get(change.record.id)
            known = MessageList() if next_claim is None else known_messages(change, next_claim)
            if (done := _answered(run, request_id)) is not None:
                return self._claimed_again(run, done, next_claim, request_id, known)
            if lease is not None:
                self._held(lease)
            encoded = encode_change(change, self._bodies)
            newer = self._newer_state(run, encoded, version, lease)
            if newer is not None:
                return Conflict(newer)
            commit = self._write(run, encoded, request_id)
            if next_claim is None:
                return commit
            return replace(commit, claim=self._next_claim(run, change, next_claim, request_id, known))

    def _claimed_again(
        self, run: _Run, done: Commit, next_claim: NextClaim | None, request_id: str, known: MessageList
    ) -> Commit:
        """Answer an act that is sent again, with the step that was lent with it, if it still is."""
        found = None if next_claim is None else run.steps.get(next_claim.step.number)
        if found is None or next_claim is None or found.claim != request_id:
            return done
        lease = Lease(run.id, next_claim.step.number, found.token, found.attempt)
        return replace(done, claim=self._claim(run, lease, found, known))

    def _next_claim(self, run: _Run, change: Change, asked: NextClaim, request_id: str, known: MessageList) -> Claim:
        """Lend the step that the commit of `change` has opened."""
        step, number = run.steps[asked.step.number], asked.step.number
        lease = self._lend(run, number, step, asked.lease_ms, request_id)
        if step.call is not None and len(run.steps) > 1:
            return self._claim(run, lease, step, known)
        if step.call is None:
            known = self._conversation(run)
        state = state_after(
            change,
            asked,
            version=run.version,
            last_seq=run.seq,
            until=step.until,
            messages=known if step.call is None else MessageList(),
        )
        return Claim(lease, state, None if step.call is None else state.record.call(step.call), messages=known)

    def _newer_state(self, run: _Run, change: EncodedChange, version: int, lease: Lease | None) -> RunState | None:
        """Return the state that a change must be computed from instead; None where it can be made true."""
        if change.part is None:
            return None if run.version == version else self._state(run, queued=_little(run))
        if change.part >= len(run.calls):
            return self._state(run, queued=_little(run))
        if run.shared != version:
            return self._part(run, change.part, lease.step if lease else None)
        steps = len(run.steps) + len(change.opened) - len(change.closed)
        goes_on = steps + run.working + change.working > 0
        return None if goes_on or change.status == "paused" else self._state(run, queued=_little(run))

    def _write(self, run: _Run, encoded: EncodedChange, request_id: str, *, before: int | None = None) -> Commit:
        """Make a change true. `before`: the seq before the first event of the same act, where there were some."""
        own = run.seq
        run.fixed = encoded.fixed or run.fixed
        run.abort = encoded.abort or run.abort
        run.messages += encoded.messages
        if encoded.dropped_calls:
            run.calls, run.results = [], {}
        for index, call in encoded.calls:
            run.calls[index : index + 1] = [call]
        run.results.update(encoded.results)
        flushed = [] if encoded.part is None else _flush_results(run)
        self._append(run, [*encoded.events, *flushed])
        for step in encoded.opened:
            run.steps[step.number] = _Step(step.reads_from, step.call, step.first_claim, until=step.due)
        for number in encoded.closed:
            run.steps.pop(number, None)
        for decision_id, tool_call_id, event, text in encoded.resolutions:
            run.resolutions[decision_id] = b"%d %b" % (own + event + 1, text)
            run.by_call[tool_call_id] = decision_id
        for name, since, text in encoded.receipts:
            run.receipts[name] = b"%d %b" % (own if since is None else since, text)
        taken = set(encoded.unqueued)
        run.queued = [each for place, each in enumerate(run.queued) if place not in taken] + encoded.queued
        for decision_id, call_index in encoded.items:
            if call_index is None:
                run.items.pop(decision_id, None)
            else:
                run.items[decision_id] = call_index
        self._write_entries(run.id, encoded.outbox)
        run.state, run.status = encoded.state, encoded.status
        run.shared += 1
        if encoded.part is None:
            run.flushed, run.waiting, run.working = encoded.flushed, encoded.waiting, encoded.working
        else:
            run.waiting += encoded.waiting
            run.working += encoded.working
        run.on_claim = encoded.on_claim or run.on_claim
        if encoded.ended:
            run.on_claim = b""
            run.abort = None
            run.expires = self.now() + self._retention_ms
            self._conversations.forget(run.id)
        return self._committed(run, own if before is None else before, request_id, was_last=before is not None)

    def _committed(self, run: _Run, before: int, request_id: str, *, was_last: bool = False) -> Commit:
        run.version += 1
        self._notify()
        commit = Commit(run.version, before + 1, run.seq, was_last=was_last)
        run.commits.append((request_id, commit))
        return commit

    def commit_call(
        self,
        lease: Lease,
        call: int,
        outcome: ToolResultMessage | Call,
        events: Sequence[Event] = (),
        *,
        last: LastCall | None = None,
        request_id: str = "",
    ) -> Commit | Conflict:
        next_claim = None if last is None else last.next_claim
        with self.changed:
            run = self._get(lease.run_id)
            known = MessageList()
            if last is not None and next_claim is not None:
                known = known_messages(last.change, next_claim)
            if (done := _answered(run, request_id)) is not None:
                return self._claimed_again(run, done, next_claim, request_id, known)
            self._held(lease)
            is_last = len(run.steps) == 1
            if run.abort is not None or (is_last and not (last and _ends_turn(run, call, last))):
                return Conflict(self._state(run, queued=_little(run)))
            before = run.seq
            del run.steps[lease.step]
            bodies = encode_events(events, self._bodies)
            if isinstance(outcome, Call):
                run.calls[call] = encode_body(outcome, self._bodies)
                run.working += 1
            else:
                run.results[call] = encode_body(outcome, self._bodies)
                bodies += _flush_results(run)
            self._append(run, bodies)
            if last is None or not is_last:
                run.updated_at = self.now()
                return self._committed(run, before, request_id)
            done = self._write(run, encode_change(last.change, self._bodies), request_id, before=before)
            if next_claim is None:
                return done
            return replace(done, claim=self._next_claim(run, last.change, next_claim, request_id, known))

    def request_abort(self, run_id: str, request: AbortRequest, version: int) -> bool:
        with self.changed:
            run = self._get(run_id)
            if run.version != version:
                return False
            run.abort = encode_body(request, self._bodies)
            run.version += 1
            run.shared += 1
            return True

    def load(self, run_id: str, *, call: int | None = None, decision_id: str | None = None) -> RunState:
        with self.changed:
            run = self._get(run_id)
            if decision_id is not None:
                call = run.items.get(decision_id)
            if call is None or call >= len(run.calls):
                return self._state(run, queued=run.queued)
            return self._part(run, call, None)

    def messages(self, run_id: str) -> tuple[RunState, list[Json]]:
        with self.changed:
            run = self._get(run_id)
            return self._state(run, queued=run.queued), [
                decode(self._decrypt(run, message), Json) for message in run.messages
            ]

    def messages_from(self, run_id: str, first: int, size: int) -> list[bytes]:
        with self.changed:
            run = self._get(run_id)
            found: list[bytes] = []
            read = 0
            for message in islice(run.messages, first, None):
                read += len(message)
                if read > size and found:
                    break
                found.append(self._decrypt(run, message))
            return found

    def claim(self, run_id: str, step: int, lease_ms: int, *, request_id: str = "") -> Claim | None:
        with self.changed:
            run = self._get(run_id)
            found = run.steps.get(step)
            now = self.now()
            if found is not None and request_id and found.claim == request_id:
                return self._claim(run, Lease(run_id, step, found.token, found.attempt), found)
            if found is None or (found.until > now and not found.waits):
                return None
            check_version(self._decrypt(run, run.fixed))  # a record that cannot be read stays untouched
            before = run.seq
            claim = self._claim(run, self._lend(run, step, found, lease_ms, request_id), found)
            return replace(claim, appended=run.seq - before)

    def _lend(self, run: _Run, number: int, step: _Step, lease_ms: int, request_id: str) -> Lease:
        run.tokens += 1
        step.attempt += step.claim != _UNTOUCHED
        step.token, step.until, step.flush, step.claim = run.tokens, self.now() + lease_ms, 0, request_id
        self._append(run, [line for text in (run.on_claim, step.first_claim) if text for line in text.split(b"\n")])
        run.on_claim = step.first_claim = b""
        if run.status == "queued":
            run.status = "running"
            run.shared += 1
        run.version += 1
        self._notify()
        return Lease(run.id, number, step.token, step.attempt)

    def _claim(self, run: _Run, lease: Lease, step: _Step, known: MessageList | None = None) -> Claim:
        """Read a step that was lent; `known`: the first messages of the run, for a tool step."""
        if step.call is None:
            messages = self._conversation(run)
            return Claim(lease, replace(self._state(run, queued=_little(run)), messages=messages), messages=messages)
        complete = len(run.steps) == 1
        state = self._state(run, queued=_little(run)) if complete else self._part(run, step.call, lease.step)
        return Claim(lease, state, state.record.call(step.call), complete=complete, messages=known or MessageList())

    def append(self, appends: Sequence[Append]) -> list[Appended | StoreError]:
        with self.changed:
            return [self._append_one(append) for append in appends]

    def _append_one(self, append: Append) -> Appended | StoreError:
        try:
            run, step = self._held(append.lease)
        except (LeaseLostError, RunNotFoundError):
            return Appended(LeaseStatus.LOST)
        if append.flush > step.flush:
            step.flush = append.flush
            self._append(run, encode_events(append.events, self._bodies))
            self._notify()
        return Appended(_status(run), self.followed[append.lease.run_id])

    def renew(self, leases: Sequence[Lease], lease_ms: int) -> list[LeaseStatus]:
        statuses: list[LeaseStatus] = []
        with self.changed:
            for lease in leases:
                try:
                    run, step = self._held(lease)
                except (LeaseLostError, RunNotFoundError):
                    statuses.append(LeaseStatus.LOST)
                    continue
                if step.until:
                    step.until = self.now() + lease_ms
                statuses.append(_status(run) if step.until else LeaseStatus.LOST)
        return statuses

    def step_leases(self, run_id: str, steps: Sequence[int]) -> list[StepLease]:
        with self.changed:
            run, now, found = self._runs.get(run_id), self.now(), []
            for number in steps:
                step = None if run is None else run.steps.get(number)
                if step is None:
                    continue
                is_held = bool(step.token) and step.until > now
                token, worker = self._holders.get((run_id, number), (0, None))
                name = worker if is_held and token == step.token else None
                found.append(StepLease(number, step.attempt, step.until if is_held else None, name))
            return found

    def release(self, lease: Lease, *, untouched: bool = False, failed: bool = False, until: int | None = None) -> None:
        with self.changed:
            try:
                run, step = self._held(lease)
            except (LeaseLostError, RunNotFoundError):
                return
            if step.until:
                step.until = 0
                if untouched:
                    step.claim = _UNTOUCHED
                    if until is not None:
                        step.until, step.token = until, 0
                elif not failed:
                    step.attempt = max(1, step.attempt - 1)
                run.version += 1

    def resolution(self, run_id: str, *, decision_id: str | None, tool_call_id: str | None) -> StoredResolution | None:
        with self.changed:
            run = self._get(run_id)
            decision_id = decision_id or run.by_call.get(tool_call_id or "", "")
            stored = run.resolutions.get(decision_id)
            return None if stored is None else decode_resolution(decision_id, self._decrypt(run, stored))

    def resolutions(self, run_id: str) -> list[StoredResolution]:
        with self.changed:
            run = self._find(run_id)
            if run is None:
                return []
            found = [decode_resolution(key, self._decrypt(run, stored)) for key, stored in run.resolutions.items()]
            return sorted(found, key=lambda each: each.seq)

    def shown_items(self, answers: Sequence[tuple[str, str]]) -> list[PendingItem | None]:
        found: list[PendingItem | None] = []
        with self.changed:
            for run_id, decision_id in answers:
                run = self._find(run_id)
                stored = None if run is None else run.resolutions.get(decision_id)
                known = stored and decode_resolution(decision_id, self._bodies.decrypt(stored, run_id))
                found.append(known.item if known else None)
        return found

    def receipt(self, run_id: str, name: str) -> Receipt | None:
        with self.changed:
            run = self._find(run_id)
            if run is None or (stored := run.receipts.get(name)) is None:
                return None
            return decode_receipt(name, self._decrypt(run, stored))

    def events(self, run_id: str, after: int, limit: int, *, size: int | None = None) -> EventPage:
        with self.changed:
            run = self._get(run_id)
            self._state(run)
            first = run.events[0].seq if run.events else run.seq + 1
            start = max(0, after + 1 - first)
            page: list[StoredEvent] = []
            read = 0
            for i in range(start, min(start + limit, len(run.events))):
                whole = expand(run.events[i].data, _reader(run))
                event = StoredEvent(run.events[i].seq, self._decrypt(run, whole))
                read += len(event.data)
                if size is not None and read > size and page:
                    break
                page.append(event)
            return EventPage(page, first, run.seq, run.status)

    def subscribe(self, run_id: str, *, stops_only: bool = False) -> Subscription:
        with self.changed:
            return MemorySubscription(self, run_id)

    def delete(self, run_id: str) -> None:
        with self.changed:
            run = self._get(run_id)
            self._state(run)
            if run.status not in ("completed", "failed", "aborted"):
                raise RunNotTerminalError
            del self._runs[run_id]
            self._deleted[run_id] = self.now() + self._retention_ms
            self.unlist(run_id)
            self._notify()

    def forbid(self, run_id: str) -> bool:
        with self.changed:
            if self._find(run_id) is not None:
                return False
            self._deleted[run_id] = self.now() + self._retention_ms
            return True

    def was_deleted(self, run_id: str) -> bool:
        with self.changed:
            return self._deleted.get(run_id, 0) > self.now()

    def loads(self, run_ids: Sequence[str]) -> list[RunState | UnreadableRunError | None]:
        found: list[RunState | UnreadableRunError | None] = []
        with self.changed:
            for run in (self._find(run_id) for run_id in run_ids):
                try:
                    found.append(None if run is None else self._state(run))
                except UnreadableRunError as error:
                    found.append(error)
        return found

    # -- the store itself

    def check(self) -> Health:
        return Health(("the store is this process's memory: its runs end with it",))

    def close(self) -> None:
        """Nothing is held."""

    # -- inside

    def _find(self, run_id: str) -> _Run | None:
        run = self._runs.get(run_id)
        if run is not None and run.expires is not None and run.expires <= self.now():
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

    def _append(self, run: _Run, bodies: Sequence[bytes]) -> None:
        stamp = self.now()
        for body in bodies:
            run.seq += 1
            run.events.append(StoredEvent(run.seq, b'{"seq":%d,"timestamp":%d,%b' % (run.seq, stamp, body[1:])))
        while len(run.events) > self._max_events:
            run.events.popleft()

    def _state(
        self,
        run: _Run,
        *,
        call: int | None = None,
        queued: Sequence[bytes] | None = None,
        steps: dict[int, _Step] | None = None,
    ) -> RunState:
        now = self.now()
        steps = run.steps if steps is None else steps
        results = run.results if call is None else {i: run.results[i] for i in (call,) if i in run.results}
        record = RunRecord.decode(
            self._decrypt(run, run.fixed),
            self._decrypt(run, run.state),
            run.status,
            calls=[self._decrypt(run, each) for each in (run.calls if call is None else run.calls[call : call + 1])],
            results={index: self._decrypt(run, result) for index, result in results.items()},
            open_steps={number: step.call for number, step in steps.items()},
            flushed=run.flushed,
            updated_at=run.updated_at,
            abort=None if run.abort is None else self._decrypt(run, run.abort),
            first_call=call or 0,
            queued=None if queued is None else [self._decrypt(run, each) for each in queued],
        )
        return RunState(
            record=record,
            version=run.version,
            last_seq=run.seq,
            claimed=frozenset(number for number, step in steps.items() if step.attempt),
            live={number: step.until for number, step in steps.items() if step.until > now and step.token},
            waits={number: step.until for number, step in steps.items() if step.waits},
            outbox=run.id in self._outboxes,
        )

    def _conversation(self, run: _Run) -> MessageList:
        known = self._conversations.get(run.id)
        new = run.messages[len(known.messages) :]
        known = known.extended(new, [decode(self._decrypt(run, message), Message) for message in new])
        self._conversations.keep(run.id, known)
        return known.messages

    def _decrypt(self, run: _Run, stored: bytes) -> bytes:
        return self._bodies.decrypt(stored, run.id)

    def _part(self, run: _Run, call: int, step: int | None) -> RunState:
        """Read one call of the open turn alone, and one step."""
        steps = {number: run.steps[number] for number in (step,) if number in run.steps}
        state = self._state(run, call=call, steps=steps)
        others = count_others(
            state.record.call(call),
            len(steps),
            calls=len(run.calls),
            steps=len(run.steps),
            waiting=run.waiting,
            working=run.working,
        )
        return replace(state, record=structs.replace(state.record, others=others), version=run.shared)

    def _notify(self) -> None:
        self.changes += 1
        self.changed.notify_all()
        for listener in self.listeners:
            listener()


def _answered(run: _Run, request_id: str) -> Commit | None:
    """Find what a commit of this id brought, if it is among the run's last few."""
    return next((commit for known, commit in run.commits if request_id and known == request_id), None)


def _little(run: _Run) -> list[bytes] | None:
    """What is queued, where it is little."""
    return run.queued if sum(map(len, run.queued)) <= SMALL_QUEUE_BYTES else None


def _ends_turn(run: _Run, call: int, last: LastCall) -> bool:
    """Whether all calls of the turn have results once this one has, as what is to follow was computed."""
    has_all = all(index == call or index in run.results for index in range(len(run.calls)))
    messages = len(run.messages) + len(run.calls) - run.flushed
    return run.shared == last.version and has_all and messages == last.change.record.turn_from


def _flush_results(run: _Run) -> list[bytes]:
    """Make messages of the results whose turn has come, in the order of their calls; return their events."""
    events: list[bytes] = []
    while message := run.results.get(run.flushed):
        events += result_events(len(run.messages))
        run.messages.append(message)
        run.results[run.flushed] = b""
        run.flushed += 1
    return events


def _status(run: _Run) -> LeaseStatus:
    return LeaseStatus.HELD if run.abort is None else LeaseStatus.ABORT


def _reader(run: _Run) -> Callable[[int, int], list[bytes]]:
    return lambda first, count: run.messages[first : first + count]
