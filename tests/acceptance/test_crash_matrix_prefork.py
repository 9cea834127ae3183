"""The crash matrix on real prefork pools, with a second installation on the same Redis: nothing of either is lost.

What dies at a point is a process of the pool, which Celery replaces, or, in recovery, the worker itself. A part of the
points, of each kind: the store and the engine are the same as on threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.acceptance.model import script
from tests.acceptance.stack import WebProcess, WorkerProcess
from tests.acceptance.test_crash_matrix import (
    MAX_ATTEMPTS,
    SUB_AGENT,
    WORK,
    CrashStack,
    around,
    check_work,
    do_work,
    meet,
)
from tests.turns import call
from tests.waiting import wait_until

PREFORK = ("-P", "prefork", "-c", "2")
POINTS = ["before step 1", "after claim 1", "after append 4", *around("tool", 2), *around("commit", 5), "after step 1"]


class Shared(CrashStack):
    """A stack of prefork workers; beside it, on the same Redis, the worker and the web process of another prefix."""

    def __init__(self, folder: object) -> None:
        super().__init__(folder, None, PREFORK)
        env = {key: value for key, value in self.env.items() if key != "AGENTKIT_FAILPOINT"}
        env["AGENTKIT_KEY_PREFIX"] = "neighbour:"
        self.neighbour = WebProcess("web-neighbour", env, self.folder)
        self.neighbours_worker = WorkerProcess("worker-neighbour", env, self.folder, PREFORK)

    def start_all(self) -> None:
        self.start(*self.processes, self.neighbour, self.neighbours_worker)

    def close(self) -> None:
        self.neighbour.kill()
        self.neighbours_worker.kill()
        super().close()


@pytest.fixture(scope="module")
def prefork_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    stack = Shared(tmp_path_factory.mktemp("prefork"))
    try:
        stack.start_all()
        yield stack
    finally:
        stack.close()


@pytest.fixture
def shared_stack(prefork_stack: Shared) -> Iterator[Shared]:
    """Arms nothing; after the test, what the other installation was given meanwhile is done, and done once."""
    prefork_stack.recover()
    message = script([call("look_up", order_id="N-1")], "Here next door.")
    run_id = prefork_stack.neighbour.begin("till", message)
    yield prefork_stack
    web = prefork_stack.neighbour
    wait_until(lambda: web.get(run_id)["status"] == "completed", timeout=20, what="the neighbour's run")
    assert len(prefork_stack.ledger.entries(run=run_id, tool="look_up")) == 1
    assert prefork_stack.web_b.http.get(f"/runs/{run_id}").status_code == 404


@pytest.mark.parametrize("point", POINTS)
def test_a_process_of_a_pool_dies_and_its_run_ends_right(shared_stack: Shared, point: str) -> None:
    check_work(shared_stack, do_work(shared_stack, point))
    assert all(worker.process is not None and worker.process.poll() is None for worker in shared_stack.workers)


@pytest.mark.parametrize("point", ["after due 1", "after enqueue 1"])
def test_a_process_of_a_pool_dies_and_then_the_worker_that_recovers(shared_stack: Shared, point: str) -> None:
    check_work(shared_stack, do_work(shared_stack, "before claim 2", point))


@pytest.mark.parametrize("point", ["after commit_call 1", "after commit_call 2"])
def test_a_process_of_a_pool_dies_with_two_tool_calls_side_by_side(shared_stack: Shared, point: str) -> None:
    meet(shared_stack, point)


def test_a_process_of_a_pool_dies_between_a_run_and_its_sub_agent(shared_stack: Shared) -> None:
    run = do_work(shared_stack, "after create 1", agent="boss", message=SUB_AGENT)
    [result] = [message for message in run["messages"] if message["role"] == "toolResult"]
    assert result["content"][0]["text"] == "The money is back."


def test_a_step_that_kills_each_process_of_a_pool_ends_its_run_and_no_other(shared_stack: Shared) -> None:
    stack = shared_stack
    run_id = stack.begin("till", script([call("fatal")], "Never said."))
    with ThreadPoolExecutor() as threads:
        others = [threads.submit(stack.begin, "till", WORK) for _ in range(3)]
        run = stack.finish(run_id)
    assert (run["status"], run["error"]["code"]) == ("failed", "step_failed")
    assert len({death["pid"] for death in stack.ledger.entries(tool="fatal", run=run_id)}) == MAX_ATTEMPTS
    for other in others:
        check_work(stack, stack.finish(other.result()))
