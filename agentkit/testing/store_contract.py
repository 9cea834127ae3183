"""What every store must do: the promises of agentkit/store/protocol.py, one test each.

Inherit from `StoreContract` and override `make_store` (a fixture) and `ttls`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from agentkit.core.calls import Extension, ItemAnswer, OtherCalls, Rejection
from agentkit.core.events import MessageEnd, TurnEnd, Vote, stored_at
from agentkit.core.ids import new_id, now_ms
from agentkit.core.messages import Json, QueuedMessage, TextBlock, UserMessage
from agentkit.core.record import (
    SCHEMA_VERSION,
    AbortRequest,
    Change,
    Lease,
    Receipt,
    Resolution,
    RunState,
    Status,
    Step,
)
from agentkit.core.struct import decode, to_json
from agentkit.errors import (
    LeaseLostError,
    RunNotFoundError,
    RunNotTerminalError,
    UnsupportedSchemaVersionError,
)
from agentkit.store.encoding import SMALL_QUEUE_BYTES
from agentkit.store.protocol import Append, Appended, Commit, Conflict, LeaseStatus, Store
from agentkit.testing.store_audit_contract import AuditContract
from agentkit.testing.store_changes import (
    LEASE_MS,
    TIMESTAMP,
    MakeStore,
    append,
    calls_of,
    claimed,
    committed,
    ended,
    event,
    first_change,
    log_of,
    new_run,
    result_of,
    snapshot,
    step_done,
    types_of,
    wait_for,
)
from agentkit.testing.store_index_contract import IndexContract
from agentkit.testing.store_lease_contract import LeaseContract
from agentkit.testing.store_metrics_contract import MetricsContract
from agentkit.testing.store_outbox_contract import OutboxContract
from agentkit.testing.store_part_contract import PartContract
from agentkit.testing.store_shares_contract import SharesContract

__all__ = ["MakeStore", "StoreContract"]


HURRY = QueuedMessage("hurry ☃", "steer")
LATER = QueuedMessage([TextBlock("later")], "followUp", "ann")


def queue(store: Store, run_id: str, message: QueuedMessage) -> Commit:
    """Send a message into a run."""
    state = store.load(run_id)
    record = state.record.with_queued([*(state.record.queued or ()), message])
    return committed(store, Change(record, state.record), state.version)


class StoreContract(
    AuditContract, IndexContract, LeaseContract, MetricsContract, OutboxContract, PartContract, SharesContract
):
    """Override `make_store` and `ttls`."""

    @pytest.fixture
    def make_store(self) -> MakeStore:
        raise NotImplementedError

    @pytest.fixture
    def store(self, make_store: MakeStore) -> Store:
        return make_store()

    def ttls(self, store: Store, run_id: str) -> list[int | None]:
        """The time to live (ms) of every key that the store has for a run; None for one without."""
        raise NotImplementedError

    # -- create, load ------------------------------------------------------------------------------

    def test_a_call_made_again_under_its_name_answers_as_the_first_time(self, store: Store) -> None:
        change = first_change("named")
        assert store.create(change, request_id="a")
        assert store.create(change, request_id="a")
        assert not store.create(change, request_id="b")
        claim, again = (store.claim("named", 1, LEASE_MS, request_id="c") for _ in range(2))
        assert claim is not None
        assert again is not None
        assert claim.lease == again.lease
        assert store.claim("named", 1, LEASE_MS, request_id="d") is None
        done = step_done(claim)
        assert len({store.commit(done, claim.state.version, claim.lease, request_id="e") for _ in range(2)}) == 1
        with pytest.raises(LeaseLostError):
            store.commit(done, claim.state.version, claim.lease, request_id="f")

    def test_a_commit_made_again_is_known_though_others_came_between(self, store: Store) -> None:
        run_id = new_run(store)
        state = store.load(run_id)
        first = committed(
            store, Change(state.record, state.record, events=(event("one"),)), state.version, request_id="a"
        )
        store.commit(Change(state.record, state.record, events=(event("two"),)), first.version, request_id="b")
        assert (
            store.commit(Change(state.record, state.record, events=(event("one"),)), state.version, request_id="a")
            == first
        )
        assert types_of(store, run_id)[-2:] == ["one", "two"]

    def test_a_created_run_reads_back_as_it_was_made(self, store: Store) -> None:
        run_id = new_id()
        change = first_change(run_id)
        assert store.create(change)
        state, messages = store.messages(run_id)
        assert state.record == change.record
        assert messages == to_json(list(change.messages))
        assert (state.last_seq, state.claimed, dict(state.live)) == (2, frozenset(), {})
        assert types_of(store, run_id) == ["agent_start", "hello"]

    def test_creating_a_run_twice_changes_nothing(self, store: Store) -> None:
        run_id = new_run(store)
        before = snapshot(store, run_id)
        assert not store.create(first_change(run_id))
        assert snapshot(store, run_id) == before

    def test_load_carries_no_messages(self, store: Store) -> None:
        run_id = new_run(store)
        claim = claimed(store, run_id)
        store.commit(step_done(claim), claim.state.version, claim.lease)
        assert store.load(run_id).messages == ()
        assert len(store.messages(run_id)[1]) == 2

    def test_messages_are_read_piece_by_piece(self, store: Store) -> None:
        run_id = new_run(store)
        claim = claimed(store, run_id)
        more = tuple(UserMessage("x" * size, TIMESTAMP) for size in (100, 900, 1000, *[20] * 50, 3000))
        committed(store, replace(step_done(claim), messages=more), claim.state.version, claim.lease)
        whole = store.messages_from(run_id, 0, 1_000_000)
        assert [decode(message, Json) for message in whole] == store.messages(run_id)[1]
        assert store.messages_from(run_id, len(whole), 1_000_000) == []
        pieces: list[list[bytes]] = []
        while piece := store.messages_from(run_id, sum(map(len, pieces)), 2400):
            pieces.append(piece)
        assert [message for piece in pieces for message in piece] == whole
        assert all(len(piece) == 1 or sum(map(len, piece)) <= 2400 for piece in pieces)
        assert max(map(len, pieces)) > 4
        assert store.messages_from(run_id, 0, 1) == whole[:1]

    def test_every_event_has_its_seq_and_a_timestamp(self, store: Store) -> None:
        began = now_ms()
        entry = log_of(store, new_run(store))[1]
        assert list(entry)[:3] == ["seq", "timestamp", "type"]
        assert entry["seq"] == 2
        assert began - 5 <= entry["timestamp"] <= now_ms() + 5
        assert entry["text"] == 'a "quoted"\nline, ☃'

    def test_a_run_that_is_not_there_is_said_to_be_missing(self, store: Store) -> None:
        absent, lease = new_id(), Lease(new_id(), 1, 1, 1)
        asks: list[Callable[[], Any]] = [
            lambda: store.load(absent),
            lambda: store.messages(absent),
            lambda: store.messages_from(absent, 0, 10),
            lambda: store.claim(absent, 1, LEASE_MS),
            lambda: store.events(absent, 0, 10),
            lambda: store.delete(absent),
            lambda: store.commit(first_change(absent), 1),
        ]
        for ask in asks:
            with pytest.raises(RunNotFoundError):
                ask()
        with pytest.raises((LeaseLostError, RunNotFoundError)):
            append(store, lease, [event("x")], 1)
        store.release(lease)
        assert store.renew([lease], LEASE_MS) == [LeaseStatus.LOST]
        assert store.loads([absent]) == [None]

    # -- append ------------------------------------------------------------------------------------

    def test_appended_events_follow_without_a_gap(self, store: Store) -> None:
        run_id = new_run(store)
        lease = claimed(store, run_id).lease
        assert append(store, lease, [event("x", n=1), event("x", n=2)], 1) is LeaseStatus.HELD
        append(store, lease, [event("x", n=3)], 2)
        log = log_of(store, run_id)
        assert [e["seq"] for e in log] == list(range(1, 8))
        assert [e["n"] for e in log[4:]] == [1, 2, 3]

    def test_appends_to_many_runs_come_to_each_what_they_are(self, store: Store) -> None:
        runs = [new_run(store) for _ in range(70)]
        claims = [claimed(store, run_id, lease_ms=0 if run_id == runs[3] else LEASE_MS) for run_id in runs]
        claimed(store, runs[3])
        before = snapshot(store, runs[3])
        events = [[event("x", n=n, run=place) for n in range(place % 3 + 1)] for place in range(len(runs))]
        outcomes = store.append([Append(c.lease, e, 1) for c, e in zip(claims, events, strict=True)])
        lost = [place for place, outcome in enumerate(outcomes) if outcome != Appended(LeaseStatus.HELD)]
        assert (lost, outcomes[3]) == ([3], Appended(LeaseStatus.LOST))
        assert snapshot(store, runs[3]) == before
        for place in (0, 1, 2, 4, 63, 64, 69):
            log = [(e["run"], e["n"]) for e in log_of(store, runs[place]) if e["type"] == "x"]
            assert log == [(place, n) for n in range(place % 3 + 1)]

    def test_a_repeated_flush_number_changes_nothing(self, store: Store) -> None:
        run_id = new_run(store)
        lease = claimed(store, run_id).lease
        append(store, lease, [event("x")], 1)
        before = snapshot(store, run_id)
        assert append(store, lease, [event("x")], 1) is LeaseStatus.HELD
        assert snapshot(store, run_id) == before

    def test_a_new_attempt_counts_its_flushes_anew(self, store: Store) -> None:
        run_id = new_run(store)
        append(store, claimed(store, run_id, lease_ms=0).lease, [event("x", n=1)], 1)
        append(store, claimed(store, run_id).lease, [event("x", n=2)], 1)
        assert [e["n"] for e in log_of(store, run_id) if e["type"] == "x"] == [1, 2]

    def test_a_stale_token_writes_nothing(self, store: Store) -> None:
        run_id = new_run(store)
        stale = claimed(store, run_id, lease_ms=0)
        claimed(store, run_id)
        before = snapshot(store, run_id)
        with pytest.raises(LeaseLostError):
            append(store, stale.lease, [event("x")], 1)
        with pytest.raises(LeaseLostError):
            store.commit(step_done(stale), before[1], stale.lease)
        assert store.renew([stale.lease], LEASE_MS) == [LeaseStatus.LOST]
        store.release(stale.lease)
        assert snapshot(store, run_id) == before

    def test_a_done_steps_token_writes_nothing(self, store: Store) -> None:
        run_id = new_run(store)
        claim = claimed(store, run_id)
        done = committed(store, step_done(claim), claim.state.version, claim.lease)
        with pytest.raises(LeaseLostError):
            append(store, claim.lease, [event("x")], 1)
        with pytest.raises(LeaseLostError):
            store.commit(step_done(claim), done.version, claim.lease)
        assert store.load(run_id).last_seq == done.last_seq

    # -- commit ------------------------------------------------------------------------------------

    def test_a_commit_makes_all_of_a_change_true(self, store: Store) -> None:
        run_id = new_run(store)
        claim = claimed(store, run_id)
        change = step_done(claim, opens=(Step(2, "tool", 0),))
        commit = committed(store, change, claim.state.version, claim.lease)
        state, messages = store.messages(run_id)
        assert (commit.first_seq, commit.last_seq, commit.version) == (5, 5, state.version)
        assert state.record == change.record
        assert [m["content"] for m in messages] == ["hallo, Welt ☃", "more"]
        assert types_of(store, run_id)[-1] == "done"
        assert (state.claimed, dict(state.live)) == (frozenset(), {})

    def test_a_change_computed_from_an_older_version_is_refused_whole(self, store: Store) -> None:
        run_id = new_run(store)
        version = store.load(run_id).version
        claim = claimed(store, run_id)
        before = snapshot(store, run_id)
        for lease in (claim.lease, None):
            conflict = store.commit(step_done(claim), version, lease)
            assert isinstance(conflict, Conflict)
            assert (conflict.state.record, conflict.state.version) == before[:2]
        assert snapshot(store, run_id) == before

    def test_a_lost_lease_counts_before_an_older_version(self, store: Store) -> None:
        run_id = new_run(store)
        stale = claimed(store, run_id, lease_ms=0)
        claimed(store, run_id)
        with pytest.raises(LeaseLostError):
            store.commit(step_done(stale), stale.state.version, stale.lease)

    def test_of_two_changes_of_one_version_one_is_made(self, store: Store) -> None:
        run_id = new_run(store)
        state = store.load(run_id)
        change = Change(state.record, state.record, events=(event("x"),))
        store.commit(change, state.version)
        assert isinstance(store.commit(change, state.version), Conflict)
        assert types_of(store, run_id).count("x") == 1

    def test_a_change_of_the_record_without_events_answers_where_they_would_be(self, store: Store) -> None:
        run_id = new_run(store)
        state = store.load(run_id)
        commit = committed(store, Change(structs.replace(state.record, turn=7), state.record), state.version)
        assert (commit.first_seq, commit.last_seq) == (3, 2)
        assert store.load(run_id).record.turn == 7

    def test_much_at_once_is_committed_whole(self, store: Store) -> None:
        run_id = new_run(store)
        claim = claimed(store, run_id)
        events = tuple(event("x", n=n) for n in range(3000))
        store.commit(step_done(claim, events=events), claim.state.version, claim.lease)
        page = store.events(run_id, 4, 5000)
        assert [json.loads(e.data)["n"] for e in page.events] == list(range(3000))

    # -- references to messages --------------------------------------------------------------------

    def test_an_event_that_refers_to_messages_is_read_with_them_in_their_place(self, store: Store) -> None:
        run_id = new_run(store)
        claim = claimed(store, run_id)
        events = (
            MessageEnd(message=stored_at(1)),
            TurnEnd(turn=1, message=stored_at(0), tool_results=[stored_at(0, 2)]),
        )
        store.commit(step_done(claim, events=events), claim.state.version, claim.lease)
        _, messages = store.messages(run_id)
        end, turn_end = log_of(store, run_id)[-2:]
        assert end["message"] == messages[1]
        assert (turn_end["message"], turn_end["toolResults"]) == (messages[0], messages)

    def test_text_that_looks_like_a_reference_is_text(self, store: Store) -> None:
        run_id = new_run(store)
        lease = claimed(store, run_id).lease
        append(store, lease, [event("x", text="\x010 1\x01")], 1)
        assert log_of(store, run_id)[-1]["text"] == "\x010 1\x01"

    # -- the end of a call beside others -----------------------------------------------------------

    def test_calls_that_end_side_by_side_refuse_one_another_nothing(self, store: Store) -> None:
        run_id, claims = calls_of(store, 3)
        done = [store.commit_call(claim.lease, n, result_of(n)) for n, claim in reversed(list(enumerate(claims[:2])))]
        assert all(isinstance(each, Commit) for each in done)
        state = store.load(run_id)
        assert [call.state for call in state.record.calls] == ["done", "done", "ready"]
        assert ([step.number for step in state.record.steps], state.record.flushed, state.record.messages) == (
            [4],
            2,
            4,
        )
        _, messages = store.messages(run_id)
        assert messages[2:] == to_json([result_of(0), result_of(1)])

    def test_a_result_becomes_a_message_when_all_calls_before_it_have_theirs(self, store: Store) -> None:
        run_id, claims = calls_of(store, 3)
        store.commit_call(claims[1].lease, 1, result_of(1), [event("end", n=1)])
        state = store.load(run_id)
        assert (state.record.flushed, state.record.messages, state.record.calls[1].result) == (0, 2, result_of(1))
        store.commit_call(claims[0].lease, 0, result_of(0), [event("end", n=0)])
        assert store.load(run_id).record.calls[1].result is None
        assert [
            (e["type"], e.get("n", e.get("message", {}).get("toolCallId"))) for e in log_of(store, run_id)[-6:]
        ] == [
            ("end", 1),
            ("end", 0),
            ("message_start", "c0"),
            ("message_end", "c0"),
            ("message_start", "c1"),
            ("message_end", "c1"),
        ]

    def test_the_last_call_to_end_gets_the_whole_state_and_changes_nothing(self, store: Store) -> None:
        run_id, claims = calls_of(store, 2)
        store.commit_call(claims[0].lease, 0, result_of(0))
        before = snapshot(store, run_id)
        last = store.commit_call(claims[1].lease, 1, result_of(1))
        assert isinstance(last, Conflict)
        assert (last.state.record, last.state.version) == before[:2]
        assert [call.state for call in last.state.record.calls] == ["done", "ready"]
        assert snapshot(store, run_id) == before

    def test_a_call_of_a_run_that_is_to_be_aborted_gets_the_whole_state(self, store: Store) -> None:
        run_id, claims = calls_of(store, 2)
        assert store.request_abort(run_id, AbortRequest("enough"), store.load(run_id).version)
        last = store.commit_call(claims[0].lease, 0, result_of(0))
        assert isinstance(last, Conflict)
        assert last.state.record.abort == AbortRequest("enough")

    def test_one_of_many_calls_is_claimed_without_the_others(self, store: Store) -> None:
        _, claims = calls_of(store, 3)
        for n, claim in enumerate(claims):
            assert claim.call is not None
            record = claim.state.record
            assert (claim.call.id, claim.complete, record.calls, record.first_call) == (
                f"c{n}",
                False,
                (claim.call,),
                n,
            )
            assert ([step.number for step in record.steps], record.others) == (
                [claim.lease.step],
                OtherCalls(count=2, steps=2, waiting=0, working=0),
            )

    def test_a_call_that_is_alone_is_claimed_with_the_whole_state(self, store: Store) -> None:
        _, [claim] = calls_of(store, 1)
        assert claim.call is not None
        assert (claim.call.id, claim.complete, len(claim.state.record.calls)) == ("c0", True, 1)

    def test_a_calls_end_that_is_sent_twice_is_done_once(self, store: Store) -> None:
        run_id, claims = calls_of(store, 2)
        first = store.commit_call(claims[0].lease, 0, result_of(0), [event("end")], request_id="a")
        assert store.commit_call(claims[0].lease, 0, result_of(0), [event("end")], request_id="a") == first
        assert types_of(store, run_id).count("end") == 1
        with pytest.raises(LeaseLostError):
            store.commit_call(claims[0].lease, 0, result_of(0), request_id="b")

    def test_a_stale_token_ends_no_call(self, store: Store) -> None:
        run_id, claims = calls_of(store, 2, lease_ms=0)
        claimed(store, run_id, 2)
        before = snapshot(store, run_id)
        with pytest.raises(LeaseLostError):
            store.commit_call(claims[0].lease, 0, result_of(0))
        assert snapshot(store, run_id) == before

    # -- abort -------------------------------------------------------------------------------------

    def test_the_holder_of_a_step_learns_of_an_abort_by_whatever_it_writes(self, store: Store) -> None:
        run_id = new_run(store)
        claim = claimed(store, run_id)
        assert store.renew([claim.lease], LEASE_MS) == [LeaseStatus.HELD]
        assert store.request_abort(run_id, AbortRequest("enough"), claim.state.version)
        assert append(store, claim.lease, [event("x")], 1) is LeaseStatus.ABORT
        assert store.renew([claim.lease], LEASE_MS) == [LeaseStatus.ABORT]
        conflict = store.commit(step_done(claim), claim.state.version, claim.lease)
        assert isinstance(conflict, Conflict)
        assert conflict.state.record.abort == store.load(run_id).record.abort == AbortRequest("enough")

    def test_an_abort_asked_of_another_version_is_not_noted(self, store: Store) -> None:
        run_id = new_run(store)
        version = store.load(run_id).version
        claimed(store, run_id)
        assert not store.request_abort(run_id, AbortRequest(), version)
        assert store.load(run_id).record.abort is None

    # -- resolutions -------------------------------------------------------------------------------

    def test_a_resolution_is_found_by_its_item_or_its_call_with_the_seq_of_its_event(self, store: Store) -> None:
        run_id = new_run(store)
        state = store.load(run_id)
        change = Change(
            state.record,
            state.record,
            events=(event("x"), event("tool_decision_resolved"), event("tool_decision_resolved")),
            resolutions=(
                Resolution("d1", "t1", "decided", ItemAnswer(decision={"ü": [1, None]}), 1),
                Resolution("d2", "t2", "expired", None, 2),
            ),
        )
        store.commit(change, state.version)
        found = store.resolution(run_id, decision_id="d1", tool_call_id=None)
        assert found is not None
        assert (found.tool_call_id, found.outcome, found.answer, found.seq) == (
            "t1", "decided", ItemAnswer(decision={"ü": [1, None]}), 4,
        )  # fmt: skip
        assert store.resolution(run_id, decision_id=None, tool_call_id="t1") == found
        second = store.resolution(run_id, decision_id=None, tool_call_id="t2")
        assert second is not None
        assert (second.decision_id, second.outcome, second.answer, second.seq) == ("d2", "expired", None, 5)
        assert store.resolution(run_id, decision_id="d3", tool_call_id=None) is None
        assert store.resolution(run_id, decision_id=None, tool_call_id="t3") is None

    def test_of_a_call_answered_twice_the_last_resolution_is_found(self, store: Store) -> None:
        run_id = new_run(store)
        for decision in ("d1", "d2"):
            state = store.load(run_id)
            resolution = Resolution(decision, "t1", "decided", ItemAnswer(decision=decision), 0)
            store.commit(
                Change(state.record, state.record, events=(event("x"),), resolutions=(resolution,)), state.version
            )
        last = store.resolution(run_id, decision_id=None, tool_call_id="t1")
        first = store.resolution(run_id, decision_id="d1", tool_call_id="t1")
        assert last is not None
        assert first is not None
        assert (last.decision_id, first.decision_id) == ("d2", "d1")

    def test_all_resolutions_of_a_run_are_listed_in_the_order_of_their_events(self, store: Store) -> None:
        run_id = new_run(store)
        assert store.resolutions(run_id) == []
        for decision, who in (("d2", "ann"), ("d1", None)):
            state = store.load(run_id)
            resolution = Resolution(decision, "t1", "decided", ItemAnswer(decision=decision), 0, TIMESTAMP, who)
            store.commit(
                Change(state.record, state.record, events=(event("x"),), resolutions=(resolution,)), state.version
            )
        listed = store.resolutions(run_id)
        assert [(r.decision_id, r.decided_at, r.decided_by) for r in listed] == [
            ("d2", TIMESTAMP, "ann"),
            ("d1", TIMESTAMP, None),
        ]
        assert listed == [store.resolution(run_id, decision_id=d, tool_call_id=None) for d in ("d2", "d1")]
        assert store.resolutions(new_id()) == []

    def test_a_resolution_comes_back_as_it_was_given(self, store: Store) -> None:
        run_id = new_run(store)
        state = store.load(run_id)
        resolution = Resolution(
            "d",
            "t",
            "rejected",
            ItemAnswer(reject=Rejection("no")),
            0,
            decided_at=TIMESTAMP,
            decided_by="bob",
            extensions=(Extension(60, TIMESTAMP, "ann"),),
            votes=(Vote("ann", TIMESTAMP), Vote("bob", TIMESTAMP + 1)),
            remembered=True,
        )
        store.commit(Change(state.record, state.record, events=(event("x"),), resolutions=(resolution,)), state.version)
        stored = store.resolution(run_id, decision_id="d", tool_call_id=None)
        assert stored is not None
        for name in ("answer", "decided_at", "decided_by", "extensions", "votes", "remembered"):
            assert getattr(stored, name) == getattr(resolution, name), name

    # -- receipts of calls with an idempotency key -----------------------------------------------

    def test_a_receipt_is_kept_with_the_change_and_says_where_its_events_begin(self, store: Store) -> None:
        run_id = new_run(store)
        state = store.load(run_id)
        assert store.receipt(run_id, "n") is None
        change = Change(state.record, state.record, events=(event("x"),), receipt=Receipt("n", "digest"))
        commit = committed(store, change, state.version)
        assert store.receipt(run_id, "n") == Receipt("n", "digest", commit.first_seq - 1)
        state = store.load(run_id)
        forwarded = Receipt("m", "", 7, "a child", "an item")
        committed(store, Change(state.record, state.record, receipt=forwarded), state.version)
        assert store.receipt(run_id, "m") == forwarded
        assert store.receipt(run_id, "n") is not None
        assert store.receipt(run_id, "o") is None
        assert store.receipt(new_id(), "n") is None
        assert store.resolutions(run_id) == []

    def test_a_change_that_is_refused_leaves_no_receipt(self, store: Store) -> None:
        run_id = new_run(store)
        state = store.load(run_id)
        change = Change(state.record, state.record, receipt=Receipt("n", "digest"))
        assert isinstance(store.commit(change, state.version + 1), Conflict)
        assert store.receipt(run_id, "n") is None

    def test_receipts_go_with_their_run(self, make_store: MakeStore) -> None:
        store = make_store(retention_seconds=100)
        run_id = new_run(store)
        claim = claimed(store, run_id)
        ends = replace(step_done(claim, status=Status.COMPLETED, ended_at=now_ms()), receipt=Receipt("n", "digest"))
        committed(store, ends, claim.state.version, claim.lease)
        assert store.receipt(run_id, "n") is not None
        assert all(ttl is not None and 90_000 < ttl <= 100_000 for ttl in self.ttls(store, run_id))
        store.delete(run_id)
        assert store.receipt(run_id, "n") is None

    # -- queued messages ---------------------------------------------------------------------------

    def test_messages_are_queued_after_those_that_wait_and_read_in_that_order(self, store: Store) -> None:
        run_id = new_run(store)
        for message in (HURRY, LATER, HURRY):
            queue(store, run_id, message)
        wanted = (HURRY, LATER, HURRY)
        assert store.load(run_id).record.queued == store.messages(run_id)[0].record.queued == wanted
        assert claimed(store, run_id).state.record.queued == wanted

    def test_what_a_commit_takes_from_the_queue_is_gone_and_nothing_else(self, store: Store) -> None:
        run_id = new_run(store)
        for text in "abcdef":
            queue(store, run_id, QueuedMessage(text, "followUp"))
        state = store.load(run_id)
        left = [each for each in state.record.queued or () if each.message in ("b", "c", "e")]
        new = QueuedMessage("g", "steer", "ann")
        committed(store, Change(state.record.with_queued([*left, new]), state.record), state.version)
        assert store.load(run_id).record.queued == (*left, new)
        assert [each.message for each in left] == ["b", "c", "e"]

    def test_what_is_queued_between_is_kept_for_it_refuses_the_change(self, store: Store) -> None:
        run_id = new_run(store)
        queue(store, run_id, HURRY)
        claim = claimed(store, run_id)
        queue(store, run_id, LATER)
        done = step_done(claim)
        taking = replace(done, record=done.record.with_queued([]))
        conflict = store.commit(taking, claim.state.version, claim.lease)
        assert isinstance(conflict, Conflict)
        assert conflict.state.record.queued == (HURRY, LATER)
        assert store.load(run_id).record.queued == (HURRY, LATER)

    def test_a_queue_that_is_written_twice_under_one_name_is_written_once(self, store: Store) -> None:
        run_id = new_run(store)
        state = store.load(run_id)
        change = Change(state.record.with_queued([HURRY]), state.record)
        assert len({store.commit(change, state.version, request_id="a") for _ in range(2)}) == 1
        state = store.load(run_id)
        change = Change(state.record.with_queued([LATER]), state.record)
        assert len({store.commit(change, state.version, request_id="b") for _ in range(2)}) == 1
        assert store.load(run_id).record.queued == (LATER,)

    def test_neither_a_listing_nor_one_of_many_calls_reads_what_is_queued(self, store: Store) -> None:
        run_id, _ = calls_of(store, 2, lease_ms=0)
        queue(store, run_id, HURRY)
        [listed] = store.loads([run_id])
        assert isinstance(listed, RunState)
        assert listed.record.queued is None
        claim = claimed(store, run_id, 2)
        assert claim.state.record.queued is None
        assert isinstance(store.commit_call(claim.lease, 0, result_of(0)), Commit)
        last = claimed(store, run_id, 3)
        assert last.state.record.queued == (HURRY,)
        whole = store.commit_call(last.lease, 1, result_of(1))
        assert isinstance(whole, Conflict)
        assert whole.state.record.queued == (HURRY,)

    def test_much_that_is_queued_is_read_by_load_alone(self, store: Store) -> None:
        run_id = new_run(store)
        much = QueuedMessage("x" * (SMALL_QUEUE_BYTES // 2), "followUp")
        queue(store, run_id, much)
        assert claimed(store, run_id, lease_ms=0).state.record.queued == (much,), "it is little"
        queue(store, run_id, much)
        claim = claimed(store, run_id)
        assert claim.state.record.queued is None
        assert (claim.state.record.queued_steers, claim.state.record.queued_follow_ups) == (0, 2)
        conflict = store.commit(step_done(claim), claim.state.version - 1, claim.lease)
        assert isinstance(conflict, Conflict)
        assert conflict.state.record.queued is None
        committed(store, step_done(claim), claim.state.version, claim.lease)
        state = store.load(run_id)
        assert state.record.queued == store.messages(run_id)[0].record.queued == (much, much), "it was left alone"
        committed(store, Change(state.record.with_queued([much]), state.record), state.version)
        refused = store.commit(Change(state.record, state.record), state.version)
        assert isinstance(refused, Conflict)
        assert refused.state.record.queued == (much,), "it is little again"

    def test_a_record_that_had_its_queue_in_its_state_gets_it_beside_it(self, store: Store) -> None:
        """As those up to schemaVersion 2 are read."""
        run_id = new_run(store)
        state = store.load(run_id)
        old = structs.replace(state.record.with_queued([HURRY, LATER]), schema_version=2)
        committed(store, Change(structs.replace(old, turn=2), old), state.version)
        record = store.load(run_id).record
        assert (record.schema_version, record.turn, record.queued) == (SCHEMA_VERSION, 2, (HURRY, LATER))

    def test_what_was_queued_goes_with_its_run(self, store: Store) -> None:
        run_id = new_run(store)
        queue(store, run_id, HURRY)
        assert set(self.ttls(store, run_id)) == {None}, "what has not ended must not expire"
        claim = claimed(store, run_id)
        done = step_done(claim, status=Status.COMPLETED, ended_at=now_ms())
        committed(store, replace(done, record=done.record.with_queued([])), claim.state.version, claim.lease)
        assert store.load(run_id).record.queued == ()
        assert None not in self.ttls(store, run_id)
        store.delete(run_id)
        assert len(self.ttls(store, run_id)) <= 1, "a mark"

    # -- the end -----------------------------------------------------------------------------------

    def test_an_ended_runs_keys_have_a_time_to_live_and_no_others_have(self, make_store: MakeStore) -> None:
        store = make_store(retention_seconds=100)
        live = new_run(store)
        claim = claimed(store, live)
        resolution = Resolution("d", "t", "decided", None, 0)
        store.commit(step_done(claim, resolutions=(resolution,)), claim.state.version, claim.lease)
        assert self.ttls(store, live)
        assert set(self.ttls(store, live)) == {None}
        ttls = self.ttls(store, ended(store))
        assert ttls
        assert all(ttl is not None and 90_000 < ttl <= 100_000 for ttl in ttls)

    def test_an_ended_run_is_gone_after_its_time(self, make_store: MakeStore) -> None:
        store = make_store(retention_seconds=1)
        run_id = ended(store)
        wait_for(lambda: store.loads([run_id]) == [None], what="the run to expire")
        with pytest.raises(RunNotFoundError):
            store.load(run_id)

    def test_an_ended_run_is_deleted_whole(self, store: Store) -> None:
        run_id = ended(store)
        store.index(run_id)
        store.schedule(run_id, now_ms() - 1)
        store.delete(run_id)
        assert store.listing(None, 10) == []
        assert store.backlog() == (0, 0)
        assert None not in self.ttls(store, run_id)
        assert len(self.ttls(store, run_id)) <= 1, "a mark"
        with pytest.raises(RunNotFoundError):
            store.delete(run_id)

    def test_a_deleted_run_is_not_made_again_by_who_comes_late(self, make_store: MakeStore) -> None:
        store = make_store(retention_seconds=1)
        run_id = ended(store)
        store.delete(run_id)
        late = first_change(run_id)
        assert not store.create(late)
        assert store.loads([run_id]) == [None]
        wait_for(lambda: store.create(late), what="the mark to expire")

    def test_a_run_that_is_forbidden_is_never_made(self, make_store: MakeStore) -> None:
        store = make_store(retention_seconds=1)
        run_id = new_id()
        assert not store.was_deleted(run_id)
        assert store.forbid(run_id)
        assert store.forbid(run_id)
        late = first_change(run_id)
        assert not store.create(late)
        assert store.was_deleted(run_id)
        assert store.loads([run_id]) == [None]
        assert None not in self.ttls(store, run_id)
        wait_for(lambda: store.create(late), what="the mark to expire")
        assert not store.was_deleted(run_id)

    def test_a_run_that_is_there_cannot_be_forbidden(self, store: Store) -> None:
        for run_id in (new_run(store), ended(store)):
            before = snapshot(store, run_id)
            assert not store.forbid(run_id)
            assert not store.was_deleted(run_id)
            assert snapshot(store, run_id) == before
        store.delete(run_id)
        assert store.was_deleted(run_id)

    def test_a_run_that_has_not_ended_is_not_deleted(self, store: Store) -> None:
        run_id = new_run(store)
        before = snapshot(store, run_id)
        with pytest.raises(RunNotTerminalError):
            store.delete(run_id)
        assert snapshot(store, run_id) == before

    # -- versions ----------------------------------------------------------------------------------

    def test_a_newer_record_is_refused_and_left_untouched(self, store: Store) -> None:
        run_id = new_run(store, schema_version=SCHEMA_VERSION + 1)
        asks: list[Callable[[], Any]] = [
            lambda: store.load(run_id),
            lambda: store.messages(run_id),
            lambda: store.events(run_id, 0, 100),
            lambda: store.claim(run_id, 1, LEASE_MS),
            lambda: store.delete(run_id),
        ]
        for ask in (*asks, *asks):
            with pytest.raises(UnsupportedSchemaVersionError):
                ask()
        [listed] = store.loads([run_id])
        assert isinstance(listed, UnsupportedSchemaVersionError)
