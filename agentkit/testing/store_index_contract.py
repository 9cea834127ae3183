"""What every store promises to readers and across runs: logs, subscriptions, the due index, lists, workers.

Part of `StoreContract`.
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import pytest

from agentkit.core.events import ItemKind
from agentkit.core.ids import new_id, now_ms
from agentkit.core.inbox import ItemFilter, ListedItem
from agentkit.core.workers import Worker
from agentkit.errors import UnreadableRunError
from agentkit.store.protocol import Commit, DueRun, StepLease, Store, StoredEvent, StoredThread, ThreadMessage
from agentkit.testing.store_changes import (
    MakeStore,
    append,
    claimed,
    ended,
    event,
    new_run,
    step_done,
    wait_for,
)

__all__ = ["IndexContract"]


def _item(
    *,
    run_id: str | None = None,
    agent: str = "a",
    tool: str = "t",
    kind: ItemKind = "decision",
    owner: str | None = None,
) -> ListedItem:
    return ListedItem(new_id(), run_id or new_id(), agent, tool, kind, owner)


class IndexContract:
    """`StoreContract` supplies `make_store` and `store`."""

    page_share: ClassVar[float] = 1.0
    """How much of the bytes that were asked for a page of a log has, where they are counted as they are stored."""

    # -- events ------------------------------------------------------------------------------------

    def test_an_owners_runs_are_listed_without_those_of_others(self, store: Store) -> None:
        ids = [new_id() for _ in range(6)]
        for number, run_id in enumerate(ids):
            store.index(run_id, ["ann", "bob", None][number % 3])
        assert store.listing(None, 10, "ann") == [ids[3], ids[0]]
        assert store.listing(ids[3], 10, "ann") == [ids[0]]
        assert store.listing(None, 1, "bob") == [ids[4]]
        assert store.listing(None, 10, "eve") == []
        assert store.listing(None, 10) == ids[::-1]
        store.unlist(ids[3])
        assert store.listing(None, 10, "ann") == [ids[0]]
        assert store.has_lists()

    def test_runs_are_listed_by_agent_and_by_status_of_all_and_of_an_owner(self, store: Store) -> None:
        ids = [new_id() for _ in range(6)]
        for number, run_id in enumerate(ids):
            owner, agent = ["ann", None][number % 2], ["a", "b", "b"][number % 3]
            store.index(run_id, owner, agent=agent, status="active")
        assert store.listing(None, 10, agent="b") == [ids[5], ids[4], ids[2], ids[1]]
        assert store.listing(ids[4], 1, agent="b") == [ids[2]]
        assert store.listing(None, 10, "ann", agent="b") == [ids[4], ids[2]]
        assert store.listing(None, 10, agent="c") == store.listing(None, 10, "eve", agent="a") == []
        assert store.listing(None, 10, status="active") == ids[::-1]
        assert store.listing(None, 10, "ann", status="active") == [ids[4], ids[2], ids[0]]
        assert store.listing(None, 10, status="paused") == []

    def test_a_run_leaves_the_list_of_a_status_only_when_it_is_taken_out(self, store: Store) -> None:
        one, two = new_id(), new_id()
        for run_id in (one, two):
            store.index(run_id, "ann", agent="a", status="active")
        store.index(one, "ann", agent="a", status="paused")
        for owner in (None, "ann"):
            assert store.listing(None, 10, owner, status="active") == [two, one]
            assert store.listing(None, 10, owner, status="paused") == [one]
        store.unindex(one, ["active", "failed"], "ann")
        for owner in (None, "ann"):
            assert store.listing(None, 10, owner, status="active") == [two]
            assert store.listing(None, 10, owner, status="paused") == [one]
            assert store.listing(None, 10, owner, agent="a") == [two, one]

    def test_a_run_that_is_gone_is_in_no_list(self, store: Store) -> None:
        run_id = new_id()
        store.index(run_id, "ann", agent="a", status="active")
        store.index(run_id, "ann", agent="a", status="paused")
        store.unlist(run_id)
        for owner in (None, "ann", "a"):
            wanted_lists: list[dict[str, Any]] = [{}, {"agent": "a"}, {"status": "active"}, {"status": "paused"}]
            for wanted in wanted_lists:
                assert store.listing(None, 10, owner, **wanted) == []

    def test_the_names_of_owners_and_agents_do_not_mix(self, store: Store) -> None:
        run_id = new_id()
        store.index(run_id, "agent:a", agent="of", status="active")
        assert store.listing(None, 10, agent="a") == []
        assert store.listing(None, 10, "a") == store.listing(None, 10, ":of:agent:a") == []
        assert store.listing(None, 10, "agent:a") == [run_id]

    # -- pending items -----------------------------------------------------------------------------

    def test_items_are_listed_oldest_first_after_a_cursor_and_counted(self, store: Store) -> None:
        items = [_item() for _ in range(5)]
        store.list_items([items[2], items[0], items[4]])
        store.list_items([items[1], items[3], items[3]])
        anything = ItemFilter()
        assert store.items(None, 3, anything) == items[:3]
        assert store.items(items[2].decision_id, 3, anything) == items[3:]
        assert store.items(items[4].decision_id, 3, anything) == []
        assert store.count_items(anything) == [5]
        store.unlist_items([items[1], items[4], _item()])
        assert store.items(None, 10, anything) == [items[0], items[2], items[3]]
        assert store.count_items(anything) == [3]
        store.list_items([])
        store.unlist_items([])
        assert store.count_items(anything) == [3]

    def test_every_combination_of_filters_selects_what_satisfies_all_of_them(self, store: Store) -> None:
        kinds: list[ItemKind] = ["decision", "in_doubt"]
        items = [
            _item(agent=agent, tool=tool, kind=kind, owner=owner)
            for agent in ("a", "b")
            for tool in ("t", "a")
            for kind in kinds
            for owner in ("ann", "a", None)
        ]
        store.list_items(items)
        for agent, tool, kind, owner in itertools.product((None, "a"), (None, "a"), (None, kinds[1]), (None, "a")):
            wanted = ItemFilter(agent=agent, tool=tool, kind=kind, owner=owner)
            selected = [item for item in items if wanted.selects(item)]
            assert store.items(None, 100, wanted) == selected
            assert store.count_items(wanted) == [len(selected)]
        assert store.items(None, 10, ItemFilter(agent="c")) == []
        assert store.count_items(ItemFilter(owner="bob", agent="a")) == [0]

    def test_the_items_of_a_run_are_known_and_gone_when_it_is(self, store: Store) -> None:
        run_id, other = new_id(), _item(owner="ann")
        items = [_item(run_id=run_id, owner="ann") for _ in range(2)]
        store.list_items([other, *items])
        assert store.items_of(run_id) == items
        assert store.items_of(new_id()) == []
        store.unlist(run_id)
        assert store.items_of(run_id) == []
        for wanted in (ItemFilter(), ItemFilter(owner="ann"), ItemFilter(agent="a", tool="t", kind="decision")):
            assert store.items(None, 10, wanted) == [other]
            assert store.count_items(wanted) == [1]

    def test_a_store_that_has_begun_with_this_version_has_all_items_listed(self, store: Store) -> None:
        store.index(new_id())
        assert store.has_items()

    def test_a_log_is_read_in_pages(self, store: Store) -> None:
        run_id = new_run(store)
        append(store, claimed(store, run_id).lease, [event("x") for _ in range(6)], 1)
        page = store.events(run_id, 3, 4)
        assert [e.seq for e in page.events] == [4, 5, 6, 7]
        assert (page.first_seq, page.last_seq, page.status) == (1, 10, "running")
        assert [e.seq for e in store.events(run_id, 8, 4).events] == [9, 10]
        assert store.events(run_id, 10, 4).events == []
        assert store.events(run_id, 99, 4).events == []

    def test_a_page_of_a_log_has_as_many_bytes_as_were_asked_for_and_always_an_event(self, store: Store) -> None:
        run_id = new_run(store)
        events = [event("x", text="y" * (10_000 if n == 5 else 1000)) for n in range(20)]
        append(store, claimed(store, run_id).lease, events, 1)
        pages: list[list[StoredEvent]] = []
        after = 0
        while after < (page := store.events(run_id, after, 12, size=5000)).last_seq:
            pages.append(page.events)
            after = page.events[-1].seq
        assert [e.seq for events in pages for e in events] == list(range(1, 25))
        for events, following in itertools.pairwise(pages):
            length = sum(len(e.data) for e in events)
            assert length <= 5000 or len(events) == 1
            assert length + len(following[0].data) > 5000 * self.page_share, "a page is as full as it may be"
        assert len(store.events(run_id, 0, 12, size=5_000_000).events) == 12
        assert store.events(run_id, 24, 12, size=1).events == []

    def test_a_log_keeps_its_newest_events_and_says_which_is_its_first(self, make_store: MakeStore) -> None:
        store = make_store(max_events=5)
        run_id = new_run(store)
        append(store, claimed(store, run_id).lease, [event("x") for _ in range(6)], 1)
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
        assert isinstance(commit, Commit)
        assert (commit.first_seq, commit.last_seq) == (5, 14)
        assert store.events(run_id, 0, 100).first_seq == 12

    # -- subscriptions -----------------------------------------------------------------------------

    def test_a_subscriber_learns_of_everything_that_is_written_after(self, store: Store) -> None:
        run_id = new_run(store)
        subscription = store.subscribe(run_id)
        try:
            seen: list[int] = []

            def read(published: list[StoredEvent] | None) -> None:
                fresh = published if published else store.events(run_id, len(seen), 1000).events
                for entry in fresh:
                    if entry.seq == len(seen) + 1:
                        seen.append(entry.seq)
                    else:
                        assert entry.seq <= len(seen), f"a gap before {entry.seq}"

            read(None)
            claim = claimed(store, run_id)
            for flush in range(1, 6):
                append(store, claim.lease, [event("x"), event("x")], flush)
            store.commit(step_done(claim), claim.state.version, claim.lease)
            last = store.load(run_id).last_seq

            def caught_up() -> bool:
                published = subscription.get(0.5)
                if published is not None:
                    read(list(published))
                return len(seen) == last

            wait_for(caught_up, what="the events")
            assert seen == list(range(1, last + 1))
        finally:
            subscription.close()

    def test_a_subscription_without_new_events_returns_none_in_time(self, store: Store) -> None:
        subscription = store.subscribe(new_run(store))
        wait_for(lambda: subscription.get(0.05) is None, what="a quiet subscription")
        subscription.close()

    def test_a_subscriber_is_notified_of_the_deletion(self, store: Store) -> None:
        run_id = ended(store)
        subscription = store.subscribe(run_id)
        wait_for(lambda: subscription.get(0.2) is None, what="a quiet subscription")
        store.delete(run_id)
        assert wait_for(lambda: subscription.get(0.5) == [], what="the events")
        subscription.close()

    def test_a_subscriber_in_an_event_loop_is_called_once_for_each_time_that_it_is_to_get_something(
        self, store: Store
    ) -> None:
        run_id = new_run(store)
        subscription = store.subscribe(run_id)
        wait_for(lambda: subscription.get(0.2) is None, what="a quiet subscription")
        calls: list[bool] = []
        subscription.on_ready(lambda: calls.append(True))
        assert calls == []
        claimed(store, run_id)
        wait_for(lambda: calls, what="the call")
        assert subscription.get(0) is not None, "and a get returns at once"
        wait_for(lambda: subscription.get(0.2) is None, what="a quiet subscription")
        before = len(calls)
        subscription.wake()
        assert len(calls) == before + 1
        late: list[bool] = []
        subscription.on_ready(lambda: late.append(True))
        assert late == [True], "for what waits already"
        assert subscription.get(0) is None
        subscription.close()

    # -- due ---------------------------------------------------------------------------------------

    def test_a_run_is_due_from_its_time_on_and_held_for_its_taker(self, store: Store) -> None:
        store.schedule("now", now_ms() - 1)
        store.schedule("later", now_ms() + 60_000)
        assert store.backlog() == (2, 1)
        assert [run.run_id for run in store.due(10, 60_000)] == ["now"]
        assert store.due(10, 60_000) == []

    def test_the_longest_overdue_are_taken_first_and_no_more_than_asked_for(self, store: Store) -> None:
        for run_id, late in (("a", 100), ("b", 300), ("c", 200)):
            store.schedule(run_id, now_ms() - late)
        assert [run.run_id for run in store.due(2, 60_000)] == ["b", "c"]
        assert [run.run_id for run in store.due(2, 60_000)] == ["a"]

    def test_a_hold_ends(self, store: Store) -> None:
        store.schedule("r", now_ms() - 1)
        (first,) = store.due(10, 0)
        second = wait_for(lambda: store.due(10, 60_000), what="the hold to end")[0]
        assert second.mark > first.mark
        store.reschedule(first, None)
        assert store.backlog()[0] == 1, "a mark that is gone settles nothing"

    def test_the_earliest_note_counts(self, store: Store) -> None:
        store.schedule("r", now_ms() - 1)
        store.schedule("r", now_ms() + 60_000)
        assert len(store.due(10, 60_000)) == 1

    def test_a_settled_run_is_due_again_at_its_time_or_never(self, store: Store) -> None:
        for run_id in ("never", "again", "later"):
            store.schedule(run_id, now_ms() - 1)
        runs = {run.run_id: run for run in store.due(10, 60_000)}
        store.reschedule(runs["never"], None)
        store.reschedule(runs["again"], now_ms() - 1)
        store.reschedule(runs["later"], now_ms() + 60_000)
        assert [run.run_id for run in store.due(10, 60_000)] == ["again"]
        assert store.backlog() == (2, 0)

    @pytest.mark.parametrize("noted_in", [-1, 1_000, 120_000])
    def test_a_run_noted_while_it_is_held_is_not_settled(self, store: Store, noted_in: int) -> None:
        store.schedule("r", now_ms() - 1)
        (run,) = store.due(10, 60_000)
        store.schedule("r", store.now() + noted_in)  # by the clock that `backlog` goes by
        store.reschedule(run, None)
        assert store.backlog() == (1, int(noted_in < 0))

    def test_a_run_noted_while_it_is_held_is_due_at_the_earlier_of_both_times(self, store: Store) -> None:
        for noted_in, at in ((120_000, -1), (-1, 120_000)):
            store.schedule("r", now_ms() - 1)
            (run,) = store.due(10, 60_000)
            store.schedule("r", store.now() + noted_in)
            store.reschedule(run, store.now() + at)
            (run,) = store.due(10, 60_000)
            assert run.scheduled
        store.reschedule(run, None)
        assert store.backlog() == (0, 0)

    def test_a_taker_learns_whether_somebody_scheduled_the_run_since_it_was_last_checked(self, store: Store) -> None:
        store.schedule("r", now_ms() - 1)
        (run,) = store.due(10, 0)
        assert run.scheduled
        run = wait_for(lambda: store.due(10, 60_000), what="the hold to end")[0]
        assert run.scheduled, "its first taker may have died"
        store.reschedule(run, now_ms() - 1)
        (run,) = store.due(10, 60_000)
        assert not run.scheduled
        store.reschedule(run, now_ms() - 1)
        store.schedule("r", now_ms() + 60_000)
        (run,) = store.due(10, 60_000)
        assert run.scheduled, "though it was due for another reason"

    def test_it_says_which_runs_the_due_index_does_not_have(self, store: Store) -> None:
        store.schedule("a", 1)
        store.schedule("c", now_ms() + 60_000)
        assert store.unscheduled(["a", "b", "c", "d"]) == ["b", "d"]
        assert store.unscheduled([]) == []

    def test_settling_what_was_unlisted_does_nothing(self, store: Store) -> None:
        store.schedule("r", now_ms() - 1)
        (run,) = store.due(10, 60_000)
        store.unlist("r")
        store.reschedule(run, now_ms())
        store.reschedule(DueRun("other", run.mark), now_ms())
        assert store.backlog() == (0, 0)

    # -- idempotency, lists, workers ---------------------------------------------------------------

    def test_an_idempotency_key_is_bound_once(self, store: Store) -> None:
        assert store.remembered("k") is None
        assert store.remember("k", "digest", "run-1") == ("digest", "run-1")
        assert store.remembered("k") == ("digest", "run-1")
        assert store.remember("k", "other", "run-2") == ("digest", "run-1")
        assert store.remember("k2", "other", "run-2") == ("other", "run-2")

    def test_a_thread_has_the_last_of_its_runs_and_the_messages_that_they_took(self, store: Store) -> None:
        assert store.thread("t", ["a"]) is None
        assert not store.extend_thread("t", "run-2", "run-1", {})
        assert store.extend_thread("t", "run-1", None, {"a": "digest"})
        assert store.thread("t", ["a", "b"]) == StoredThread("run-1", None, {"a": ThreadMessage("run-1", "digest")})
        assert store.extend_thread("t", "run-1", "run-1", {"b": "another"})
        assert store.extend_thread("t", "run-2", "run-1", {"c": "third"})
        assert store.thread("t", ["b", "c"]) == StoredThread(
            "run-2", "run-1", {"b": ThreadMessage("run-1", "another"), "c": ThreadMessage("run-2", "third")}
        )
        assert store.thread("another thread") is None

    def test_of_two_that_extend_a_thread_at_once_one_does(self, store: Store) -> None:
        assert store.extend_thread("t", "run-1", None, {"a": "digest"})
        assert not store.extend_thread("t", "run-2", None, {"b": "digest"})
        assert not store.extend_thread("t", "run-2", "run-1", {"a": "digest"}), "it has that message"
        assert store.thread("t", ["a", "b"]) == StoredThread("run-1", None, {"a": ThreadMessage("run-1", "digest")})

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
        states = [state for state in store.loads([two, absent, one]) if not isinstance(state, UnreadableRunError)]
        assert [state and state.record for state in states] == [store.load(two).record, None, store.load(one).record]
        assert all(state is None or state.messages == () for state in states)
        assert store.loads([]) == []

    def test_a_worker_says_of_itself_what_others_read(self, store: Store) -> None:
        about = Worker("a", node="celery@a", pid=7, version="1.0", queues=("q",), started_at=5, clock_ms=-3)
        store.heartbeat("a", 60_000, about)
        store.heartbeat("b", 60_000)  # of a version that says nothing
        assert sorted(store.about_workers(), key=lambda worker: worker.name) == [about, Worker("b")]

    def test_a_steps_lease_shows_its_end_its_attempt_and_who_holds_it_as_long_as_that_one_does(
        self, store: Store
    ) -> None:
        run_id = new_run(store)
        assert store.step_leases(run_id, [1, 2]) == [StepLease(1, 0)]
        lease = claimed(store, run_id).lease
        [held] = store.step_leases(run_id, [1])
        assert (held.attempt, held.worker) == (1, None)
        assert held.until is not None
        assert held.until > store.now()
        store.note_holders([lease], "host:1", 60_000)
        assert store.step_leases(run_id, [1]) == [StepLease(1, 1, held.until, "host:1")]
        store.release(lease, failed=True)
        assert [each.until for each in store.step_leases(run_id, [1])] == [None]
        other = claimed(store, run_id).lease
        assert store.step_leases(run_id, [1])[0].worker is None
        assert other.token != lease.token
        assert store.step_leases(new_id(), [1]) == []

    def test_the_next_check_of_a_run_and_of_all_can_be_read(self, store: Store) -> None:
        assert (store.next_check(), store.next_check("r1")) == (None, None)
        store.schedule("r1", 2_000_000_000_000)
        store.schedule("r2", 1_000_000_000_000)
        assert abs((store.next_check("r1") or 0) - 2_000_000_000_000) <= 1
        assert abs((store.next_check() or 0) - 1_000_000_000_000) <= 1

    def test_a_worker_counts_as_there_for_the_time_it_said(self, store: Store) -> None:
        assert store.workers() == []
        store.heartbeat("b", 60_000)
        store.heartbeat("a", 60_000)
        assert sorted(store.workers()) == ["a", "b"]
        store.heartbeat("b", 1)
        wait_for(lambda: "b" not in store.workers(), what="b to be gone")

    def test_a_queue_counts_as_served_for_the_time_that_was_noted(self, store: Store) -> None:
        assert store.served(["a", "b"]) == []
        store.mark_served("a", 60_000)
        store.mark_served("b", 60_000)
        assert store.served(["b", "c", "a"]) == ["b", "a"]
        store.mark_served("b", 1)
        wait_for(lambda: store.served(["a", "b"]) == ["a"], what="b to be served no more")

    def test_of_all_workers_one_sends_a_probe_in_a_while(self, store: Store) -> None:
        assert [store.begin_probe("a", 60_000) for _ in range(3)] == [True, False, False]
        assert store.begin_probe("b", 1)
        wait_for(lambda: store.begin_probe("b", 60_000), what="the next probe of b")

    def test_a_worker_that_beats_seldom_outlives_one_that_beats_often(self, store: Store) -> None:
        store.heartbeat("slow", 60_000)
        store.heartbeat("quick", 1)
        wait_for(lambda: "quick" not in store.workers(), what="quick to be gone")
        assert store.workers() == ["slow"]
