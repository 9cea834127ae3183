"""When the streams of a process are collected: all at the same times, and more seldom where a round costs much."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from agentkit.core.record import Lease
from agentkit.errors import StoreError
from agentkit.runtime.flusher import Flusher
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import Append, Appended, LeaseStatus
from tests.waiting import wait_until


def times(flusher: Flusher, place: int, *, followed: bool) -> tuple[float, float, float]:
    """Ask when to collect: earliest and latest time that the answer may stand for, and how long it is."""
    before = time.monotonic()
    seconds = flusher.collected_in(place, followed=followed)
    return before + seconds, time.monotonic() + seconds, seconds


@pytest.mark.parametrize(("followed", "groups"), [(True, 1), (False, 4)])
def test_the_runs_of_a_group_are_collected_at_the_same_times_and_not_just_after_now(
    followed: bool, groups: int
) -> None:
    flusher = Flusher(MemoryStore(), 1000.0, 8000.0)
    window = flusher.window(followed=followed)
    for place in range(50):
        earliest, latest, seconds = times(flusher, place, followed=followed)
        assert window / 4 <= seconds <= 1.25 * window + 1
        turn = place % groups * window / groups
        assert (latest - turn) % window < 1 or (earliest - turn) % window > window - 1


def test_each_run_gets_the_next_place() -> None:
    flusher = Flusher(MemoryStore(), 1.0, 1.0)
    assert [flusher.new_place() for _ in range(3)] == [0, 1, 2]


def test_nothing_is_collected_where_each_delta_is_written_by_itself() -> None:
    flusher = Flusher(MemoryStore(), 0.0, 1.0)
    assert [flusher.collected_in(0, followed=followed) for followed in (True, False)] == [0.0, 0.0]
    assert [flusher.window(followed=followed) for followed in (True, False)] == [0.0, 0.0]


class Slow:
    """A buffer on whose round the processor works for so long."""

    def __init__(self, cpu_seconds: float) -> None:
        self._cpu_seconds = cpu_seconds
        self.rounds = 0

    def begin(self) -> Append | None:
        until = time.thread_time() + self._cpu_seconds
        while time.thread_time() < until:
            pass
        return Append(Lease("run", 1, 1, 1), [], self.rounds)

    def end(self, outcome: Appended | StoreError) -> None:
        self.rounds += 1


class Followed(MemoryStore):
    """Says of every run that so many follow it."""

    def __init__(self, receivers: int) -> None:
        super().__init__()
        self._receivers = receivers

    def append(self, appends: Sequence[Append]) -> list[Appended | StoreError]:
        return [Appended(LeaseStatus.HELD, self._receivers)] * len(appends)


def test_windows_are_longer_where_a_round_costs_much_and_are_short_again_afterwards() -> None:
    flusher = Flusher(Followed(1), 0.01, 0.01)
    slow, quick = Slow(0.02), Slow(0.0)

    def go_on(buffer: Slow) -> bool:
        flusher.flush_at(buffer, time.monotonic())
        return flusher.window(followed=True) >= 0.08 if buffer is slow else flusher.window(followed=True) < 0.08

    wait_until(lambda: go_on(slow), timeout=60, what="longer windows")
    wait_until(lambda: go_on(quick), timeout=60, what="shorter windows")
    assert slow.rounds


def test_windows_stay_as_they_are_where_what_costs_much_is_followed_by_nobody() -> None:
    flusher = Flusher(Followed(0), 0.01, 0.01)
    slow = Slow(0.02)
    for rounds in range(30):
        flusher.flush_at(slow, time.monotonic())
        wait_until(lambda rounds=rounds: slow.rounds > rounds, timeout=60, what="a round")
    assert flusher.window(followed=True) == 0.01


def test_many_runs_are_collected_in_groups_each_in_its_part_of_the_window() -> None:
    flusher = Flusher(Followed(1), 0.2, 0.2)
    buffers = [Slow(0.0) for _ in range(130)]

    def turns() -> set[int]:
        """Say in which eighths of a window the first places have their turns."""
        flusher_now = [times(flusher, place, followed=True) for place in range(4)]
        first = flusher_now[0][0]
        return {round((earliest - first) / flusher.window(followed=True) * 8) % 8 for earliest, _, _ in flusher_now}

    def go_on() -> bool:
        rounds = buffers[0].rounds
        for buffer in buffers:
            flusher.flush_at(buffer, time.monotonic())
        wait_until(lambda: buffers[0].rounds > rounds, timeout=60, what="a round")
        return len(turns()) == 4

    assert turns() == {0}
    wait_until(go_on, timeout=60, what="groups")
    assert turns() == {0, 2, 4, 6}
