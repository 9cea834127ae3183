"""The crash matrix on a Redis Cluster as the store, beside a broker of its own: each run still ends right.

A part of the points, of each kind: the engine is the same as on one server, and what it writes is spread over three.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.test_crash_matrix import (
    SUB_AGENT,
    CrashStack,
    around,
    check_work,
    do_work,
    meet,
)
from tests.brokers import ValkeyBroker
from tests.servers import ClusterServers, ValkeyServer

POINTS = [
    "after claim 1",
    "after append 4",
    "after tool 2",
    *around("commit", 5),
    "before schedule 1",
    "after step 1",
]


@pytest.fixture(scope="module")
def cluster_stack(tmp_path_factory: pytest.TempPathFactory, other_redis: ValkeyServer) -> Iterator[CrashStack]:
    folder = tmp_path_factory.mktemp("cluster")
    stack = CrashStack(folder, ValkeyBroker(other_redis), store=ClusterServers(folder / "store"))
    try:
        stack.start(*stack.processes)
        yield stack
    finally:
        stack.close()


@pytest.fixture
def shared_stack(cluster_stack: CrashStack) -> CrashStack:
    cluster_stack.recover()
    return cluster_stack


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_dies_and_another_takes_over(shared_stack: CrashStack, point: str) -> None:
    check_work(shared_stack, do_work(shared_stack, point))


@pytest.mark.parametrize("point", ["after due 1", "after enqueue 1"])
def test_a_worker_dies_and_then_the_one_that_recovers(shared_stack: CrashStack, point: str) -> None:
    check_work(shared_stack, do_work(shared_stack, "before claim 2", point))


@pytest.mark.parametrize("point", around("commit_call", 2))
def test_a_worker_dies_with_two_tool_calls_side_by_side(shared_stack: CrashStack, point: str) -> None:
    meet(shared_stack, point)


@pytest.mark.parametrize("point", ["after create 1", "before notify parent 1"])
def test_a_worker_dies_between_a_run_and_its_sub_agent_which_have_slots_of_their_own(
    shared_stack: CrashStack, point: str
) -> None:
    run = do_work(shared_stack, point, agent="boss", message=SUB_AGENT)
    [result] = [message for message in run["messages"] if message["role"] == "toolResult"]
    assert result["content"][0]["text"] == "The money is back."
    shared_stack.check(result["details"]["runId"])
