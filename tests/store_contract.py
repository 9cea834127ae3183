"""What every store must do: the promises of agentkit/store/base.py, one test each.

Inherit from `StoreContract` and override `make_store` (a fixture) and `ttls`. The changes here are made by
hand, so that the contract does not depend on the loop.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agentkit.errors import (
    LeaseLostError,
    RunNotFoundError,
    RunNotTerminalError,
    UnsupportedSchemaVersionError,
    VersionConflictError,
)
from agentkit.ids import new_id, now_ms
from agentkit.messages import user_message
from agentkit.record import SCHEMA_VERSION, Change, Lease, Resolution, RunRecord, Status, Step
from agentkit.store.base import Claim, DueRun, Store, StoredEvent
from tests.waiting import wait_until

__all__ = ["MakeStore", "StoreContract", "claimed", "ended", "new_run", "step_done"]

MakeStore = Callable[..., Store]
"""Makes a store on empty ground; takes `retention_seconds` and `max_events`."""

LEASE_MS = 60_000
TIMESTAMP = 1_700_000_000_000


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


def new_run(store: Store, *, schema_version: int = SCHEMA_VERSION) -> str:
    """A queued run with one message, two events and the model step 1 open."""
    run_id = new_id()
    assert store.create(first_change(run_id, schema_version=schema_version))
    return run_id


def first_change(run_id: str, *, schema_version: int = SCHEMA_VERSION) -> Change:
    step = Step(1, "model")
    record = RunRecord(
        id=run_id,
        agent="a",
        model="m:x",
        metadata={"k": "ü"},
        limits={},
        created_at=TIMESTAMP,
        updated_at=TIMESTAMP,
        messages=1,
        turn=1,
        turn_from=1,
        steps=(step,),
        next_step=2,
        schema_version=schema_version,
    )
    return Change(
        record=record,
        messages=(user_message("hallo, Welt ☃", TIMESTAMP),),
        events=(event("agent_start", runId=run_id), event("hello", text='a "quoted"\nline, ☃')),
        opened=(step,),
        on_first_claim={1: (event("turn_start", turn=1), event("message_start", n=1))},
    )


def claimed(store: Store, run_id: str, step: int = 1, lease_ms: int = LEASE_MS) -> Claim:
    claim = store.claim(run_id, step, lease_ms)
    assert claim is not None
    return claim


def step_done(claim: Claim, *, opens: tuple[Step, ...] = (), **more: Any) -> Change:
    """The commit of a claimed step: one message, one event, and steps that it opens."""
    record = claim.state.record
    left = tuple(step for step in record.steps if step.number != claim.lease.step)
    return Change(
        record=replace(
            record,
            status=more.pop("status", record.status),
            messages=record.messages + 1,
            steps=(*left, *opens),
            next_step=record.next_step + len(opens),
            ended_at=more.pop("ended_at", None),
        ),
        messages=(user_message("more", TIMESTAMP + 1),),
        events=more.pop("events", (event("done", step=claim.lease.step),)),
        opened=opens,
        closed=(claim.lease.step,),
        **more,
    )


def ended(store: Store) -> str:
    """A completed run with an answered item."""
    run_id = new_run(store)
    claim = claimed(store, run_id)
    change = step_done(
        claim,
        status=Status.COMPLETED,
        ended_at=now_ms(),
        resolutions=(Resolution("d1", "t1", "decided", {"decision": 1}, 0),),
    )
    store.commit(change, claim.state.version, claim.lease)
    return run_id


def log_of(store: Store, run_id: str) -> list[dict[str, Any]]:
    return [json.loads(entry.data) for entry in store.events(run_id, 0, 1000).events]


def types_of(store: Store, run_id: str) -> list[str]:
    return [entry["type"] for entry in log_of(store, run_id)]


def snapshot(store: Store, run_id: str) -> tuple[Any, ...]:
    """All that an outsider can see of a run."""
    state, messages = store.messages(run_id)
    return state.record, state.version, state.last_seq, messages, log_of(store, run_id)


class StoreContract:
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

    def test_a_created_run_reads_back_as_it_was_made(self, store: Store) -> None:
        run_id = new_id()
        change = first_change(run_id)
        assert store.create(change)
        state, messages = store.messages(run_id)
        assert state.record == change.record
        assert messages == list(change.messages)
        assert (state.last_seq, state.claimed, dict(state.live)) == (2, frozenset(), {})
        assert types_of(store, run_id) == ["agent_start", "hello"]

    def test_creating_a_run_twice_changes_nothing(self, store: Store) -> None:
        run_id = new_run(store)
        before = snapshot(store, run_id)
        assert not store.create(first_change(run_id))
        assert snapshot(store, run_id) == before

    def test_load_carries_the_messages_of_the_open_turn_only(self, store: Store) -> None:
        run_id = new_run(store)
        assert store.load(run_id).turn == ()
        claim = claimed(store, run_id)
        store.commit(step_done(claim), claim.state.version, claim.lease)
        assert store.load(run_id).turn == (user_message("more", TIMESTAMP + 1),)
        assert len(store.messages(run_id)[1]) == 2

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
            lambda: store.claim(absent, 1, LEASE_MS),
            lambda: store.events(absent, 0, 10),
            lambda: store.delete(absent),
            lambda: store.commit(first_change(absent), 1),
        ]
        for ask in asks:
            with pytest.raises(RunNotFoundError):
                ask()
        with pytest.raises((LeaseLostError, RunNotFoundError)):
            store.append(lease, [event("x")], 1)
        store.release(lease)
        assert store.renew([lease], LEASE_MS) == [None]
        assert store.loads([absent]) == [None]

    # -- claim -------------------------------------------------------------------------------------

    def test_a_claim_makes_a_queued_run_running_and_appends_what_the_first_claim_brings(self, store: Store) -> None:
        run_id = new_run(store)
        version = store.load(run_id).version
        before = now_ms()
        claim = claimed(store, run_id)
        assert (claim.lease.step, claim.lease.attempt) == (1, 1)
        assert claim.state.record.status is Status.RUNNING
        assert claim.state.version > version
        assert (claim.state.last_seq, claim.state.claimed) == (4, frozenset({1}))
        assert before + LEASE_MS - 5 <= claim.state.live[1] <= now_ms() + LEASE_MS + 5
        assert types_of(store, run_id) == ["agent_start", "hello", "turn_start", "message_start"]
        assert store.load(run_id).version == claim.state.version

    def test_a_model_steps_claim_carries_the_whole_conversation_and_a_tool_steps_the_open_turn(
        self, store: Store
    ) -> None:
        run_id = new_run(store)
        claim = claimed(store, run_id)
        assert len(claim.state.turn) == 1
        opens = (Step(2, "tool", 0), Step(3, "model"))
        store.commit(step_done(claim, opens=opens), claim.state.version, claim.lease)
        assert [m["content"] for m in claimed(store, run_id, 2).state.turn] == ["more"]
        assert len(claimed(store, run_id, 3).state.turn) == 2

    def test_a_held_step_is_not_lent_again(self, store: Store) -> None:
        run_id = new_run(store)
        claimed(store, run_id)
        before = snapshot(store, run_id)
        assert store.claim(run_id, 1, LEASE_MS) is None
        assert snapshot(store, run_id) == before

    def test_a_step_that_is_not_open_is_not_lent(self, store: Store) -> None:
        run_id = new_run(store)
        assert store.claim(run_id, 2, LEASE_MS) is None
        claim = claimed(store, run_id)
        store.commit(step_done(claim), claim.state.version, claim.lease)
        assert store.claim(run_id, 1, LEASE_MS) is None

    def test_an_expired_lease_is_reclaimed_with_a_new_token_and_attempt_and_no_second_announcement(
        self, store: Store
    ) -> None:
        run_id = new_run(store)
        first = claimed(store, run_id, lease_ms=0)
        second = claimed(store, run_id)
        assert second.lease.token > first.lease.token
        assert (first.lease.attempt, second.lease.attempt) == (1, 2)
        assert types_of(store, run_id).count("turn_start") == 1

    def test_of_many_who_claim_at_once_one_gets_the_step(self, store: Store) -> None:
        run_id = new_run(store)
        start, got = threading.Barrier(8), []

        def claim() -> None:
            start.wait(10)
            got.append(store.claim(run_id, 1, LEASE_MS))

        threads = [threading.Thread(target=claim) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len(got) == 8
        assert sum(claim is not None for claim in got) == 1

    def test_what_the_next_claim_brings_is_appended_once_by_whichever_step_is_claimed(self, store: Store) -> None:
        run_id = new_run(store)
        claim = claimed(store, run_id)
        change = step_done(
            claim,
            status=Status.QUEUED,
            opens=(Step(2, "tool", 0), Step(3, "tool", 1)),
            on_claim=(event("agent_resume"),),
            on_first_claim={2: (event("start", n=2),), 3: (event("start", n=3),)},
        )
        store.commit(change, claim.state.version, claim.lease)
        assert store.load(run_id).record.status is Status.QUEUED
        claimed(store, run_id, 3, lease_ms=0)
        claimed(store, run_id, 2)
        claimed(store, run_id, 3)
        assert [e.get("n", e["type"]) for e in log_of(store, run_id)][5:] == ["agent_resume", 3, 2]

    # -- append ------------------------------------------------------------------------------------

    def test_appended_events_follow_without_a_gap(self, store: Store) -> None:
        run_id = new_run(store)
        lease = claimed(store, run_id).lease
        version = store.append(lease, [event("x", n=1), event("x", n=2)], 1)
        assert version == store.load(run_id).version
        store.append(lease, [event("x", n=3)], 2)
        log = log_of(store, run_id)
        assert [e["seq"] for e in log] == list(range(1, 8))
        assert [e["n"] for e in log[4:]] == [1, 2, 3]

    def test_a_repeated_flush_number_changes_nothing(self, store: Store) -> None:
        run_id = new_run(store)
        lease = claimed(store, run_id).lease
        store.append(lease, [event("x")], 1)
        before = snapshot(store, run_id)
        assert store.append(lease, [event("x")], 1) == before[1]
        assert snapshot(store, run_id) == before

    def test_a_new_attempt_counts_its_flushes_anew(self, store: Store) -> None:
        run_id = new_run(store)
        store.append(claimed(store, run_id, lease_ms=0).lease, [event("x", n=1)], 1)
        store.append(claimed(store, run_id).lease, [event("x", n=2)], 1)
        assert [e["n"] for e in log_of(store, run_id) if e["type"] == "x"] == [1, 2]

    def test_a_stale_token_writes_nothing(self, store: Store) -> None:
        run_id = new_run(store)
        stale = claimed(store, run_id, lease_ms=0)
        claimed(store, run_id)
        before = snapshot(store, run_id)
        with pytest.raises(LeaseLostError):
            store.append(stale.lease, [event("x")], 1)
        with pytest.raises(LeaseLostError):
            store.commit(step_done(stale), before[1], stale.lease)
        assert store.renew([stale.lease], LEASE_MS) == [None]
        store.release(stale.lease)
        assert snapshot(store, run_id) == before

    def test_a_done_steps_token_writes_nothing(self, store: Store) -> None:
        run_id = new_run(store)
        claim = claimed(store, run_id)
        done = store.commit(step_done(claim), claim.state.version, claim.lease)
        with pytest.raises(LeaseLostError):
            store.append(claim.lease, [event("x")], 1)
        with pytest.raises(LeaseLostError):
            store.commit(step_done(claim), done.version, claim.lease)
        assert store.load(run_id).last_seq == done.last_seq

    # -- commit ------------------------------------------------------------------------------------

    def test_a_commit_makes_all_of_a_change_true(self, store: Store) -> None:
        run_id = new_run(store)
        claim = claimed(store, run_id)
        change = step_done(claim, opens=(Step(2, "tool", 0),))
        commit = store.commit(change, claim.state.version, claim.lease)
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
        with pytest.raises(VersionConflictError):
            store.commit(step_done(claim), version, claim.lease)
        with pytest.raises(VersionConflictError):
            store.commit(step_done(claim), version)
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
        change = Change(state.record, events=(event("x"),))
        store.commit(change, state.version)
        with pytest.raises(VersionConflictError):
            store.commit(change, state.version)
        assert types_of(store, run_id).count("x") == 1

    def test_a_change_of_the_record_without_events_answers_where_they_would_be(self, store: Store) -> None:
        run_id = new_run(store)
        state = store.load(run_id)
        commit = store.commit(Change(replace(state.record, abort={"reason": None})), state.version)
        assert (commit.first_seq, commit.last_seq) == (3, 2)
        assert store.load(run_id).record.abort == {"reason": None}

    def test_much_at_once_is_committed_whole(self, store: Store) -> None:
        run_id = new_run(store)
        claim = claimed(store, run_id)
        events = tuple(event("x", n=n) for n in range(3000))
        store.commit(step_done(claim, events=events), claim.state.version, claim.lease)
        page = store.events(run_id, 4, 5000)
        assert [json.loads(e.data)["n"] for e in page.events] == list(range(3000))

    # -- renew, release ----------------------------------------------------------------------------

    def test_a_renewed_lease_is_held_on(self, store: Store) -> None:
        run_id, other = new_run(store), new_run(store)
        lease, gone = claimed(store, run_id, lease_ms=0).lease, claimed(store, other, lease_ms=0).lease
        claimed(store, other)
        assert store.renew([lease, gone], LEASE_MS) == [store.load(run_id).version, None]
        assert store.claim(run_id, 1, LEASE_MS) is None
        assert store.renew([], LEASE_MS) == []

    def test_a_released_step_is_lent_at_once_and_counts_no_attempt(self, store: Store) -> None:
        run_id = new_run(store)
        claim = claimed(store, run_id, lease_ms=0)
        again = claimed(store, run_id)
        store.release(again.lease)
        assert store.load(run_id).claimed == {1}
        assert store.load(run_id).live == {}
        third = claimed(store, run_id)
        assert (claim.lease.attempt, again.lease.attempt, third.lease.attempt) == (1, 2, 2)

    # -- resolutions -------------------------------------------------------------------------------

    def test_a_resolution_is_found_by_its_item_or_its_call_with_the_seq_of_its_event(self, store: Store) -> None:
        run_id = new_run(store)
        state = store.load(run_id)
        change = Change(
            state.record,
            events=(event("x"), event("tool_decision_resolved"), event("tool_decision_resolved")),
            resolutions=(
                Resolution("d1", "t1", "decided", {"decision": {"ü": [1, None]}}, 1),
                Resolution("d2", "t2", "expired", None, 2),
            ),
        )
        store.commit(change, state.version)
        found = store.resolution(run_id, decision_id="d1", tool_call_id=None)
        assert found is not None
        assert (found.tool_call_id, found.outcome, found.answer, found.seq) == (
            "t1", "decided", {"decision": {"ü": [1, None]}}, 4,
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
            resolution = Resolution(decision, "t1", "decided", {"decision": decision}, 0)
            store.commit(Change(state.record, events=(event("x"),), resolutions=(resolution,)), state.version)
        last = store.resolution(run_id, decision_id=None, tool_call_id="t1")
        first = store.resolution(run_id, decision_id="d1", tool_call_id="t1")
        assert last is not None
        assert first is not None
        assert (last.decision_id, first.decision_id) == ("d2", "d1")

    # -- events ------------------------------------------------------------------------------------

    def test_a_log_is_read_in_pages(self, store: Store) -> None:
        run_id = new_run(store)
        store.append(claimed(store, run_id).lease, [event("x") for _ in range(6)], 1)
        page = store.events(run_id, 3, 4)
        assert [e.seq for e in page.events] == [4, 5, 6, 7]
        assert (page.first_seq, page.last_seq, page.status) == (1, 10, "running")
        assert [e.seq for e in store.events(run_id, 8, 4).events] == [9, 10]
        assert store.events(run_id, 10, 4).events == []
        assert store.events(run_id, 99, 4).events == []

    def test_a_log_keeps_its_newest_events_and_says_which_is_its_first(self, make_store: MakeStore) -> None:
        store = make_store(max_events=5)
        run_id = new_run(store)
        store.append(claimed(store, run_id).lease, [event("x") for _ in range(6)], 1)
        page = store.events(run_id, 0, 100)
        assert [e.seq for e in page.events] == [6, 7, 8, 9, 10]
        assert (page.first_seq, page.last_seq) == (6, 10)
        assert [e.seq for e in store.events(run_id, 8, 100).events] == [9, 10]

    def test_a_change_with_more_events_than_are_kept_counts_them_all(self, make_store: MakeStore) -> None:
        store = make_store(max_events=3)
        run_id = new_run(store)
        claim = claimed(store, run_id)
        events = tuple(event("x") for _ in range(10))
        commit = store.commit(step_done(claim, events=events), claim.state.version, claim.lease)
        assert (commit.first_seq, commit.last_seq) == (5, 14)
        assert store.events(run_id, 0, 100).first_seq == 12

    # -- news --------------------------------------------------------------------------------------

    def test_a_subscriber_learns_of_everything_that_is_written_after(self, store: Store) -> None:
        run_id = new_run(store)
        subscription = store.subscribe(run_id)
        try:
            seen: list[int] = []

            def read(news: list[StoredEvent] | None) -> None:
                fresh = news if news else store.events(run_id, len(seen), 1000).events
                for entry in fresh:
                    if entry.seq == len(seen) + 1:
                        seen.append(entry.seq)
                    else:
                        assert entry.seq <= len(seen), f"a gap before {entry.seq}"

            read(None)
            claim = claimed(store, run_id)
            for flush in range(1, 6):
                store.append(claim.lease, [event("x"), event("x")], flush)
            store.commit(step_done(claim), claim.state.version, claim.lease)
            last = store.load(run_id).last_seq

            def caught_up() -> bool:
                news = subscription.get(0.5)
                if news is not None:
                    read(list(news))
                return len(seen) == last

            wait_until(caught_up, what="the news")
            assert seen == list(range(1, last + 1))
        finally:
            subscription.close()

    def test_a_subscription_without_news_says_so_in_time(self, store: Store) -> None:
        subscription = store.subscribe(new_run(store))
        wait_until(lambda: subscription.get(0.05) is None, what="a quiet subscription")
        subscription.close()

    def test_a_subscriber_is_told_of_the_deletion(self, store: Store) -> None:
        run_id = ended(store)
        subscription = store.subscribe(run_id)
        wait_until(lambda: subscription.get(0.2) is None, what="a quiet subscription")
        store.delete(run_id)
        assert wait_until(lambda: subscription.get(0.5) == [], what="the news")
        subscription.close()

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
        wait_until(lambda: store.loads([run_id]) == [None], what="the run to expire")
        with pytest.raises(RunNotFoundError):
            store.load(run_id)

    def test_an_ended_run_is_deleted_whole(self, store: Store) -> None:
        run_id = ended(store)
        store.index(run_id)
        store.note(run_id, now_ms() - 1)
        store.delete(run_id)
        assert store.listing(None, 10) == []
        assert store.backlog() == (0, 0)
        assert self.ttls(store, run_id) == []
        with pytest.raises(RunNotFoundError):
            store.delete(run_id)

    def test_a_run_that_has_not_ended_is_not_deleted(self, store: Store) -> None:
        run_id = new_run(store)
        before = snapshot(store, run_id)
        with pytest.raises(RunNotTerminalError):
            store.delete(run_id)
        assert snapshot(store, run_id) == before

    # -- due ---------------------------------------------------------------------------------------

    def test_a_run_is_due_from_its_time_on_and_held_for_its_taker(self, store: Store) -> None:
        store.note("now", now_ms() - 1)
        store.note("later", now_ms() + 60_000)
        assert store.backlog() == (2, 1)
        assert [run.run_id for run in store.due(10, 60_000)] == ["now"]
        assert store.due(10, 60_000) == []

    def test_the_longest_overdue_are_taken_first_and_no_more_than_asked_for(self, store: Store) -> None:
        for run_id, late in (("a", 100), ("b", 300), ("c", 200)):
            store.note(run_id, now_ms() - late)
        assert [run.run_id for run in store.due(2, 60_000)] == ["b", "c"]
        assert [run.run_id for run in store.due(2, 60_000)] == ["a"]

    def test_a_hold_ends(self, store: Store) -> None:
        store.note("r", now_ms() - 1)
        (first,) = store.due(10, 0)
        second = wait_until(lambda: store.due(10, 60_000), what="the hold to end")[0]
        assert second.mark > first.mark
        store.settle(first, None)
        assert store.backlog()[0] == 1, "a mark that is gone settles nothing"

    def test_the_earliest_note_counts(self, store: Store) -> None:
        store.note("r", now_ms() - 1)
        store.note("r", now_ms() + 60_000)
        assert len(store.due(10, 60_000)) == 1

    def test_a_settled_run_is_looked_at_again_at_its_time_or_never(self, store: Store) -> None:
        for run_id in ("never", "again", "later"):
            store.note(run_id, now_ms() - 1)
        runs = {run.run_id: run for run in store.due(10, 60_000)}
        store.settle(runs["never"], None)
        store.settle(runs["again"], now_ms() - 1)
        store.settle(runs["later"], now_ms() + 60_000)
        assert [run.run_id for run in store.due(10, 60_000)] == ["again"]
        assert store.backlog() == (2, 0)

    @pytest.mark.parametrize("noted_in", [-1, 1_000, 120_000])
    def test_a_run_noted_while_it_is_held_is_not_settled(self, store: Store, noted_in: int) -> None:
        store.note("r", now_ms() - 1)
        (run,) = store.due(10, 60_000)
        store.note("r", now_ms() + noted_in)
        store.settle(run, None)
        assert store.backlog() == (1, int(noted_in < 0))

    def test_settling_what_was_unlisted_does_nothing(self, store: Store) -> None:
        store.note("r", now_ms() - 1)
        (run,) = store.due(10, 60_000)
        store.unlist("r")
        store.settle(run, now_ms())
        store.settle(DueRun("other", run.mark), now_ms())
        assert store.backlog() == (0, 0)

    # -- idempotency, lists, workers ---------------------------------------------------------------

    def test_an_idempotency_key_is_bound_once(self, store: Store) -> None:
        assert store.remember("k", "digest", "run-1") == ("digest", "run-1")
        assert store.remember("k", "other", "run-2") == ("digest", "run-1")
        assert store.remember("k2", "other", "run-2") == ("other", "run-2")

    def test_runs_are_listed_newest_first(self, store: Store) -> None:
        ids = [new_id() for _ in range(5)]
        for run_id in (ids[2], ids[0], ids[4], ids[1], ids[3], ids[3]):
            store.index(run_id)
        assert store.listing(None, 3) == [ids[4], ids[3], ids[2]]
        assert store.listing(ids[2], 3) == [ids[1], ids[0]]
        store.unlist(ids[3])
        store.unlist("never listed")
        assert store.listing(None, 2) == [ids[4], ids[2]]

    def test_several_runs_are_read_at_once_without_their_messages(self, store: Store) -> None:
        one, two, absent = new_run(store), ended(store), new_id()
        states = store.loads([two, absent, one])
        assert [state and state.record for state in states] == [store.load(two).record, None, store.load(one).record]
        assert all(state is None or state.turn == () for state in states)
        assert store.loads([]) == []

    def test_a_worker_counts_as_there_for_the_time_it_said(self, store: Store) -> None:
        assert store.workers() == []
        store.beat("b", 60_000)
        store.beat("a", 60_000)
        assert store.workers() == ["a", "b"]
        store.beat("b", 1)
        wait_until(lambda: "b" not in store.workers(), what="b to be gone")

    def test_a_worker_that_beats_seldom_outlives_one_that_beats_often(self, store: Store) -> None:
        store.beat("slow", 60_000)
        store.beat("quick", 1)
        wait_until(lambda: "quick" not in store.workers(), what="quick to be gone")
        assert store.workers() == ["slow"]

    # -- versions ----------------------------------------------------------------------------------

    def test_a_newer_record_is_refused_and_left_untouched(self, store: Store) -> None:
        run_id = new_run(store, schema_version=SCHEMA_VERSION + 1)
        before = store.events(run_id, 0, 100)
        asks: list[Callable[[], Any]] = [
            lambda: store.load(run_id),
            lambda: store.messages(run_id),
            lambda: store.claim(run_id, 1, LEASE_MS),
        ]
        for ask in (*asks, *asks):
            with pytest.raises(UnsupportedSchemaVersionError):
                ask()
        assert store.events(run_id, 0, 100) == before
