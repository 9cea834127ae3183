"""Of the calls that end side by side in one process the last one knows that it is, when the others are done."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentkit.core.record import Lease
from agentkit.runtime import side_by_side
from agentkit.runtime.side_by_side import SideBySide
from tests.apps import in_background
from tests.waiting import wait_until


def lease_of(step: int, run_id: str = "r") -> Lease:
    return Lease(run_id, step, token=step, attempt=1)


def fail(calls: SideBySide, ends: Lease | None) -> None:
    if ends is not None:
        assert not calls.ends_last(ends)
    raise ValueError("of a call")


def test_of_calls_that_end_at_once_the_last_one_ends_after_the_others_and_nothing_is_kept_of_them() -> None:
    calls, together, done = SideBySide(), threading.Barrier(16), []

    def execute(step: int) -> bool:
        with calls.executing(lease_of(step)):
            together.wait(5)
            is_last = calls.ends_last(lease_of(step))
            done.append(step)
        return is_last

    with ThreadPoolExecutor(16) as pool:
        last = [step for step, is_last in enumerate(pool.map(execute, range(16))) if is_last]
    assert last == done[-1:]
    assert calls._runs == {}


def test_a_call_is_not_the_last_while_another_is_executed_and_is_beside_another_runs() -> None:
    calls = SideBySide()
    with calls.executing(lease_of(1)), calls.executing(lease_of(2, "other")):
        with calls.executing(lease_of(3)):
            assert not calls.ends_last(lease_of(3))
        assert calls.ends_last(lease_of(1))


def test_a_call_that_fails_is_not_waited_for() -> None:
    calls = SideBySide()
    with calls.executing(lease_of(1)):
        for step, comes_to_its_end in ((2, False), (3, True)):
            with pytest.raises(ValueError, match="of a call"), calls.executing(lease_of(step)):
                fail(calls, lease_of(step) if comes_to_its_end else None)
        assert calls.ends_last(lease_of(1))
    assert calls._runs == {}


def test_a_call_that_comes_while_the_last_one_ends_waits_for_it() -> None:
    calls, ended = SideBySide(), []
    with calls.executing(lease_of(1)):
        assert calls.ends_last(lease_of(1))

        def come() -> None:
            with calls.executing(lease_of(2)):
                assert calls.ends_last(lease_of(2))
                ended.append(2)

        thread = in_background(come)
        wait_until(lambda: calls._runs["r"].ending == [lease_of(1), lease_of(2)], what="the other one's end")
        ended.append(1)
    thread.join()
    assert ended == [1, 2]


def test_who_waited_long_enough_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "MAX_WAIT_SECONDS", 0.05)
    calls = SideBySide()
    with calls.executing(lease_of(1)), calls.executing(lease_of(2)):
        assert not calls.ends_last(lease_of(1))
        assert calls.ends_last(lease_of(2))
