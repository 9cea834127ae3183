"""The crash matrix where a worker executes up to 32 steps for one message: whoever dies, each run still ends right.

The points at which a step is committed, handed on or given back: the others have nothing to do with what comes next.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.test_crash_matrix import (
    SIDE_BY_SIDE_POINTS,
    SUB_AGENT,
    CrashStack,
    around,
    check_work,
    do_work,
    meet,
)

# A step that was claimed by the commit before it begins between "after step N" and "before step N + 1".
POINTS = [
    "before step 2",
    "before append 1",
    *around("tool", 1, 2),
    *around("commit", 1, 2, 5),
    "before commit 4",
    "before commit 7",
    "after renew 1",
    "after step 1",
    "after step 4",
]


@pytest.fixture(scope="module")
def series_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrashStack]:
    stack = CrashStack(tmp_path_factory.mktemp("series"), None, steps_per_message=32)
    try:
        stack.start(*stack.processes)
        yield stack
    finally:
        stack.close()


@pytest.fixture
def shared_stack(series_stack: CrashStack) -> CrashStack:
    series_stack.recover()
    return series_stack


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_dies_in_a_series_of_steps_and_another_takes_over(shared_stack: CrashStack, point: str) -> None:
    check_work(shared_stack, do_work(shared_stack, point))


@pytest.mark.parametrize("point", ["after due 1", "after enqueue 1"])
def test_a_worker_dies_before_a_step_that_it_has_claimed_and_then_the_one_that_recovers(
    shared_stack: CrashStack, point: str
) -> None:
    check_work(shared_stack, do_work(shared_stack, "before step 2", point))


@pytest.mark.parametrize("point", SIDE_BY_SIDE_POINTS)
def test_a_worker_dies_in_a_series_with_two_tool_calls_side_by_side(shared_stack: CrashStack, point: str) -> None:
    meet(shared_stack, point)


@pytest.mark.parametrize("point", ["after create 1", "before notify parent 1"])
def test_a_worker_dies_in_a_series_between_a_run_and_its_sub_agent(shared_stack: CrashStack, point: str) -> None:
    run = do_work(shared_stack, point, agent="boss", message=SUB_AGENT)
    [result] = [message for message in run["messages"] if message["role"] == "toolResult"]
    assert result["content"][0]["text"] == "The money is back."
