"""What every store promises to those who execute steps: who is lent one, for how long, and what giving it back means.

Part of `StoreContract`.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from agentkit.core.calls import Call
from agentkit.core.ids import now_ms
from agentkit.core.message_list import MessageList
from agentkit.core.record import Status, Step
from agentkit.core.struct import to_json
from agentkit.store.protocol import Claim, Commit, Conflict, LeaseStatus, NextClaim, Store
from agentkit.testing.store_changes import (
    LEASE_MS,
    claimed,
    committed,
    event,
    log_of,
    new_run,
    result_of,
    snapshot,
    step_done,
    types_of,
)

__all__ = ["LeaseContract"]


class LeaseContract:
    """`StoreContract` supplies `store`."""

    # -- claim -------------------------------------------------------------------------------------

    def test_a_claim_makes_a_queued_run_running_and_appends_what_the_first_claim_brings(self, store: Store) -> None:
        run_id = new_run(store)
        version = store.load(run_id).version
        before = now_ms()
        claim = claimed(store, run_id)
        assert (claim.lease.step, claim.lease.attempt) == (1, 1)
        assert claim.state.record.status is Status.RUNNING
        assert claim.state.version > version
        assert (claim.state.last_seq, claim.state.claimed, claim.appended) == (4, frozenset({1}), 2)
        assert before + LEASE_MS - 5 <= claim.state.live[1] <= now_ms() + LEASE_MS + 5
        assert types_of(store, run_id) == ["agent_start", "hello", "turn_start", "message_start"]
        assert store.load(run_id).version == claim.state.version

    def test_a_model_steps_claim_carries_the_whole_conversation(self, store: Store) -> None:
        run_id = new_run(store)
        claim = claimed(store, run_id)
        assert len(claim.state.messages) == 1
        store.commit(step_done(claim, opens=(Step(2, "model"),)), claim.state.version, claim.lease)
        assert [message.content for message in claimed(store, run_id, 2).state.messages] == ["hallo, Welt ☃", "more"]

    # -- claim, in the act of a commit -------------------------------------------------------------

    def test_the_step_that_a_commit_opens_can_be_claimed_in_the_same_act(self, store: Store) -> None:
        run_id = new_run(store)
        first = claimed(store, run_id)
        opened = Step(2, "model")
        change = step_done(first, opens=(opened,), on_first_claim={2: (event("turn_start", turn=2),)})
        commit = committed(store, change, first.state.version, first.lease, next_claim=next_of(first, opened))
        claim = commit.claim
        assert claim is not None
        assert (claim.lease.step, claim.lease.attempt, claim.complete) == (2, 1, True)
        assert claim.lease.token > first.lease.token
        assert types_of(store, run_id)[-2:] == ["done", "turn_start"]
        assert commit.last_seq == claim.state.last_seq - 1
        assert store.claim(run_id, 2, LEASE_MS) is None
        stored, messages = store.messages(run_id)
        assert replace(claim.state, messages=MessageList()) == stored
        assert [to_json(message) for message in claim.state.messages] == messages
        done = step_done(claim)
        committed(store, done, claim.state.version, claim.lease)

    def test_a_tool_step_is_claimed_with_its_call_and_hands_the_known_messages_on(self, store: Store) -> None:
        run_id = new_run(store)
        first = claimed(store, run_id)
        tool, model = Step(2, "tool", 0), Step(3, "model")
        change = step_done(first, opens=(tool,))
        second = committed(store, change, first.state.version, first.lease, next_claim=next_of(first, tool)).claim
        assert second is not None
        assert second.call == Call("c0", "t", {}, "ready")
        assert not second.state.messages
        assert second.messages == (*first.state.messages, *change.messages)
        assert second.state == store.load(run_id)
        change = step_done(second, opens=(model,))
        third = committed(store, change, second.state.version, second.lease, next_claim=next_of(second, model)).claim
        assert third is not None
        assert third.messages == third.state.messages == (*second.messages, *change.messages)
        assert [to_json(message) for message in third.messages] == store.messages(run_id)[1]

    def test_messages_that_the_committer_does_not_have_come_with_the_claim(self, store: Store) -> None:
        run_id = new_run(store)
        first = claimed(store, run_id)
        step = Step(2, "model")
        asked = NextClaim(step, LEASE_MS, first.state)
        change = step_done(first, opens=(step,))
        claim = committed(store, change, first.state.version, first.lease, next_claim=asked).claim
        assert claim is not None
        assert claim.state.messages == (*first.state.messages, *change.messages)

    def test_one_of_several_calls_is_claimed_with_its_commit_and_shows_itself_alone(self, store: Store) -> None:
        run_id = new_run(store)
        first = claimed(store, run_id)
        opens = (Step(2, "tool", 0), Step(3, "tool", 1))
        change = step_done(first, opens=opens)
        claim = committed(store, change, first.state.version, first.lease, next_claim=next_of(first, opens[0])).claim
        assert claim is not None
        assert (claim.complete, claim.call, claim.state.record.steps) == (
            False,
            Call("c0", "t", {}, "ready"),
            opens[:1],
        )
        assert claimed(store, run_id, 3).call == Call("c1", "t", {}, "ready")
        assert isinstance(store.commit_call(claim.lease, 0, result_of(0)), Commit)

    def test_a_commit_with_a_claim_that_is_sent_again_answers_with_the_same_claim(self, store: Store) -> None:
        run_id = new_run(store)
        first = claimed(store, run_id)
        step = Step(2, "model")
        change, asked = step_done(first, opens=(step,)), next_of(first, step)
        options: dict[str, Any] = {"next_claim": asked, "request_id": "again"}
        one, other = (committed(store, change, first.state.version, first.lease, **options).claim for _ in range(2))
        assert one is not None
        assert one == other
        store.release(one.lease, untouched=True)
        claimed(store, run_id, 2)
        assert committed(store, change, first.state.version, first.lease, **options).claim is None

    def test_a_commit_that_is_refused_claims_nothing(self, store: Store) -> None:
        run_id = new_run(store)
        first = claimed(store, run_id)
        step = Step(2, "model")
        change, asked = step_done(first, opens=(step,)), next_of(first, step)
        before = snapshot(store, run_id)
        assert isinstance(store.commit(change, first.state.version - 1, first.lease, next_claim=asked), Conflict)
        assert snapshot(store, run_id) == before

    # -- held ---------------------------------------------------------------------------------------

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
        claims = [claimed(store, run_id, 3, lease_ms=0), claimed(store, run_id, 2), claimed(store, run_id, 3)]
        assert [each.appended for each in claims] == [2, 1, 0]
        assert [e.get("n", e["type"]) for e in log_of(store, run_id)][5:] == ["agent_resume", 3, 2]

    # -- renew, release ----------------------------------------------------------------------------

    def test_a_renewed_lease_is_held_on(self, store: Store) -> None:
        run_id, other = new_run(store), new_run(store)
        lease, gone = claimed(store, run_id, lease_ms=0).lease, claimed(store, other, lease_ms=0).lease
        claimed(store, other)
        assert store.renew([lease, gone], LEASE_MS) == [LeaseStatus.HELD, LeaseStatus.LOST]
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

    def test_a_step_released_untouched_is_the_same_attempt_for_who_claims_it_next(self, store: Store) -> None:
        run_id = new_run(store)
        for _ in range(3):
            claim = claimed(store, run_id)
            assert claim.lease.attempt == 1
            store.release(claim.lease, untouched=True)
        assert store.load(run_id).claimed == frozenset({1})
        assert not store.load(run_id).live
        assert claimed(store, run_id, lease_ms=0).lease.attempt == 1
        assert claimed(store, run_id).lease.attempt == 2

    def test_a_released_lease_is_not_renewed(self, store: Store) -> None:
        run_id = new_run(store)
        lease = claimed(store, run_id).lease
        store.release(lease)
        assert store.renew([lease], LEASE_MS) == [LeaseStatus.LOST]
        assert claimed(store, run_id).lease.attempt == 2


def next_of(claim: Claim, step: Step) -> NextClaim:
    """Ask for the claim of a step that the commit of another opens."""
    return NextClaim(step, LEASE_MS, claim.state, claim.messages)
