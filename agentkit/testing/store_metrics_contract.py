"""What every store promises of what processes report: counts that never fall, and levels that fade. Part of
`StoreContract`."""

from __future__ import annotations

import threading

import pytest

from agentkit.core.ids import new_id, random_id
from agentkit.core.record import ENDED_LISTS
from agentkit.store.protocol import Store, Totals
from agentkit.testing.store_changes import wait_for

__all__ = ["MetricsContract"]

TTL_MS = 60_000


class MetricsContract:
    """`StoreContract` supplies `store`."""

    def test_nothing_is_counted_before_the_first_report(self, store: Store) -> None:
        assert store.totals() == Totals({}, {})

    def test_counts_of_all_processes_add_up_under_any_name(self, store: Store) -> None:
        store.report("one", 1, {'["runs","ü"]': 1, "cost": 0.25}, {}, TTL_MS)
        store.report("two", 1, {'["runs","ü"]': 2}, {}, TTL_MS)
        store.report("one", 2, {"cost": 1e-9, "tokens": 10**12}, {}, TTL_MS)
        counts = store.totals().counts
        assert counts == {'["runs","ü"]': 3, "cost": pytest.approx(0.250000001, abs=1e-12), "tokens": 10**12}

    def test_a_report_that_is_made_again_adds_nothing(self, store: Store) -> None:
        for number in (1, 1, 2, 1, 2):
            store.report("one", number, {"n": number}, {"open": number}, TTL_MS)
        assert store.totals() == Totals({"n": 3}, {"open": 2})

    def test_levels_are_the_sum_of_what_each_process_said_last(self, store: Store) -> None:
        store.report("one", 1, {}, {"open": 3, "busy": 1}, TTL_MS)
        store.report("two", 1, {}, {"open": 4}, TTL_MS)
        store.report("one", 2, {}, {"open": 2}, TTL_MS)
        assert store.totals() == Totals({}, {"open": 6})
        store.report("two", 2, {}, {}, TTL_MS)
        assert store.totals() == Totals({}, {"open": 2})

    def test_the_levels_of_a_process_that_reports_no_more_fade_and_its_counts_stay(self, store: Store) -> None:
        store.report("dead", 1, {"n": 1}, {"open": 5}, 50)
        store.report("live", 1, {"n": 1}, {"open": 1}, TTL_MS)
        wait_for(lambda: store.totals() == Totals({"n": 2}, {"open": 1}), "the levels to fade")
        store.report("dead", 2, {"n": 1}, {"open": 5}, TTL_MS)
        assert store.totals() == Totals({"n": 3}, {"open": 6})

    def test_nothing_is_lost_where_many_report_at_once(self, store: Store) -> None:
        def report() -> None:
            process = random_id()
            for number in range(1, 11):
                store.report(process, number, {"n": 1, "seconds": 0.5}, {"open": 1}, TTL_MS)

        threads = [threading.Thread(target=report) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert store.totals() == Totals({"n": 80, "seconds": 40}, {"open": 8})

    def test_ended_runs_are_counted_as_long_as_they_are_listed(self, store: Store) -> None:
        runs = [new_id() for _ in range(4)]
        for run_id, status in zip(runs, ENDED_LISTS, strict=False):
            store.index(run_id, "ann", agent="a", status=status)
        store.index(runs[3], status="active")
        store.index(runs[3], status="paused")
        assert store.count_ended() == 3
        store.index(runs[3], status="completed")
        store.unlist(runs[0])
        assert store.count_ended() == 3
