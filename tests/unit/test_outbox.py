"""What a commit causes outside its run is carried out, whatever fails between the commit and that."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from agentkit.core.events import AgentEnd, AgentPause
from agentkit.core.ids import new_id
from agentkit.core.outbox import OutboxEntry
from agentkit.core.record import Change
from agentkit.errors import AgentKitError, StoreUnavailableError
from agentkit.store.memory import MemoryStore
from agentkit.testing.store import Clock
from tests.apps import App
from tests.flaky_store import FlakyStore
from tests.tools import YES, refund
from tests.turns import call


class Stops:
    """Keeps what was carried out, as (run id, entry id, status): of each pause and each end, as often as it is done."""

    kind = "stop"

    def __init__(self) -> None:
        self.done: list[tuple[str, str, str]] = []
        self.error: Exception | None = None
        self.later: int | None = None

    def entries(self, change: Change) -> Iterable[OutboxEntry]:
        for event in change.events:
            if isinstance(event, AgentEnd | AgentPause):
                yield OutboxEntry(new_id(), self.kind, {"status": str(change.record.status)})

    def carry_out(self, run_id: str, entry: OutboxEntry, *, again: bool) -> int | None:
        if self.error is not None:
            raise self.error
        self.done.append((run_id, entry.id, entry.data["status"]))
        return self.later

    @property
    def statuses(self) -> list[str]:
        return [status for _, _, status in self.done]


class Place:
    """An application whose pauses and ends cause something, on a store whose clock a test moves."""

    def __init__(self, *turns: Any, tools: Any = (), **fault: Any) -> None:
        self.clock = Clock()
        self.store = FlakyStore(MemoryStore(retention_seconds=3600, clock=self.clock.now), **fault)
        self.app = App(*turns, tools=tools, store=self.store, retention_seconds=3600)
        self.stops = Stops()
        self.outbox = self.app.kit._engine.committer.outbox
        self.outbox.add(self.stops)

    def dies_before_carrying_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(self.outbox, "carry_out", lambda run_id, entries: None)

    def sweep_after(self, seconds: float) -> int:
        self.clock.ms += round(seconds * 1000)
        return self.app.kit.recovery().sweep()


def test_what_a_commit_causes_is_done_at_once_and_removed() -> None:
    place = Place([call("refund")], "done", tools=[refund])
    run_id = place.app.run()
    assert place.stops.statuses == ["paused"]
    place.app.kit.resume(run_id, YES)
    place.app.work()
    assert place.stops.statuses == ["paused", "completed"]
    assert place.store.outbox(run_id) == []
    assert not place.store.load(run_id).outbox


def test_a_commit_that_causes_nothing_asks_the_store_for_nothing_more() -> None:
    counts = []
    for acts in (False, True):
        app = App("done")
        app.store = FlakyStore()
        app.another_worker()
        if acts:
            silent = Stops()
            silent.entries = lambda change: ()  # type: ignore[method-assign]
            app.kit._engine.committer.outbox.add(silent)
        app.run()
        counts.append(app.store.count)
    assert counts[0] == counts[1]
    assert not {"outbox", "take_entry", "remove_entries"} & counts[0].keys()


@pytest.mark.parametrize("ending", ["pause", "end", "abort"])
def test_what_a_crash_left_is_found_by_recovery_within_a_lease_time(
    ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place([call("refund")], "done", tools=[refund]) if ending != "end" else Place("done")
    place.dies_before_carrying_out(monkeypatch)
    run_id = place.app.run()
    if ending == "abort":
        place.app.kit.abort(run_id)
    left = {"pause": ["paused"], "end": ["completed"], "abort": ["paused", "aborted"]}[ending]
    assert len(place.store.outbox(run_id)) == len(left)
    place.sweep_after(31)
    assert place.stops.statuses == left
    assert place.store.outbox(run_id) == []
    place.sweep_after(31)
    assert place.stops.statuses == left


def test_what_cannot_be_done_is_tried_again_until_it_is_and_keeps_no_run_from_going_on() -> None:
    place = Place([call("refund")], "done", tools=[refund])
    place.stops.error = AgentKitError("away")
    run_id = place.app.run()
    for error in (AgentKitError("away"), ValueError("a mistake"), StoreUnavailableError()):
        place.stops.error = error
        if isinstance(error, StoreUnavailableError):
            with pytest.raises(StoreUnavailableError):
                place.sweep_after(31)
        else:
            place.sweep_after(31)
        assert len(place.store.outbox(run_id)) == 1
    place.app.kit.resume(run_id, YES)
    place.app.work()
    assert place.app.check(run_id).status == "completed"
    assert len(place.store.outbox(run_id)) == 2
    place.stops.error = None
    place.sweep_after(31)
    assert place.stops.statuses == ["paused", "completed"]


def test_what_is_done_by_somebody_else_stays_and_is_seen_to_again_at_its_time() -> None:
    place = Place("done")
    place.stops.later = place.clock.ms + 600_000
    run_id = place.app.run()
    assert len(place.store.outbox(run_id)) == 1
    place.sweep_after(31)
    assert len(place.stops.done) == 2
    place.sweep_after(500)
    assert len(place.stops.done) == 2
    place.stops.later = None
    place.sweep_after(70)
    assert len(place.stops.done) == 3
    assert place.store.outbox(run_id) == []


def test_an_entry_that_is_due_later_is_left_until_then() -> None:
    place = Place("done")
    place.stops.later = place.clock.ms + 1000
    run_id = place.app.run()
    [entry] = place.store.outbox(run_id)
    taken = place.store.take_entry(run_id, entry.id, 300_000)
    assert taken is not None
    place.sweep_after(31)
    place.sweep_after(200)
    assert len(place.stops.done) == 1
    place.stops.later = None
    place.sweep_after(100)
    assert len(place.stops.done) == 2


def test_the_end_of_a_run_and_its_deletion_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for gone in ("expired", "deleted"):
        place = Place("done")
        place.dies_before_carrying_out(monkeypatch)
        run_id = place.app.run()
        if gone == "deleted":
            place.app.kit.delete(run_id)
        else:
            place.clock.ms += 3_700_000
        assert place.store.loads([run_id]) == [None]
        place.sweep_after(31)
        assert place.stops.statuses == ["completed"]
        assert place.store.outbox(run_id) == []
        place.sweep_after(31)
        assert place.store.backlog() == (0, 0)


def test_an_entry_that_no_process_here_knows_waits_for_one_that_does(caplog: pytest.LogCaptureFixture) -> None:
    place = Place("done")
    place.stops.error = AgentKitError("away")
    run_id = place.app.run()
    other = App(store=place.store).another_worker()
    place.clock.ms += 31_000
    other.kit.recovery().sweep()
    assert "cannot carry out 'stop'" in caplog.text
    place.stops.error = None
    place.sweep_after(31)
    assert place.stops.statuses == ["completed"]
    assert place.store.outbox(run_id) == []


def test_what_was_done_and_not_removed_is_done_again_under_the_same_id() -> None:
    place = Place("done", fail={"remove_entries": 1})
    place.app.run()
    place.sweep_after(31)
    first, second = place.stops.done
    assert first == second
