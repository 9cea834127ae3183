"""The backoff: its bounds, its cap and its jitter."""

from __future__ import annotations

import pytest

from agentkit.core.backoff import Backoff


@pytest.mark.parametrize(("attempt", "longest"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 3.0), (5, 3.0), (10_000, 3.0)])
def test_the_longest_wait_doubles_with_each_attempt_up_to_the_cap(attempt: int, longest: float) -> None:
    assert Backoff(base=0.5, cap=3).longest(attempt) == longest


def test_waits_are_spread_over_the_whole_range() -> None:
    waits = [Backoff(base=1, cap=100).delay(3) for _ in range(1000)]
    assert all(0 <= wait <= 4 for wait in waits)
    assert min(waits) < 1
    assert max(waits) > 3


def test_a_base_of_zero_never_waits() -> None:
    assert Backoff(base=0, cap=10).delay(7) == 0
