"""The store protocol: everything that the engine asks of a store, and the promises it relies on.

The store holds the truth. It knows nothing of agents, tools or models: it keeps records, messages and
events, lends steps to workers, and makes a `Change` true whole or not at all.

Errors: RunNotFoundError for a run that is not there, UnreadableRunError for one that this process cannot read and that
stays as it is, StoreUnavailableError when the store cannot be
asked (nothing has changed, or the same call again has the effect of one), the others as each method says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol

from agentkit.codec import Codec
from agentkit.core.audit import AnswerEntry, Chain, ChainedAnswer
from agentkit.core.calls import Call, Extension, ItemAnswer
from agentkit.core.events import Event, Outcome, PendingItem, Vote
from agentkit.core.inbox import ItemFilter, ListedItem
from agentkit.core.message_list import MessageList
from agentkit.core.messages import Json, ToolResultMessage
from agentkit.core.outbox import OutboxEntry
from agentkit.core.record import AbortRequest, Change, Lease, Receipt, RunState, StatusList, Step
from agentkit.core.workers import Worker
from agentkit.errors import StoreError, UnreadableRunError
from agentkit.store.shares import Shares

__all__ = [
    "Append",
    "Appended",
    "Claim",
    "Commit",
    "Conflict",
    "DueRun",
    "EventPage",
    "Health",
    "LastCall",
    "LeaseStatus",
    "NextClaim",
    "Push",
    "StepLease",
    "Store",
    "StoredEvent",
    "StoredResolution",
    "StoredThread",
    "Subscription",
    "ThreadMessage",
    "Totals",
]


class LeaseStatus(Enum):
    """What a worker learns of a step that it executes whenever it writes or renews."""

    HELD = "held"
    ABORT = "abort"
    """It is held, and somebody wants the run to end."""
    LOST = "lost"
    """It went to another worker, was given back, or is done."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A step lent to a worker until `lease_ms` have passed, and the run as it stands.

    `call` is the tool call that a tool step executes. While other steps of its turn are open, `complete` is False: then
    `state` shows of the turn's calls and steps these alone, so that claiming one of many calls does not read them all.
    `Store.commit_call` says what becomes of the one that ends last. What is queued is in a complete state where it
    is little. `messages`: the run's first messages, as far as the claimer has them; all that a model step reads.
    `appended`: how many events `claim` appended, the log's last ones then; 0 where that is not known.
    """

    lease: Lease
    state: RunState
    call: Call | None = None
    complete: bool = True
    messages: MessageList = field(default_factory=MessageList)
    appended: int = 0


@dataclass(frozen=True, slots=True)
class NextClaim:
    """A step that a change opens, to be lent to its committer for `lease_ms` in the act that makes the change true.

    `state`: what the change was computed from. `messages`: the run's first messages, as far as the committer has them.
    """

    step: Step
    lease_ms: int
    state: RunState
    messages: MessageList = field(default_factory=MessageList)


@dataclass(frozen=True, slots=True)
class Append:
    """Events to append under a lease. `flush` counts the appends under it from 1: a repeated one changes nothing."""

    lease: Lease
    events: Sequence[Event]
    flush: int


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of an `Append`; where the lease is LOST, nothing. `receivers`: how many processes follow the run."""

    status: LeaseStatus
    receivers: int = 0


@dataclass(frozen=True, slots=True)
class Push:
    """A message for a queue that lives on the store's own server, as the queue's clients expect it."""

    queue: str
    message: str


@dataclass(frozen=True, slots=True)
class LastCall:
    """What follows from the end of a call if it is the last of its turn to end.

    `change`: of the state that the call was read alone with, as it is once all calls have their results; it does not
    hold their messages. `version`: of that state. `pushes` and `next_claim` as in `Store.commit`.
    """

    change: Change
    version: int
    pushes: Sequence[Push] = ()
    next_claim: NextClaim | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """A change that is true. `first_seq` is the seq of its first event, `last_seq` that of its last.

    `claim`: of the step that was to be lent with it. `was_last`: the call that ended was the last one of its turn, and
    its `LastCall` is true with it.
    """

    version: int
    first_seq: int
    last_seq: int
    claim: Claim | None = None
    was_last: bool = False


@dataclass(frozen=True, slots=True)
class Conflict:
    """A change that was computed from another state than the run's present one; nothing has changed.

    What is queued is in the state where it is little.
    """

    state: RunState


class StoredEvent(NamedTuple):
    """One entry of the log. `data` is the event's JSON, with its seq and timestamp."""

    seq: int
    data: bytes


@dataclass(frozen=True, slots=True)
class EventPage:
    """Part of a log, and where the run stood at the same moment.

    `first_seq` is the first seq that is still kept (last_seq + 1 where none is), `events` those asked for.
    """

    events: list[StoredEvent]
    first_seq: int
    last_seq: int
    status: str


@dataclass(frozen=True, slots=True)
class StoredResolution:
    """How an item was answered. `seq` is that of its tool_decision_resolved.

    `outcome`: "decided", "rejected" or "expired". `answer`: what was given, None for an expired item.
    `decided_at` (ms) is None in what versions before it have written, `decided_by` where nobody was named.
    `extensions`: the last times that its expiry was moved, and by whom. `votes`: those that were given, where several
    had to decide. `remembered`: nobody was asked, and the answer is an earlier one's. `item`: as it was shown,
    None in what versions before it have written.
    """

    decision_id: str
    tool_call_id: str
    outcome: Outcome
    answer: ItemAnswer | None
    seq: int
    decided_at: int | None = None
    decided_by: str | None = None
    extensions: tuple[Extension, ...] = ()
    votes: tuple[Vote, ...] = ()
    remembered: bool = False
    item: PendingItem | None = None


@dataclass(frozen=True, slots=True)
class ThreadMessage:
    """A message that a thread has: the run that took it, and the digest of what it said."""

    run_id: str
    digest: str


@dataclass(frozen=True, slots=True)
class StoredThread:
    """A conversation of several runs, each of which begins where the one before has ended.

    `run_id`: its last run. `before`: the run that was its last when that one was added, None where it is the first.
    `messages`: those that the thread has of the ones that were asked for, by their names.
    """

    run_id: str
    before: str | None
    messages: Mapping[str, ThreadMessage]


@dataclass(frozen=True, slots=True)
class DueRun:
    """A run that is due for a recovery check, held for the taker; `mark` proves it to `reschedule`.

    `scheduled`: somebody scheduled it since it was last checked. The change for which that was may not be true yet,
    though the run was due for another reason: it must not be forgotten.
    """

    run_id: str
    mark: float
    scheduled: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """What the store says of itself; `warnings` are sentences for the operator.

    `version`: the server's name and version, "" where it is not told. `used_bytes` of the `max_bytes` that it may use
    are taken; None where there is no bound, or it is not told. `tls`: whether it is reached by TLS; None without a
    server.
    """

    warnings: tuple[str, ...] = ()
    version: str = ""
    used_bytes: int | None = None
    max_bytes: int | None = None
    tls: bool | None = None


@dataclass(frozen=True, slots=True)
class StepLease:
    """An open step's `attempt`, 0 where it was never begun, and its lease `until` (ms), None where nobody holds it.

    `worker`: the name of the one that holds it, where that is noted: of a step that takes longer than a heartbeat.
    """

    step: int
    attempt: int
    until: int | None = None
    worker: str | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """What all processes have reported. `counts`: since the store is there; no amount of it ever falls.

    `levels`: the sums over those processes whose last report still counts.
    """

    counts: Mapping[str, float]
    levels: Mapping[str, float]


class Subscription(Protocol):
    """The notifications of one run's log, from the moment it was made."""

    def get(self, timeout: float) -> Sequence[StoredEvent] | None:
        """Wait for the next events; None after `timeout` seconds without any. An empty sequence: read the log."""
        ...

    def wake(self) -> None:
        """Let the `get` that waits, or the next one, return at once, with None where there is nothing. Any thread."""
        ...

    def on_ready(self, callback: Callable[[], None]) -> None:
        """Have `callback` called as soon as a `get` would return at once, again after each `get`, and now if so now.

        For who waits in an event loop and not in a thread. It is called in any thread, with locks of the store held: it
        must return at once, raise nothing, and call nothing of the store.
        """
        ...

    def close(self) -> None: ...


class Store(Shares, Protocol):
    """Every method may raise StoreUnavailableError, after which the call may be made again, and StoreError.

    A call that failed may have been done all the same: its reply was lost. `request_id` names a call for that case:
    made again under the same id, right after, it answers as the first time and changes nothing.
    """

    # -- one run: each call is atomic

    def create(self, change: Change, pushes: Sequence[Push] = (), *, request_id: str = "") -> bool:
        """Make a new run; False, and nothing changed, if one of this id is there or was deleted.

        `pushes` as in `commit`.
        """
        ...

    def load(self, run_id: str, *, call: int | None = None, decision_id: str | None = None) -> RunState:
        """Read a run without its messages, but with all that are queued.

        `call`, or `decision_id`: of the open turn's calls this one alone is wanted, or the one that this item is
        pending for. Then the state shows no other call, no step and nothing queued, its record's `others` counts the
        calls, and what it costs does not grow with them. Where there is no such call, or in an older record, it is the
        whole state.
        """
        ...

    def messages(self, run_id: str) -> tuple[RunState, list[Json]]:
        """Read the whole conversation, as the wire's objects, and the state of the same moment."""
        ...

    def messages_from(self, run_id: str, first: int, size: int) -> list[bytes]:
        """Read the messages from number `first` (from 0) on, each as JSON: up to `size` bytes as stored, always one.

        Fewer than are there come back only for their size; none where there is no such message.
        """
        ...

    def claim(self, run_id: str, step: int, lease_ms: int, *, request_id: str = "") -> Claim | None:
        """Lend `step` to the caller: None if it is not open, or lent to another whose lease still runs.

        The first claim after a pause and the first of a step append what the change that opened it left
        for them. A queued run becomes running. A model step's state carries the whole conversation.
        """
        ...

    def append(self, appends: Sequence[Append]) -> list[Appended | StoreError]:
        """Append the events of several runs, in one round trip; what became of each, in their order.

        One that is refused is in its place, and the others are done. Raises StoreUnavailableError where it is not known
        which were done: they may all be made again.
        """
        ...

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
        """Make `change` true if the run still has `version` and the lease, where given, still holds.

        Where the version is another, nothing changes and the present state comes back. Raises LeaseLostError, and
        changes nothing. What it queues and takes from the queue is all that it writes of that. A change of one call
        that was read alone is not refused because another has ended; its result becomes a message as in `commit_call`.
        Where nothing else goes on, and the run is not paused, it changes nothing and the whole state comes back. The
        keys of an ended run get a time to live, but not its outbox. `pushes` go into their queues in the same act; only
        a store that shares its server with them gets any. `next_claim`: one of the steps that the change opens, due at
        once, is claimed in the same act, as by `claim`; the state of its claim is made from the change and not read.
        """
        ...

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
        """Give call number `call` of the open turn its outcome, and close the step that `lease` holds.

        `outcome`: its result, or the call as one that waits for its sub-agent's run.
        It depends on no version, so that calls which end side by side never refuse one another. `events` are appended;
        the result becomes a message of the run, with its message_start and message_end, as soon as all calls before it
        have theirs. Where all calls of the turn have results with this one, `last` becomes true in the same act, its
        events after all others: if what the calls share still is of its version, and the turn that it begins comes
        right after their messages. Where this is the last open step otherwise, or somebody wants the run to end,
        nothing changes and the whole state comes back: what then follows is a transition's to say, by `commit`.
        Raises LeaseLostError.
        """
        ...

    def request_abort(self, run_id: str, request: AbortRequest, version: int) -> bool:
        """Ask whoever holds a step of the run to end it; False, and nothing changed, if its version is another.

        `append`, `renew`, `commit` and `commit_call` of the holder answer that the run is to be aborted from then on.
        """
        ...

    def renew(self, leases: Sequence[Lease], lease_ms: int) -> list[LeaseStatus]:
        """Extend leases, in one round trip."""
        ...

    def release(self, lease: Lease, *, untouched: bool = False, failed: bool = False, until: int | None = None) -> None:
        """Give a step back unfinished: the next claim is not counted as another attempt. Harmless if lost.

        `untouched`: nothing was done in it, so that the next claim is this same attempt. `until`: and it is due then
        (ms), though it may be claimed before. `failed`: the attempt counts.
        """
        ...

    def resolution(self, run_id: str, *, decision_id: str | None, tool_call_id: str | None) -> StoredResolution | None:
        """Find how an item was answered, the last one of a tool call where only that is given."""
        ...

    def resolutions(self, run_id: str) -> list[StoredResolution]:
        """List how the run's items were answered, in the order of their answers; empty for a run that is not there."""
        ...

    def shown_items(self, answers: Sequence[tuple[str, str]]) -> list[PendingItem | None]:
        """Read several items that were answered, as they were shown: by the ids of their runs and their own.

        None for one of a run that is gone, or that was answered in an earlier version.
        """
        ...

    def receipt(self, run_id: str, name: str) -> Receipt | None:
        """Find what was kept, with the change that it made, of a call that had an idempotency key."""
        ...

    def events(self, run_id: str, after: int, limit: int, *, size: int | None = None) -> EventPage:
        """Read up to `limit` events whose seq is over `after`, oldest first.

        Where `size` is given, up to so many bytes of them, as they are stored, though always one. The page that reaches
        `last_seq` is the last.
        """
        ...

    def subscribe(self, run_id: str, *, stops_only: bool = False) -> Subscription:
        """Subscribe to a run's log; with `stops_only` to its pauses and its end alone, as empty sequences."""
        ...

    def delete(self, run_id: str) -> None:
        """Forget an ended run, but for its id, which stays taken as long as an ended run is kept.

        Raises RunNotTerminalError for another. Subscribers are notified. What is in its outbox stays there.
        """
        ...

    def forbid(self, run_id: str) -> bool:
        """Take the id of a run that is not there, as if it had been deleted; False, and nothing changed, if it is."""
        ...

    def was_deleted(self, run_id: str) -> bool:
        """Whether a run that is not there was deleted, as far as that is remembered, or forbidden."""
        ...

    # -- one run's outbox, which outlives the run

    def outbox(self, run_id: str) -> list[OutboxEntry]:
        """List what the run's commits have caused and nobody has done, in the order of ids; also of a run that is gone.

        Raises DecryptionError where a codec is needed that is not there.
        """
        ...

    def take_entry(self, run_id: str, entry_id: str, hold_ms: int) -> OutboxEntry | None:
        """Take an entry whose time has come: it is due again in `hold_ms`, and one try is counted.

        None, and nothing changed, where it is due later, and where it is not there. Where the reply was lost nobody has
        it until then. Raises DecryptionError for one that stays as it is but for that.
        """
        ...

    def postpone_entry(self, run_id: str, entry: OutboxEntry, at: int) -> bool:
        """Have a taken entry be due at `at` (ms); False, and nothing changed, if it was taken again, or removed."""
        ...

    def remove_entries(self, run_id: str, entry_ids: Sequence[str]) -> None:
        """Remove at least one entry of which all is done; harmless where they are not there."""
        ...

    # -- across runs: each call is atomic, but no call spans a run and an index

    def now(self) -> int:
        """Read the store's clock (ms since the Unix epoch), by which all times go that are kept or compared.

        It is never behind the time of a reply that has come before. Cheap: it is asked for every few seconds at most.
        """
        ...

    def schedule(self, run_id: str, at: int) -> None:
        """Have the run checked at `at` (ms) or before. Called before the change that makes it so."""
        ...

    def due(self, limit: int, hold_ms: int) -> list[DueRun]:
        """Take runs whose time has come; nobody else gets them for `hold_ms`."""
        ...

    def reschedule(self, run: DueRun, at: int | None) -> None:
        """Check a taken run again at `at` (ms), or never (None).

        If somebody scheduled or took it since it was taken, it is still checked when that says, or at `at` if that is
        before.
        """
        ...

    def refuse(self, recipient: str) -> None:
        """Note that a recipient of notifications wants no more, for good."""
        ...

    def is_refused(self, recipient: str) -> bool:
        """Whether a recipient of notifications wants no more."""
        ...

    def remember(self, key: str, digest: str, run_id: str) -> tuple[str, str]:
        """Bind an idempotency key to (digest, run id) unless it is bound; returns what it is bound to."""
        ...

    def remembered(self, key: str) -> tuple[str, str] | None:
        """Find what an idempotency key is bound to; None where it is not."""
        ...

    def thread(self, name: str, messages: Sequence[str] = ()) -> StoredThread | None:
        """Read a thread, and which of these messages it has. It is kept as long as an ended run from now on."""
        ...

    def extend_thread(self, name: str, run_id: str, after: str | None, messages: Mapping[str, str]) -> bool:
        """Make a run a thread's last one, and note the messages that it takes, by their names, with their digests.

        In one act, if its last run is `after` (None: there is no thread) and it has none of the messages; False, and
        nothing changed, otherwise. `run_id` may be `after` itself. Called before the run is made.
        """
        ...

    def index(
        self,
        run_id: str,
        owner: str | None = None,
        *,
        agent: str | None = None,
        status: StatusList | None = None,
    ) -> None:
        """List a run, also among those of its owner, of its agent and of its status, where they are named.

        Called before the run is created, and before each change that takes it into another status list: an entry
        without a run, or in the list of a status that the run has no more or not yet, is passed over by readers.
        """
        ...

    def unindex(self, run_id: str, statuses: Collection[StatusList], owner: str | None = None) -> None:
        """Take a run out of the lists of statuses that it has no more; harmless where it is not there."""
        ...

    def unlist(self, run_id: str) -> None:
        """Take a run that is gone, and its items, out of every index.

        It stays in the due index while its outbox has entries. Not for readers: what is not there may be about to be
        made.
        """
        ...

    def listing(
        self,
        before: str | None,
        limit: int,
        owner: str | None = None,
        *,
        agent: str | None = None,
        status: StatusList | None = None,
    ) -> list[str]:
        """List ids of runs, newest first, those older than the id `before`; of one owner, agent and status where named.

        Where `status` is named, runs of other agents may be among them, and such as have another status. What it costs
        depends on how many are listed, not on how many there are.
        """
        ...

    def has_lists(self) -> bool:
        """Whether every run is in all its lists: earlier versions kept none but that of all (`runtime/upgrade.py`)."""
        ...

    def set_has_lists(self) -> None:
        """Say that every run is in all its lists."""
        ...

    def list_items(self, items: Sequence[ListedItem]) -> None:
        """Put pending items into the inbox. Called before the change that makes them pending.

        An item that is not pending, no more or not yet, is passed over by readers.
        """
        ...

    def unlist_items(self, items: Sequence[ListedItem]) -> None:
        """Take items out of the inbox that are not pending any more; harmless where they are not there."""
        ...

    def items(self, after: str | None, limit: int, wanted: ItemFilter) -> list[ListedItem]:
        """List the items that `wanted` selects, oldest first, those after the item `after` in that order.

        What it costs depends on how many are listed, not on how many there are.
        """
        ...

    def count_items(self, *wanted: ItemFilter) -> list[int]:
        """Count the items that each filter selects, at a cost that does not depend on how many there are."""
        ...

    def items_of(self, run_id: str) -> list[ListedItem]:
        """List the items of a run that are in the inbox."""
        ...

    def has_items(self) -> bool:
        """Whether every pending item is in the inbox: earlier versions kept none (`runtime/upgrade.py`)."""
        ...

    def set_has_items(self) -> None:
        """Say that every pending item is in the inbox."""
        ...

    # -- the record of answers, which outlives the runs

    def record_answer(self, entry: AnswerEntry) -> None:
        """Append an entry to the chain, if there is none of the same item; in one act, whoever else does so.

        Encrypted by the codec, if there is one; the hashes are those of the plain text, and as secret.
        """
        ...

    def answers(self, before: int | None, limit: int, wanted: ItemFilter) -> list[ChainedAnswer]:
        """List answers, newest first, those whose number is below `before`.

        Others than the wanted may be among them where a kind is, or an agent beside a tool. What it costs depends on
        how many are listed, not on how many there are.
        """
        ...

    def chain(self) -> Chain:
        """Say what is kept of the chain."""
        ...

    def chain_lines(self, after: int, limit: int) -> list[str]:
        """Read entries as they were written, oldest first, those whose number is over `after`."""
        ...

    def trim_answers(self, before: int, limit: int) -> int:
        """Remove the oldest entries, those that were recorded before a time (ms), `limit` at the most; how many.

        The chain then begins after them, and its anchor is the hash of the last of them.
        """
        ...

    def loads(self, run_ids: Sequence[str]) -> list[RunState | UnreadableRunError | None]:
        """Read several runs without their messages and what is queued; None for each that is gone.

        A record that cannot be read does not hide the others: its error stands in its place.
        """
        ...

    # -- the store itself

    def use_codec(self, codec: Codec) -> None:
        """Encrypt by `codec`, from the next call on, all that a person or a model wrote or a tool returned.

        What is stored already stays as it is and is read all the same. Ids, numbers, times, statuses, and names of
        agents, tools and owners stay plain. What `codec` cannot decrypt is a DecryptionError, and is left untouched.
        """
        ...

    def heartbeat(self, worker: str, ttl_ms: int, about: Worker | None = None) -> None:
        """Say that a worker is there, for `ttl_ms`, and what it says of itself."""
        ...

    def workers(self) -> list[str]: ...

    def about_workers(self) -> list[Worker]:
        """List the workers that are there, each as it says of itself; of one that says nothing, its name."""
        ...

    def note_holders(self, leases: Sequence[Lease], worker: str, ttl_ms: int) -> None:
        """Note for `ttl_ms` which worker holds these leases: for people, and nothing depends on it."""
        ...

    def step_leases(self, run_id: str, steps: Sequence[int]) -> list[StepLease]:
        """Say who holds these steps of a run, and until when; nothing of a step that is not open."""
        ...

    def next_check(self, run_id: str | None = None) -> int | None:
        """Return when a run is due for a recovery check, or the first of all runs (ms); None where none is due."""
        ...

    def unscheduled(self, run_ids: Sequence[str]) -> list[str]:
        """List those of the runs that the due index does not have."""
        ...

    def mark_served(self, queue: str, ttl_ms: int) -> None:
        """Note that a worker has just executed something of `queue`, which counts for `ttl_ms`."""
        ...

    def served(self, queues: Sequence[str]) -> list[str]:
        """List those of `queues` of which something was executed lately."""
        ...

    def begin_probe(self, queue: str, ttl_ms: int) -> bool:
        """Whether the caller is to send the next probe of `queue`: one caller in `ttl_ms`, of all workers."""
        ...

    def backlog(self) -> tuple[int, int]:
        """Count the runs that the due index holds, and those of them that are overdue."""
        ...

    def count_ended(self) -> int:
        """Count the ended runs that are listed, at a cost that does not depend on how many there are.

        The due index holds them too, until they have expired or are deleted.
        """
        ...

    def report(
        self, process: str, number: int, counts: Mapping[str, float], levels: Mapping[str, float], ttl_ms: int
    ) -> None:
        """Add what a process has counted since its last report, and note its levels, which count for `ttl_ms`.

        `counts`: amounts above 0, by names of the caller's. `levels`: in place of those that it reported before.
        `number`: of the process's reports, from 1. Where it is not above that of its last one, the call was made
        already, and nothing changes.
        """
        ...

    def totals(self) -> Totals:
        """Add up what all processes have reported."""
        ...

    def check(self) -> Health:
        """Check that the store answers and takes writes. Raises StoreUnavailableError if it does not."""
        ...

    def close(self) -> None: ...
