"""Threads that change the same run take turns, and none waits long."""

from __future__ import annotations

import threading
import time

import pytest

from agentkit.runtime import turn_taking
from agentkit.runtime.turn_taking import TurnTaking
from tests.apps import in_background


def test_one_thread_at_a_time_is_in_the_turn_of_a_run_and_nothing_is_kept_of_it() -> None:
    turns, inside, most = TurnTaking(), [0], [0]

    def change() -> None:
        for _ in range(50):
            with turns.turn("r"):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0)  # another thread's chance
                inside[0] -= 1

    threads = [in_background(change) for _ in range(4)]
    for thread in threads:
        thread.join()
    assert most == [1]
    assert turns._turns == {}


def test_the_turns_of_different_runs_are_taken_side_by_side() -> None:
    turns, both = TurnTaking(), threading.Barrier(2, timeout=5)

    def change(run_id: str) -> None:
        with turns.turn(run_id):
            both.wait()

    thread = in_background(lambda: change("a"))
    change("b")
    thread.join()
    assert not both.broken


def test_who_waited_long_enough_goes_on_without_and_what_is_raised_frees_the_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turn_taking, "MAX_WAIT_SECONDS", 0.05)
    turns, entered, left = TurnTaking(), threading.Event(), threading.Event()

    def stall() -> None:
        with turns.turn("r"):
            entered.set()
            left.wait(5)

    thread = in_background(stall)
    assert entered.wait(5)
    with pytest.raises(ValueError, match="of a change"), turns.turn("r"):
        raise ValueError("of a change")
    left.set()
    thread.join()
    assert turns._turns == {}
