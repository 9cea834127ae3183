"""What every store promises of outboxes: what commits cause outside their runs is kept until somebody has done it.

Part of `StoreContract`.
"""

from __future__ import annotations

from dataclasses import replace

from agentkit.core.outbox import OutboxEntry
from agentkit.core.record import Change
from agentkit.store.protocol import Commit, Conflict, Store
from agentkit.testing.store_changes import (
    LEASE_MS,
    MakeStore,
    claimed,
    committed,
    ended,
    first_change,
    new_run,
    wait_for,
)

__all__ = ["OutboxContract"]

FIRST = OutboxEntry("1", "notify", {"text": 'a "quoted"\nline, ☃'})
SECOND = OutboxEntry("2", "answer", {})


def commit_entries(store: Store, run_id: str, *entries: OutboxEntry, request_id: str = "") -> Commit | Conflict:
    """Commit a change that changes nothing else."""
    state = store.load(run_id)
    return store.commit(Change(state.record, state.record, outbox=entries), state.version, request_id=request_id)


class OutboxContract:
    """`StoreContract` supplies `make_store` and `store`."""

    def test_entries_of_a_commit_are_kept_in_the_order_of_their_ids_until_they_are_removed(self, store: Store) -> None:
        run_id = new_run(store)
        assert not store.load(run_id).outbox
        assert store.outbox(run_id) == []
        commit_entries(store, run_id, SECOND, FIRST)
        assert store.load(run_id).outbox
        assert store.outbox(run_id) == [FIRST, SECOND]
        store.remove_entries(run_id, [FIRST.id, "no such"])
        assert (store.outbox(run_id), store.load(run_id).outbox) == ([SECOND], True)
        store.remove_entries(run_id, [FIRST.id, SECOND.id])
        assert (store.outbox(run_id), store.load(run_id).outbox) == ([], False)
        store.remove_entries(run_id, [FIRST.id])

    def test_a_run_may_be_made_with_entries(self, store: Store) -> None:
        change = replace(first_change("made"), outbox=(FIRST,))
        assert store.create(change)
        assert store.outbox("made") == [FIRST]
        assert not store.create(replace(change, outbox=(SECOND,)))
        assert store.outbox("made") == [FIRST]

    def test_a_commit_that_is_refused_leaves_no_entry(self, store: Store) -> None:
        run_id = new_run(store)
        claim = claimed(store, run_id)
        change = Change(claim.state.record, claim.state.record, outbox=(FIRST,))
        assert isinstance(store.commit(change, claim.state.version - 1), Conflict)
        assert store.outbox(run_id) == []

    def test_a_commit_made_again_writes_no_entry_that_was_removed(self, store: Store) -> None:
        run_id = new_run(store)
        state = store.load(run_id)
        change = Change(state.record, state.record, outbox=(FIRST,))
        first = committed(store, change, state.version, request_id="a")
        store.remove_entries(run_id, [FIRST.id])
        assert store.commit(change, state.version, request_id="a") == first
        assert store.outbox(run_id) == []

    def test_one_taker_at_a_time_has_an_entry_and_its_tries_are_counted(self, store: Store) -> None:
        run_id = new_run(store)
        commit_entries(store, run_id, FIRST)
        taken = store.take_entry(run_id, FIRST.id, LEASE_MS)
        assert taken is not None
        assert (taken.kind, taken.data, taken.tries) == (FIRST.kind, FIRST.data, 1)
        assert taken.at > store.now()
        assert store.outbox(run_id) == [taken]
        assert store.take_entry(run_id, FIRST.id, LEASE_MS) is None
        assert store.take_entry(run_id, SECOND.id, LEASE_MS) is None
        assert store.postpone_entry(run_id, taken, 0)
        again = store.take_entry(run_id, FIRST.id, LEASE_MS)
        assert again is not None
        assert again.tries == 2
        assert not store.postpone_entry(run_id, taken, 0), "somebody else has it"
        store.remove_entries(run_id, [FIRST.id])
        assert not store.postpone_entry(run_id, again, 0)
        assert store.outbox(run_id) == []

    def test_an_entry_whose_taker_died_is_due_again(self, store: Store) -> None:
        run_id = new_run(store)
        commit_entries(store, run_id, FIRST)
        assert store.take_entry(run_id, FIRST.id, 50) is not None
        again = wait_for(lambda: store.take_entry(run_id, FIRST.id, LEASE_MS), what="the hold to end")
        assert again is not None
        assert again.tries == 2

    def test_an_outbox_outlives_the_deletion_of_its_run_which_stays_due(self, store: Store) -> None:
        run_id = self._ended_with_entry(store)
        store.schedule(run_id, store.now() - 1)
        store.delete(run_id)
        assert store.outbox(run_id) == [FIRST]
        assert store.backlog() == (1, 1)
        store.remove_entries(run_id, [FIRST.id])
        store.unlist(run_id)
        assert store.backlog() == (0, 0)

    def test_an_outbox_outlives_an_ended_run_that_has_expired(self, make_store: MakeStore) -> None:
        store = make_store(retention_seconds=1)
        run_id = self._ended_with_entry(store)
        wait_for(lambda: store.loads([run_id]) == [None], what="the run to expire")
        assert store.outbox(run_id) == [FIRST]
        assert store.take_entry(run_id, FIRST.id, LEASE_MS) is not None
        store.remove_entries(run_id, [FIRST.id])
        assert store.loads([run_id]) == [None]
        assert store.outbox(run_id) == []

    def test_a_recipient_that_wants_no_more_is_known_from_then_on(self, store: Store) -> None:
        assert not store.is_refused("one")
        store.refuse("one")
        store.refuse("one")
        assert store.is_refused("one")
        assert not store.is_refused("two")

    def _ended_with_entry(self, store: Store) -> str:
        run_id = ended(store)
        commit_entries(store, run_id, FIRST)
        return run_id
