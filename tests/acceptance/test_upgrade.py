"""A rolling upgrade from the agentkit of tests/upgrade to this one, with runs, people and watchers, on one store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.model import script
from tests.acceptance.stack import ROOT, Process, Stack, WebProcess
from tests.acceptance.test_deploys import decide, watch
from tests.turns import call
from tests.waiting import wait_until

[ARCHIVE] = (ROOT / "tests" / "upgrade").glob("agentkit-*.zip")
SECONDS = 120.0
TURNS = (
    [{"type": "text", "text": "I ask for the refund."}, call("refund", order_id="A-1")],
    [call("look_up", order_id="A-1"), call("look_up", order_id="A-2")],
    [call("look_up", order_id="A-3")],
    "All of it has been refunded, and this is said slowly enough to be watched.",
)


class Upgrade:
    """A stack whose processes run the archive's code, each until it is started anew by `upgrade`."""

    def __init__(self, folder: Path) -> None:
        self.old = folder / "old"
        shutil.unpack_archive(ARCHIVE, self.old)
        settings = {"AGENTKIT_APP": "tests.upgrade.app:kit", "PYTHONPATH": f"{self.old}:{ROOT}"}
        self.stack = Stack(folder, settings=settings)
        self.rolled: list[Process] = [*self.stack.workers, self.stack.web_a, self.stack.web_b]
        for process in self.rolled:
            process.use({**self.stack.env}, folder)  # not here: a program's folder goes before PYTHONPATH

    def upgrade(self, process: Process) -> None:
        if process.process is not None:
            process.stop()
        process.use({**self.stack.env, "PYTHONPATH": str(ROOT)}, ROOT)
        process.start()

    def codes(self, run_id: str) -> list[str]:
        """The code that executed each of the run's tools, in their order: the name of the folder that it lies in."""
        return [entry["code"] for entry in self.stack.ledger.entries(run=run_id)]


@pytest.fixture
def upgrade(tmp_path: Path) -> Iterator[Upgrade]:
    made = Upgrade(tmp_path)
    try:
        yield made
    finally:
        made.stack.close()


def is_mixed(codes: list[str], first: str) -> bool:
    """Whether a run went on with other code after this one's."""
    return codes[:1] == [first] and len(set(codes)) == 2


@pytest.mark.timeout(420)
def test_runs_go_on_through_a_rolling_upgrade_by_old_and_new_workers_in_turn(upgrade: Upgrade) -> None:
    stack = upgrade.stack
    stack.start(*stack.processes)
    began: list[str] = []
    watchers: list[Future[list[dict[str, Any]]]] = []
    deciders: list[Future[None]] = []
    with ThreadPoolExecutor(64) as people:

        def begin(count: int, by: WebProcess) -> None:
            for _ in range(count):
                began.append(by.begin("support", script(*TURNS, name=f"rolling {len(began)}", delay=0.02)))
                watchers.append(people.submit(watch, stack, began[-1], len(began) % 2))
                deciders.append(people.submit(decide, stack, began[-1], len(began) % 2))

        # What waits and what is under way when the old code is stopped.
        paused = stack.web_a.begin("support", script(*TURNS))
        asking = script([call("refund", order_id="A-2")], "Refunded, too.")
        parent = stack.web_a.begin("boss", script([call("support", input=asking)], "It is done."))
        for run_id in (paused, parent):
            stack.wait_for(run_id, "paused", timeout=SECONDS)
        seen = {run_id: stack.web_a.sse(run_id, until="pause") for run_id in (paused, parent)}
        held = stack.web_a.begin("support", script([call("hold")], "Let go."))
        entry = wait_until(lambda: stack.ledger.entries(run=held), timeout=SECONDS, what="the tool to be under way")[0]
        begin(3, stack.web_a)

        # One worker dies within a tool, and its place is taken by a new one beside an old one.
        holder = next(worker for worker in stack.workers if worker.pid == entry["pid"])
        other = next(worker for worker in stack.workers if worker is not holder)
        holder.kill()
        upgrade.upgrade(holder)
        begin(3, stack.web_b)

        def both_ways() -> bool:
            begin(1, stack.web_a)
            codes = [upgrade.codes(run_id) for run_id in began]
            return any(is_mixed(each, "old") for each in codes) and any(is_mixed(each, ROOT.name) for each in codes)

        wait_until(both_ways, timeout=SECONDS, what="runs to go from old to new and from new to old", every=1)
        begin(2, stack.web_a)
        upgrade.upgrade(stack.web_a)
        begin(2, stack.web_a)  # the new web process, and an old worker among two
        upgrade.upgrade(other)
        begin(2, stack.web_b)
        upgrade.upgrade(stack.web_b)

        # All is new now, and what the old code has left is finished.
        for run_id, stream in seen.items():
            assert stack.web_b.sse(run_id, until="pause") == stream
            [item] = stack.web_a.get(run_id)["pending"]
            answer = stack.web_b.resume(run_id, decision={"approved": True}, decisionId=item["decisionId"])
            assert answer.status_code == 202, answer.text
        [item] = stack.wait_for(held, "paused", timeout=SECONDS)["pending"]
        assert item["kind"] == "in_doubt"
        verdict = {"verdict": "done", "result": "held"}
        assert stack.web_a.resume(held, decision=verdict, decisionId=item["decisionId"]).status_code == 202
        for run_id in (paused, parent, held):
            stack.wait_for(run_id, "completed", timeout=SECONDS)
            stack.checked(run_id)
        assert len(stack.ledger.entries(run=held)) == 1
        for decider in deciders:
            decider.result(SECONDS)
        logs = [watcher.result(SECONDS) for watcher in watchers]
    for number, run_id in enumerate(began):
        assert stack.checked(run_id) == logs[number]
        calls = {entry["key"] for entry in stack.ledger.entries(run=run_id)}
        assert len(calls) == 4, "each tool call was executed"
        refunds = stack.ledger.entries(run=run_id, tool="refund")
        assert {entry["attempt"] for entry in refunds} <= {1, 2}
    assert {entry["code"] for entry in stack.ledger.entries(run=paused)} == {ROOT.name}
