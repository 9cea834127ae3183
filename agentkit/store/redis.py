"""The store on Redis or Valkey: one Lua script per act, so that an act happens whole or not at all.

The scripts and the schema of every key are in `scripts/`, their arguments in `lua.py`. What spans runs (the due index,
the list of runs) is never in one script with a run's keys: the store can be a cluster (docs/how-to/redis-cluster.md).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, cast

import redis
import redis.exceptions

from agentkit.codec import Codec
from agentkit.core.calls import Call
from agentkit.core.events import Event, PendingItem
from agentkit.core.ids import random_id
from agentkit.core.message_list import MessageList
from agentkit.core.messages import Json, Message, ToolResultMessage
from agentkit.core.outbox import OutboxEntry
from agentkit.core.record import ENDED_LISTS, STATUS_LISTS, AbortRequest, Change, Lease, Receipt, RunState, StatusList
from agentkit.core.struct import decode, encode
from agentkit.errors import (
    DecryptionError,
    LeaseLostError,
    RunNotFoundError,
    RunNotTerminalError,
    StoreError,
    UnreadableRunError,
    UnsupportedSchemaVersionError,
)
from agentkit.store.bodies import Bodies, no_codec
from agentkit.store.clock import StoreClock
from agentkit.store.cluster import with_raw_streams
from agentkit.store.connection import connect, passes, refusal, translated
from agentkit.store.conversations import Conversation, Conversations
from agentkit.store.encoding import (
    decode_entry,
    decode_receipt,
    decode_resolution,
    decode_state,
    encode_body,
    encode_change,
    encode_events,
    known_messages,
    state_after,
)
from agentkit.store.lists import list_name, lists_of
from agentkit.store.lua import ChangeCall, RunKeys, Scripts
from agentkit.store.protocol import (
    Append,
    Appended,
    Claim,
    Commit,
    Conflict,
    EventPage,
    LastCall,
    LeaseStatus,
    NextClaim,
    Push,
    StoredResolution,
    Subscription,
)
from agentkit.store.pubsub import hub_of
from agentkit.store.redis_audit import RedisAudit
from agentkit.store.redis_backup import RedisBackup
from agentkit.store.redis_due import RedisDue
from agentkit.store.redis_health import RedisHealth
from agentkit.store.redis_inbox import RedisInbox
from agentkit.store.redis_log import decrypted, read_page
from agentkit.store.redis_metrics import RedisMetrics
from agentkit.store.redis_shares import RedisShares
from agentkit.store.redis_threads import RedisThreads
from agentkit.store.redis_workers import RedisWorkers

__all__ = ["RedisStore"]

_READABLE = 1000
"""Of how many runs a process remembers that it can decrypt them."""


class RedisStore(
    RedisInbox,
    RedisAudit,
    RedisDue,
    RedisHealth,
    RedisMetrics,
    RedisShares,
    RedisWorkers,
    RedisThreads,
    RedisBackup,
):
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
        RedisInbox.__init__(self, with_raw_streams(client or connect(url)), prefix)
        RedisAudit.__init__(self, prefix)
        RedisDue.__init__(self, prefix)
        RedisMetrics.__init__(self, prefix)
        RedisShares.__init__(self, prefix)
        RedisWorkers.__init__(self, self._client, prefix, self.now)
        RedisBackup.__init__(self, prefix, self.now)
        self.url = url
        self._prefix = prefix
        self._retention_ms = retention_seconds * 1000
        self._max_events = max_events
        self._bodies = Bodies()
        self._scripts = Scripts(self._client)
        self._hub = hub_of(self._client)
        self._check_readable: Callable[[str], None] = lambda run_id: None
        self._conversations = Conversations()
        self._clock = StoreClock(self._server_ms)
        self._runs = f"{prefix}runs"
        self._listed = f"{prefix}listed"
        self._refused = f"{prefix}refused"

    def use_codec(self, codec: Codec) -> None:
        self._bodies = Bodies(codec)
        self._scripts.version = self._bodies.version()
        self._hub.bodies = self._bodies
        self._check_readable = functools.lru_cache(_READABLE)(self._read_once)

    def _keys(self, run_id: str) -> RunKeys:
        return RunKeys.of(self._prefix, run_id)

    # -- one run

    @translated
    def create(self, change: Change, pushes: Sequence[Push] = (), *, request_id: str = "") -> bool:
        call = self._change_call(change, None, None, pushes)
        reply = self._scripts.commit(self._keys(change.record.id), request_id or random_id(), call)
        return bool(reply != b"exists")

    @translated
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
        known = MessageList() if next_claim is None else known_messages(change, next_claim)
        call = self._change_call(change, version, lease, pushes, next_claim, len(known))
        reply = self._scripts.commit(self._keys(change.record.id), request_id or random_id(), call)
        outcome = self._outcome(reply, change.record.id)
        if change.record.terminal:
            self._conversations.forget(change.record.id)
        if next_claim is None or isinstance(outcome, Conflict) or len(reply) == 3:
            return outcome
        return replace(outcome, claim=self._next_claim(change, next_claim, reply[3], known))

    def _change_call(
        self,
        change: Change,
        version: int | None,
        lease: Lease | None,
        pushes: Sequence[Push],
        next_claim: NextClaim | None = None,
        known: int = 0,
    ) -> ChangeCall:
        next_step = None if next_claim is None else (next_claim.step.number, next_claim.lease_ms, known)
        encoded = encode_change(change, self._bodies)
        return ChangeCall(encoded, version, lease, pushes, next_step, self._retention_ms, self._max_events)

    @translated
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
        text = encode_body(outcome, self._bodies)
        result, waiting = (text, b"") if isinstance(outcome, ToolResultMessage) else (b"", text)
        follows: ChangeCall | None = None
        known = MessageList()
        if last is not None:
            known = MessageList() if last.next_claim is None else known_messages(last.change, last.next_claim)
            follows = self._change_call(last.change, last.version, None, last.pushes, last.next_claim, len(known))
        reply = self._scripts.commit_call(
            self._keys(lease.run_id),
            request_id or random_id(),
            lease,
            call,
            result,
            waiting,
            encode_events(events, self._bodies),
            self._max_events,
            follows,
        )
        done = self._outcome(reply, lease.run_id)
        if last is None or isinstance(done, Conflict) or len(reply) == 3:
            return done
        if last.next_claim is None or not reply[3]:
            return replace(done, was_last=True)
        return replace(done, was_last=True, claim=self._next_claim(last.change, last.next_claim, reply[3], known))

    @translated
    def request_abort(self, run_id: str, request: AbortRequest, version: int) -> bool:
        reply = self._scripts.request_abort(self._keys(run_id), version, encode_body(request, self._bodies))
        return bool(_found(reply, run_id) == b"ok")

    @translated
    def load(self, run_id: str, *, call: int | None = None, decision_id: str | None = None) -> RunState:
        reply = self._scripts.load(self._keys(run_id), call=call, decision_id=decision_id)
        return self._state(_found(reply, run_id), run_id)

    @translated
    def messages(self, run_id: str) -> tuple[RunState, list[Json]]:
        reply = _found(self._scripts.load(self._keys(run_id), messages=True), run_id)
        _, _, messages, _ = reply
        return self._state(reply, run_id), [decode(self._bodies.decrypt(message, run_id), Json) for message in messages]

    @translated
    def messages_from(self, run_id: str, first: int, size: int) -> list[bytes]:
        found = _found(self._scripts.messages(self._keys(run_id), first, size), run_id)
        return [self._bodies.decrypt(message, run_id) for message in found]

    @translated
    def claim(self, run_id: str, step: int, lease_ms: int, *, request_id: str = "") -> Claim | None:
        keys, request_id = self._keys(run_id), request_id or random_id()
        self._check_readable(run_id)
        known, appended = self._conversations.get(run_id), 0
        while True:
            reply = self._scripts.claim(keys, request_id, step, lease_ms, self._max_events, known.first_wanted)
            if _found(reply, run_id) == b"no":
                return None
            *reply, new = reply
            appended += int(new)
            try:
                claim = self._lent(reply, run_id, step, known)
            except DecryptionError:
                lease = Lease(run_id, step, int(reply[0]), int(reply[1]))
                self._scripts.release(keys, lease, untouched=True, failed=False)
                raise
            if claim is not None:
                return replace(claim, appended=appended)
            known = Conversation()  # it is not what is stored: the same claim again, with all messages

    def _lent(self, reply: Any, run_id: str, step: int, known: Conversation) -> Claim | None:
        """Read a step that was lent, with the messages that this process knows; None where they are not the run's."""
        claim = self._claim(reply, run_id, step)
        if claim.call is not None:
            return claim
        stored = _messages_of(reply)
        if not known.is_before(stored):
            return None
        new = stored[1:] if known.messages else stored
        conversation = known.extended(new, self._read_messages(new, run_id))
        self._conversations.keep(run_id, conversation)
        return _with_messages(claim, conversation.messages)

    def _claim(self, reply: Any, run_id: str, step: int) -> Claim:
        """Read a step that was lent, but for the messages that came along."""
        token, attempt, complete, stored = reply
        state = self._state(stored, run_id)
        opened = state.record.step(step)
        call = None if opened is None or opened.call is None else state.record.call(opened.call)
        return Claim(Lease(run_id, step, int(token), int(attempt)), state, call, complete=bool(complete))

    def _next_claim(self, change: Change, asked: NextClaim, reply: Any, known: MessageList) -> Claim:
        """Make the claim of a step that was lent with the commit of `change`."""
        run_id, step = change.record.id, asked.step
        if len(reply) == 4:  # others are open beside it, or it was sent again and others may have written since
            new = self._read_messages(_messages_of(reply), run_id)
            return _with_messages(self._claim(reply, run_id, step.number), known.extended(new))
        token, version, last_seq, until, rest = reply
        if step.call is None:
            known = known.extended(self._read_messages(rest, run_id))
        state = state_after(
            change,
            asked,
            version=int(version),
            last_seq=int(last_seq),
            until=int(until),
            messages=known if step.call is None else MessageList(),
        )
        call = None if step.call is None else state.record.call(step.call)
        return Claim(Lease(run_id, step.number, int(token), 1), state, call, messages=known)

    def _read_messages(self, stored: Sequence[bytes], run_id: str) -> list[Message]:
        return [decode(self._bodies.decrypt(message, run_id), Message) for message in stored]

    def _read_once(self, run_id: str) -> None:
        """Read a run before anything is done with it here, so that one which no key decrypts stays untouched."""
        self.load(run_id)

    @translated
    def append(self, appends: Sequence[Append]) -> list[Appended | StoreError]:
        calls = [
            (self._keys(each.lease.run_id), each.lease, encode_events(each.events, self._bodies), each.flush)
            for each in appends
        ]
        replies = self._scripts.append(calls, self._max_events)
        for reply in replies:
            if isinstance(reply, Exception) and passes(reply):
                raise reply
        return [
            refusal(reply) if isinstance(reply, Exception) else Appended(LeaseStatus(reply[0].decode()), reply[1])
            for reply in replies
        ]

    @translated
    def renew(self, leases: Sequence[Lease], lease_ms: int) -> list[LeaseStatus]:
        replies = self._scripts.renew([(self._keys(lease.run_id), lease) for lease in leases], lease_ms)
        return [LeaseStatus(reply.decode()) for reply in replies]

    @translated
    def release(self, lease: Lease, *, untouched: bool = False, failed: bool = False, until: int | None = None) -> None:
        self._scripts.release(self._keys(lease.run_id), lease, untouched=untouched, failed=failed, until=until)

    @translated
    def resolution(self, run_id: str, *, decision_id: str | None, tool_call_id: str | None) -> StoredResolution | None:
        key = self._keys(run_id).resolutions
        if decision_id is None:
            found = cast(bytes | None, self._client.hget(key, f"t:{tool_call_id}"))
            if found is None:
                return None
            decision_id = found.decode()
        stored = cast(bytes | None, self._client.hget(key, f"d:{decision_id}"))
        return None if stored is None else decode_resolution(decision_id, self._bodies.decrypt(stored, run_id))

    @translated
    def resolutions(self, run_id: str) -> list[StoredResolution]:
        fields = cast(dict[bytes, bytes], self._client.hgetall(self._keys(run_id).resolutions))
        found = [
            decode_resolution(key[2:].decode(), self._bodies.decrypt(value, run_id))
            for key, value in fields.items()
            if key.startswith(b"d:")
        ]
        return sorted(found, key=lambda each: each.seq)

    @translated
    def shown_items(self, answers: Sequence[tuple[str, str]]) -> list[PendingItem | None]:
        pipe = self._client.pipeline(transaction=False)
        for run_id, decision_id in answers:
            pipe.hget(self._keys(run_id).resolutions, f"d:{decision_id}")
        return [
            None if stored is None else decode_resolution(decision_id, self._bodies.decrypt(stored, run_id)).item
            for stored, (run_id, decision_id) in zip(pipe.execute(), answers, strict=True)
        ]

    @translated
    def receipt(self, run_id: str, name: str) -> Receipt | None:
        stored = cast(bytes | None, self._client.hget(self._keys(run_id).resolutions, f"i:{name}"))
        return None if stored is None else decode_receipt(name, self._bodies.decrypt(stored, run_id))

    @translated
    def events(self, run_id: str, after: int, limit: int, *, size: int | None = None) -> EventPage:
        head, seq, events = read_page(self._scripts, self._keys(run_id), after, limit, size)
        status, last, first = _found(head, run_id)
        if not events:
            self._check_readable(run_id)
        return EventPage(
            events=decrypted(seq, events, self._bodies, run_id),
            first_seq=int(first[0][0].partition(b"-")[0]) if first else int(last) + 1,
            last_seq=int(last),
            status=status.decode(),
        )

    def subscribe(self, run_id: str, *, stops_only: bool = False) -> Subscription:
        keys = self._keys(run_id)
        return self._hub.subscribe(keys.run if stops_only else keys.events)

    @translated
    def delete(self, run_id: str) -> None:
        try:
            self._check_readable(run_id)
            reply = _found(self._scripts.delete(self._keys(run_id), self._retention_ms), run_id)
        except RunNotFoundError:
            self.unlist(run_id)  # whoever deleted it may not have come to that
            raise
        if reply == b"running":
            raise RunNotTerminalError
        self.unlist(run_id)

    @translated
    def forbid(self, run_id: str) -> bool:
        return bool(self._scripts.forbid(self._keys(run_id), self._retention_ms) == b"ok")

    @translated
    def was_deleted(self, run_id: str) -> bool:
        return bool(self._client.exists(self._keys(run_id).deleted))

    # -- its outbox

    @translated
    def outbox(self, run_id: str) -> list[OutboxEntry]:
        stored = cast(dict[bytes, bytes], self._client.hgetall(self._keys(run_id).outbox))
        return [self._entry(run_id, entry_id.decode(), stored[entry_id]) for entry_id in sorted(stored)]

    @translated
    def take_entry(self, run_id: str, entry_id: str, hold_ms: int) -> OutboxEntry | None:
        reply = self._scripts.take_entry(self._keys(run_id), entry_id, hold_ms)
        return None if reply == b"no" else self._entry(run_id, entry_id, reply)

    @translated
    def postpone_entry(self, run_id: str, entry: OutboxEntry, at: int) -> bool:
        return bool(self._scripts.postpone_entry(self._keys(run_id), entry.id, entry.tries, at) == b"ok")

    @translated
    def remove_entries(self, run_id: str, entry_ids: Sequence[str]) -> None:
        self._scripts.remove_entries(self._keys(run_id), entry_ids)

    def _entry(self, run_id: str, entry_id: str, stored: bytes) -> OutboxEntry:
        return decode_entry(entry_id, self._bodies.decrypt(stored, run_id))

    def _outcome(self, reply: Any, run_id: str) -> Commit | Conflict:
        reply = _found(reply, run_id)
        if reply == b"lost":
            raise LeaseLostError
        if reply[0] == b"state":
            return Conflict(self._state(reply[1], run_id))
        version, before, last = (int(value) for value in reply[:3])
        return Commit(version, before + 1, last)

    def _state(self, reply: Any, run_id: str) -> RunState:
        """Read a run's state, but for its messages."""
        now, fields, _, queued = reply
        return decode_state(
            self._clock.observe(int(now)),
            self._pairs(fields, run_id),
            None if queued is None else [self._bodies.decrypt(message, run_id) for message in queued],
        )

    def _state_or_error(self, reply: Any, run_id: str) -> RunState | UnreadableRunError:
        try:
            return self._state(reply, run_id)
        except UnreadableRunError as error:
            return error

    def _pairs(self, fields: Sequence[bytes], run_id: str) -> dict[bytes, bytes]:
        """Read the fields of a run's hash, decrypted."""
        values = (self._bodies.decrypt(value, run_id) for value in fields[1::2])
        return dict(zip(fields[::2], values, strict=True))

    # -- across runs

    @translated
    def _server_ms(self) -> int:
        seconds, microseconds = self._client.time()  # of a cluster, one of its nodes
        return int(seconds) * 1000 + int(microseconds) // 1000

    def now(self) -> int:
        return self._clock.now()

    @translated
    def refuse(self, recipient: str) -> None:
        self._client.hset(self._refused, recipient, str(self.now()))

    @translated
    def is_refused(self, recipient: str) -> bool:
        return bool(self._client.hexists(self._refused, recipient))

    @translated
    def remember(self, key: str, digest: str, run_id: str) -> tuple[str, str]:
        name = f"{self._prefix}idem:{key}"
        # The digest would show what a small request was.
        mine = b"%b %b" % (self._bodies.encrypt(digest.encode()), run_id.encode())
        theirs = cast(bytes | None, self._client.set(name, mine, nx=True, get=True, px=self._retention_ms))
        return self._bound(theirs or mine)

    @translated
    def remembered(self, key: str) -> tuple[str, str] | None:
        stored = cast(bytes | None, self._client.get(f"{self._prefix}idem:{key}"))
        return None if stored is None else self._bound(stored)

    def _bound(self, stored: bytes) -> tuple[str, str]:
        """Read the digest and the run id that an idempotency key is bound to."""
        digest, _, run_id = stored.partition(b" ")
        return self._bodies.decrypt(digest, run_id.decode()).decode(), run_id.decode()

    @translated
    def index(
        self,
        run_id: str,
        owner: str | None = None,
        *,
        agent: str | None = None,
        status: StatusList | None = None,
    ) -> None:
        pipe = self._client.pipeline(transaction=False)
        pipe.hset(self._listed, run_id, encode((owner, agent)))
        for name in lists_of(owner, agent, status):
            pipe.zadd(f"{self._runs}{name}", {run_id: 0})
        pipe.zcard(self._runs)
        if pipe.execute()[-1] == 1:  # the first run of all: there is none that an older version made
            self.set_has_lists()
            self.set_has_items()

    @translated
    def unindex(self, run_id: str, statuses: Collection[StatusList], owner: str | None = None) -> None:
        pipe = self._client.pipeline(transaction=False)
        for status in statuses:
            for of in {None, owner}:
                pipe.zrem(f"{self._runs}{list_name(of, None, status)}", run_id)
        pipe.execute()

    @translated
    def unlist(self, run_id: str) -> None:
        pipe = self._client.pipeline(transaction=False)
        pipe.hget(self._listed, run_id)
        pipe.exists(self._keys(run_id).outbox)
        listed, has_entries = pipe.execute()
        owner, agent = decode(listed, tuple[str | None, str | None]) if listed else (None, None)
        names = {name for status in STATUS_LISTS for name in lists_of(owner, agent, status)}
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.zrem(f"{self._runs}{name}", run_id)
        pipe.hdel(self._listed, run_id)
        if not has_entries:
            pipe.zrem(self._due_part(run_id), run_id)
        pipe.execute()
        self.unlist_items(self.items_of(run_id))

    @translated
    def listing(
        self,
        before: str | None,
        limit: int,
        owner: str | None = None,
        *,
        agent: str | None = None,
        status: StatusList | None = None,
    ) -> list[str]:
        newest = f"({before}" if before else "+"
        name = f"{self._runs}{list_name(owner, agent, status)}"
        ids = cast(list[bytes], self._client.zrevrangebylex(name, newest, "-", 0, limit))
        return [run_id.decode() for run_id in ids]

    @translated
    def has_lists(self) -> bool:
        return bool(self._client.hexists(self._listed, ""))

    @translated
    def set_has_lists(self) -> None:
        self._client.hset(self._listed, "", "")

    @translated
    def loads(self, run_ids: Sequence[str]) -> list[RunState | UnreadableRunError | None]:
        replies = self._scripts.load_many([self._keys(run_id) for run_id in run_ids])
        return [
            None if reply == b"missing" else self._state_or_error(reply, run_id)
            for reply, run_id in zip(replies, run_ids, strict=True)
        ]

    # -- the store itself

    @translated
    def mark_served(self, queue: str, ttl_ms: int) -> None:
        self._client.set(f"{self._prefix}served:{queue}", "", px=ttl_ms)

    @translated
    def served(self, queues: Sequence[str]) -> list[str]:
        return [queue for queue in queues if self._client.exists(f"{self._prefix}served:{queue}")]

    @translated
    def begin_probe(self, queue: str, ttl_ms: int) -> bool:
        return bool(self._client.set(f"{self._prefix}probing:{queue}", "", nx=True, px=ttl_ms))

    @translated
    def count_ended(self) -> int:
        pipe = self._client.pipeline(transaction=False)
        for status in ENDED_LISTS:
            pipe.zcard(f"{self._runs}{list_name(None, None, status)}")
        return sum(pipe.execute())

    def close(self) -> None:
        self._hub.close()
        self._client.close()


def _messages_of(reply: Any) -> list[bytes]:
    """Return the messages that came along with a step that was lent."""
    messages: list[bytes] = reply[3][2]
    return messages


def _with_messages(claim: Claim, messages: MessageList) -> Claim:
    """Add the run's first messages, all that there are where a model step was claimed."""
    if claim.call is not None:
        return replace(claim, messages=messages)
    return replace(claim, messages=messages, state=replace(claim.state, messages=messages))


def _found(reply: Any, run_id: str) -> Any:
    """Raise for what every script may answer: the run is not there, or its record is a newer one."""
    if reply == b"missing":
        raise RunNotFoundError(f"there is no run {run_id}")
    if reply == b"newer":
        raise UnsupportedSchemaVersionError
    if reply == b"encrypted":
        raise no_codec(run_id)
    return reply
