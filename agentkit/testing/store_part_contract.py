"""What every store promises of one call of the open turn that is read and written without the others.

Part of `StoreContract`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from agentkit.core.calls import Call, OtherCalls
from agentkit.core.events import PendingItem
from agentkit.core.record import AbortRequest, Change, RunState, Status
from agentkit.errors import LeaseLostError, RunNotFoundError
from agentkit.store.protocol import Claim, Commit, Conflict, Store
from agentkit.testing.store_changes import (
    LEASE_MS,
    TIMESTAMP,
    calls_of,
    committed,
    event,
    log_of,
    new_run,
    next_turn,
    result_of,
    snapshot,
    types_of,
)

__all__ = ["PartContract"]


def item_of(n: int) -> PendingItem:
    return PendingItem(f"d{n}", f"c{n}", "t", "decision", {}, {}, TIMESTAMP)


def changed(state: RunState, call: Call, **fields: Any) -> Change:
    """Change the one call of a part, and fields of its record."""
    record = state.record
    assert record.others is not None
    return Change(
        msgspec.structs.replace(record, calls=(call,), **fields), record, events=(event("changed", id=call.id),)
    )


def set_pending(store: Store, run_id: str, *indexes: int) -> None:
    """Make calls wait for an answer."""
    state = store.load(run_id)
    calls = list(state.record.calls)
    for n in indexes:
        calls[n] = msgspec.structs.replace(calls[n], state="pending", item=item_of(n))
    committed(store, Change(msgspec.structs.replace(state.record, calls=tuple(calls)), state.record), state.version)


def delegated(claim: Claim) -> Call:
    """The claimed call as one on which a sub-agent's run works."""
    assert claim.call is not None
    return msgspec.structs.replace(claim.call, state="waiting", child=f"run of {claim.call.id}")


def done(state: RunState, n: int) -> Change:
    """Give the one call of a part its result."""
    return changed(state, Call(f"c{n}", "t", {}, "done", result=result_of(n)), turn=7)


class PartContract:
    """`StoreContract` supplies `store`."""

    def test_one_call_is_read_by_its_index_without_the_others(self, store: Store) -> None:
        run_id, _ = calls_of(store, 4)
        set_pending(store, run_id, 1, 3)
        state = store.load(run_id, call=2)
        record = state.record
        assert ([call.id for call in record.calls], record.first_call, record.steps) == (["c2"], 2, ())
        assert record.others == OtherCalls(count=3, steps=4, waiting=2, working=0)
        assert record.call(2).id == "c2"
        assert store.load(run_id, call=1).record.others == OtherCalls(count=3, steps=4, waiting=1, working=0)

    def test_one_call_is_read_by_the_item_that_is_pending_for_it(self, store: Store) -> None:
        run_id, _ = calls_of(store, 3)
        set_pending(store, run_id, 0, 2)
        assert store.load(run_id, decision_id="d2").record.calls[0].item == item_of(2)
        state = store.load(run_id, decision_id="d2")
        committed(store, changed(state, Call("c2", "t", {}, "answered")), state.version)
        assert store.load(run_id, decision_id="d2").record.others is None, "it is not pending any more"
        assert store.load(run_id, decision_id="d0").record.first_call == 0

    @pytest.mark.parametrize("what", [{"call": 3}, {"decision_id": "d9"}])
    def test_where_there_is_no_such_call_the_whole_state_is_read(self, store: Store, what: dict[str, object]) -> None:
        run_id, _ = calls_of(store, 3)
        assert store.load(run_id, **what) == store.load(run_id)  # type: ignore[arg-type]
        before_its_calls = new_run(store)
        assert store.load(before_its_calls, **what) == store.load(before_its_calls)  # type: ignore[arg-type]
        with pytest.raises(RunNotFoundError):
            store.load("nobody", **what)  # type: ignore[arg-type]

    def test_a_change_of_one_call_leaves_the_others_as_they_are(self, store: Store) -> None:
        run_id, _ = calls_of(store, 3)
        set_pending(store, run_id, 1)
        before = store.load(run_id)
        state = store.load(run_id, call=1)
        committed(store, changed(state, Call("c1", "t", {}, "answered"), answered=1), state.version)
        after = store.load(run_id)
        assert (after.record.calls[0], after.record.calls[2]) == (before.record.calls[0], before.record.calls[2])
        assert (after.record.calls[1].state, after.record.answered) == ("answered", 1)
        assert (after.record.steps, after.record.messages) == (before.record.steps, before.record.messages)
        assert after.version > before.version
        assert types_of(store, run_id)[-1] == "changed"
        assert store.load(run_id, call=0).record.others == OtherCalls(count=2, steps=3, waiting=0, working=0)

    def test_what_happens_to_other_calls_alone_refuses_it_nothing(self, store: Store) -> None:
        run_id, claims = calls_of(store, 4)
        set_pending(store, run_id, 3)
        state = store.load(run_id, call=3)
        assert isinstance(store.commit_call(claims[0].lease, 0, result_of(0)), Commit)
        assert isinstance(store.commit_call(claims[1].lease, 1, delegated(claims[1])), Commit)
        store.release(claims[2].lease)
        assert store.claim(run_id, claims[2].lease.step, 1000) is not None
        committed(store, changed(state, Call("c3", "t", {}, "answered")), state.version)
        record = store.load(run_id).record
        assert [call.state for call in record.calls] == ["done", "waiting", "ready", "answered"]
        assert (record.flushed, record.messages) == (1, 3), "what became a message meanwhile still is one"
        assert len(store.messages(run_id)[1]) == 3

    def test_what_several_calls_depend_on_refuses_it_and_shows_the_call_anew(self, store: Store) -> None:
        run_id, _ = calls_of(store, 3)
        set_pending(store, run_id, 0, 1)
        state, other = store.load(run_id, call=0), store.load(run_id, call=1)
        committed(store, changed(other, Call("c1", "t", {}, "answered"), answered=1), other.version)
        refused = store.commit(changed(state, Call("c0", "t", {}, "answered"), answered=1), state.version)
        assert isinstance(refused, Conflict)
        assert (refused.state.record.first_call, refused.state.record.answered) == (0, 1)
        assert refused.state == store.load(run_id, call=0)
        committed(store, changed(refused.state, Call("c0", "t", {}, "answered"), answered=2), refused.state.version)
        assert store.load(run_id).record.answered == 2

    def test_an_abort_that_was_asked_for_refuses_it(self, store: Store) -> None:
        run_id, _ = calls_of(store, 2)
        set_pending(store, run_id, 0)
        state = store.load(run_id, call=0)
        assert store.request_abort(run_id, AbortRequest("enough"), store.load(run_id).version)
        refused = store.commit(changed(state, Call("c0", "t", {}, "answered")), state.version)
        assert isinstance(refused, Conflict)
        assert refused.state.record.abort == AbortRequest("enough")

    def test_the_first_claim_after_a_pause_refuses_it(self, store: Store) -> None:
        run_id, claims = calls_of(store, 2)
        for claim in claims:
            store.release(claim.lease)
        whole = store.load(run_id)
        committed(
            store, Change(msgspec.structs.replace(whole.record, status=Status.QUEUED), whole.record), whole.version
        )
        state = store.load(run_id, call=1)
        assert store.claim(run_id, claims[0].lease.step, 1000) is not None
        assert isinstance(store.commit(changed(state, state.record.call(1)), state.version), Conflict)
        assert store.load(run_id).record.status is Status.RUNNING

    def test_a_change_of_all_is_refused_after_one_of_a_single_call(self, store: Store) -> None:
        run_id, _ = calls_of(store, 2)
        whole, state = store.load(run_id), store.load(run_id, call=0)
        committed(store, changed(state, state.record.call(0)), state.version)
        assert isinstance(
            store.commit(Change(msgspec.structs.replace(whole.record, turn=7), whole.record), whole.version), Conflict
        )

    def test_its_result_becomes_a_message_in_its_turn(self, store: Store) -> None:
        run_id, claims = calls_of(store, 4)
        for n in (0, 1):
            assert isinstance(store.commit_call(claims[n].lease, n, delegated(claims[n])), Commit)
        for n in (1, 0):
            state = store.load(run_id, call=n)
            committed(store, done(state, n), state.version)
        record = store.load(run_id).record
        assert ([call.state for call in record.calls], record.turn) == (["done", "done", "ready", "ready"], 7)
        assert (record.flushed, record.messages) == (2, 4)
        assert [m["toolCallId"] for m in store.messages(run_id)[1][2:]] == ["c0", "c1"]
        shown = [(e["type"], e.get("id") or e["message"]["toolCallId"]) for e in log_of(store, run_id)[-6:]]
        ends = [("message_start", "c0"), ("message_end", "c0"), ("message_start", "c1"), ("message_end", "c1")]
        assert shown == [("changed", "c1"), ("changed", "c0"), *ends]

    def test_where_nothing_else_goes_on_the_whole_state_comes_back(self, store: Store) -> None:
        run_id, claims = calls_of(store, 3)
        assert isinstance(store.commit_call(claims[0].lease, 0, delegated(claims[0])), Commit)
        state = store.load(run_id, call=0)
        assert state.record.others == OtherCalls(count=2, steps=2, waiting=0, working=0)
        assert isinstance(store.commit_call(claims[1].lease, 1, result_of(1)), Commit)
        last = store.load(run_id)
        record = msgspec.structs.replace(last.record, steps=())
        committed(store, Change(record, last.record, closed=(claims[2].lease.step,)), last.version, claims[2].lease)
        state = store.load(run_id, call=0)
        before = snapshot(store, run_id)
        refused = store.commit(done(state, 0), state.version)
        assert isinstance(refused, Conflict)
        assert refused.state == store.load(run_id)
        assert snapshot(store, run_id) == before
        paused = msgspec.structs.replace(refused.state.record, status=Status.PAUSED)
        committed(store, Change(paused, refused.state.record), refused.state.version)
        state = store.load(run_id, call=0)
        committed(store, done(state, 0), state.version)
        assert store.load(run_id).record.flushed == 2, "a paused run waits for others"

    def test_a_call_that_waits_for_its_sub_agent_ends_its_step_beside_others(self, store: Store) -> None:
        run_id, claims = calls_of(store, 3)
        store.commit_call(claims[1].lease, 1, delegated(claims[1]), [event("waits")])
        record = store.load(run_id).record
        assert [call.state for call in record.calls] == ["ready", "waiting", "ready"]
        assert ([step.call for step in record.steps], types_of(store, run_id)[-1]) == ([0, 2], "waits")
        assert store.load(run_id, call=0).record.others == OtherCalls(count=2, steps=2, waiting=0, working=1)
        with pytest.raises(LeaseLostError):
            store.commit_call(claims[1].lease, 1, delegated(claims[1]))

    def test_a_claimed_call_is_a_part_that_can_be_committed(self, store: Store) -> None:
        run_id, claims = calls_of(store, 3)
        state = store.load(run_id, call=1)
        claim = claims[1]
        assert claim.state.record.others == OtherCalls(count=2, steps=2, waiting=0, working=0)
        pending = changed(state, Call("c1", "t", {}, "pending", item=item_of(1)))
        change = replace(pending, closed=(claim.lease.step,))
        committed(store, change, state.version, claim.lease)
        record = store.load(run_id).record
        assert ([step.call for step in record.steps], record.pending) == ([0, 2], [item_of(1)])

    # -- the end of the last call, with what follows

    def test_with_the_last_call_to_end_what_follows_becomes_true(self, store: Store) -> None:
        run_id, claims = calls_of(store, 3)
        follows = [next_turn(claim) for claim in claims]
        for n in (2, 0):
            outcome = store.commit_call(claims[n].lease, n, result_of(n), [event("end", n=n)], last=follows[n])
            assert isinstance(outcome, Commit)
            assert not outcome.was_last
        assert store.load(run_id).record.turn == 1, "nothing follows while another is open"
        before = store.load(run_id).last_seq
        last = store.commit_call(claims[1].lease, 1, result_of(1), [event("end", n=1)], last=follows[1])
        assert isinstance(last, Commit)
        state, messages = store.messages(run_id)
        assert last == Commit(state.version, before + 1, state.last_seq, was_last=True)
        record = follows[1].change.record
        assert state.record == msgspec.structs.replace(record, updated_at=state.record.updated_at)
        assert [m["toolCallId"] for m in messages[2:]] == ["c0", "c1", "c2"]
        assert types_of(store, run_id)[-6:] == [
            "end",
            *["message_start", "message_end"] * 2,
            "turn_end",
        ]
        assert store.load(run_id, call=0) == store.load(run_id), "its calls are forgotten"
        claim = store.claim(run_id, record.next_step - 1, LEASE_MS)
        assert claim is not None
        assert (types_of(store, run_id)[-1], len(claim.state.messages)) == ("turn_start", 5)

    def test_the_step_that_follows_is_claimed_in_the_same_act(self, store: Store) -> None:
        run_id, claims = calls_of(store, 2)
        first = store.commit_call(claims[0].lease, 0, result_of(0), last=next_turn(claims[0], lends=True))
        assert isinstance(first, Commit)
        assert first.claim is None
        ask = {"last": next_turn(claims[1], lends=True), "request_id": "a"}
        last = store.commit_call(claims[1].lease, 1, result_of(1), **ask)  # type: ignore[arg-type]
        assert isinstance(last, Commit)
        assert last.claim is not None
        state, _ = store.messages(run_id)
        lent = last.claim.state
        assert (lent.version, lent.last_seq, lent.claimed) == (state.version, state.last_seq, state.claimed)
        assert lent.record == msgspec.structs.replace(state.record, updated_at=lent.record.updated_at)
        assert (lent.live, len(lent.messages)) == (state.live, 4)
        assert types_of(store, run_id)[-2:] == ["turn_end", "turn_start"]
        again = store.commit_call(claims[1].lease, 1, result_of(1), **ask)  # type: ignore[arg-type]
        assert isinstance(again, Commit)
        assert again.claim is not None
        assert (again.was_last, again.version, again.claim.lease) == (True, last.version, last.claim.lease)

    def test_what_follows_is_done_once_though_it_is_sent_twice(self, store: Store) -> None:
        run_id, claims = calls_of(store, 2)
        for n in (0, 1):
            ask = {"last": next_turn(claims[n]), "request_id": f"a{n}"}
            first = store.commit_call(claims[n].lease, n, result_of(n), **ask)  # type: ignore[arg-type]
            after = snapshot(store, run_id)
            again = store.commit_call(claims[n].lease, n, result_of(n), **ask)  # type: ignore[arg-type]
            assert (again, snapshot(store, run_id)) == (first, after)
        with pytest.raises(LeaseLostError):
            store.commit_call(claims[1].lease, 1, result_of(1), last=next_turn(claims[1]))

    @pytest.mark.parametrize("what", ["a change", "an abort", "a sub-agent", "an answer", "another turn"])
    def test_what_follows_is_refused_where_more_than_calls_has_ended_since(self, store: Store, what: str) -> None:
        run_id, claims = calls_of(store, 3)
        last = next_turn(claims[2])
        assert isinstance(store.commit_call(claims[0].lease, 0, result_of(0)), Commit)
        outcome = delegated(claims[1]) if what == "a sub-agent" else result_of(1)
        if what == "a change":
            state = store.load(run_id, call=0)
            committed(store, changed(state, state.record.call(0)), state.version)
        elif what == "an answer":
            set_pending(store, run_id, 1)
            state = store.load(run_id, call=1)
            change = replace(changed(state, state.record.call(1)), closed=(claims[1].lease.step,))
            committed(store, change, state.version, claims[1].lease)
            last = replace(last, version=store.load(run_id, call=2).version)
        elif what == "another turn":
            last = next_turn(claims[2], turn_from=9)
        if what != "an answer":
            assert isinstance(store.commit_call(claims[1].lease, 1, outcome), Commit)
        if what == "an abort":
            assert store.request_abort(run_id, AbortRequest("enough"), store.load(run_id).version)
        before = snapshot(store, run_id)
        refused = store.commit_call(claims[2].lease, 2, result_of(2), last=last)
        assert isinstance(refused, Conflict)
        assert (refused.state.record, refused.state.version) == before[:2]
        assert snapshot(store, run_id) == before
