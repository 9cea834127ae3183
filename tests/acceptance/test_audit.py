"""The record of answers over real processes: each answer once, whoever dies, and a chain that holds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentkit.store.redis import RedisStore
from agentkit.testing.store_audit_contract import check_chain
from tests.acceptance.model import script
from tests.acceptance.stack import ROOT, Stack
from tests.turns import call
from tests.waiting import wait_until

YES = {"approved": True}
REFUND = script([call("refund", order_id="A-1", cents=250)], "Done.")
EXPIRING = script([call("ask")], "No answer.")


class Recorded(Stack):
    """A stack whose workers and web processes die where a failpoint says so."""

    def __init__(self, folder: Path) -> None:
        self.worker_fault = folder / "worker.fault"
        self.web_fault = folder / "web.fault"
        settings = {"AGENTKIT_FAILPOINT": str(self.worker_fault), "AGENTKIT_LEASE_SECONDS": "2"}
        super().__init__(folder, settings, {"AGENTKIT_FAILPOINT": str(self.web_fault)})
        self.reader = RedisStore(self.store.url)

    def revive(self) -> None:
        """Start again what died."""
        for process in self.processes:
            if process.process is not None and process.process.poll() is not None:
                process.kill()
        self.repair()

    def paused(self, message: str = REFUND, agent: str = "support") -> tuple[str, str]:
        """A run that waits, and its item."""
        run_id = self.web_b.begin(agent, message)

        def item() -> str | None:
            pending = self.web_b.get(run_id)["pending"]
            return pending[0]["decisionId"] if pending else None

        return run_id, wait_until(item, timeout=20, what="the item", every=0.05) or ""

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of agentkit's."""
        env = {name: value for name, value in self.env.items() if name != "AGENTKIT_FAILPOINT"}
        command = [sys.executable, "-c", "from agentkit.cli import main; main()", *words]
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)

    def entries(self) -> list[dict[str, Any]]:
        """The record's entries, of a chain that holds."""
        check_chain(self.reader)
        return [json.loads(line) for line in self.reader.chain_lines(0, 100_000)]

    def recorded(self, decision_id: str) -> dict[str, Any]:
        """The entry of an item, which comes in time."""

        def found() -> dict[str, Any] | None:
            self.revive()
            return next((entry for entry in self.entries() if entry["decisionId"] == decision_id), None)

        return wait_until(found, timeout=20, what="the answer to be recorded", every=0.1) or {}

    def times(self, decision_id: str) -> int:
        """How many entries an item has, once nothing is left of its run's outbox."""
        [run_id] = {entry["runId"] for entry in self.entries() if entry["decisionId"] == decision_id}
        wait_until(lambda: not self.reader.outbox(run_id), timeout=20, what="the outbox to be empty", every=0.1)
        return sum(entry["decisionId"] == decision_id for entry in self.entries())

    def close(self) -> None:
        self.reader.close()
        super().close()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    installation = Recorded(tmp_path_factory.mktemp("audit"))
    try:
        installation.start(*installation.processes)
        yield installation
    finally:
        installation.close()


@pytest.fixture
def stack(installation: Recorded) -> Recorded:
    installation.worker_fault.write_text("")
    installation.web_fault.write_text("")
    installation.revive()
    return installation


@pytest.mark.parametrize(
    "point",
    ["after commit 1", "before outbox 1", "before record_answer 1", "after record_answer 1", "before remove_entries 1"],
)
def test_a_web_process_dies_between_the_answer_and_its_record(stack: Recorded, point: str) -> None:
    run_id, decision_id = stack.paused()
    stack.web_fault.write_text(point)
    with pytest.raises(httpx.TransportError):
        stack.web_a.resume(run_id, decision=YES)
    wait_until(lambda: not stack.web_fault.read_text(), what="somebody to come to the point")
    stack.revive()
    assert stack.web_b.resume(run_id, decision=YES, decisionId=decision_id).status_code == 202
    entry = stack.recorded(decision_id)
    assert (entry["runId"], entry["outcome"], entry["decision"]) == (run_id, "decided", YES)
    assert wait_until(lambda: stack.web_b.get(run_id)["status"] == "completed", timeout=20)
    assert stack.times(decision_id) == 1


@pytest.mark.parametrize("point", ["before outbox 1", "after record_answer 1", "before removal from outbox 1"])
def test_a_worker_dies_between_an_expiry_and_its_record(stack: Recorded, point: str) -> None:
    stack.worker_fault.write_text(point)
    run_id, decision_id = stack.paused(EXPIRING, "desk")
    entry = stack.recorded(decision_id)
    assert (entry["runId"], entry["outcome"]) == (run_id, "expired")
    wait_until(lambda: not stack.worker_fault.read_text(), what="somebody to come to the point")
    assert stack.times(decision_id) == 1
    listed = stack.web_b.http.get("/decisions", params={"state": "resolved", "tool": "ask"}).json()["decisions"]
    assert [item["decisionId"] for item in listed].count(decision_id) == 1


def test_answers_that_come_at_once_over_several_processes_make_one_chain(stack: Recorded) -> None:
    waiting = [stack.paused() for _ in range(16)]
    before = len(stack.entries())
    webs = (stack.web_a, stack.web_b)

    def answer(number: int) -> int:
        run_id, decision_id = waiting[number % len(waiting)]
        return webs[number % 2].resume(run_id, decision=YES, decisionId=decision_id).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(answer, range(2 * len(waiting))))
    assert set(statuses) == {202}
    wait_until(lambda: len(stack.entries()) >= before + len(waiting), timeout=30, what="the entries", every=0.2)
    entries = stack.entries()[before:]
    assert Counter(entry["decisionId"] for entry in entries) == Counter(item for _, item in waiting)


def test_an_export_is_found_to_be_whole_and_a_changed_one_not(stack: Recorded) -> None:
    run_id, _ = stack.paused()
    assert stack.web_b.resume(run_id, decision=YES).status_code == 202
    export = stack.command("audit", "export")
    assert (export.returncode, export.stderr) == (0, "")
    assert run_id in export.stdout
    file = stack.folder / "answers.jsonl"
    file.write_text(export.stdout)
    checked = stack.command("audit", "verify", str(file))
    assert (checked.returncode, "the chain holds" in checked.stdout) == (0, True), checked.stderr
    file.write_text(export.stdout.replace(run_id, "another"))
    checked = stack.command("audit", "verify", str(file))
    assert (checked.returncode, "was changed" in checked.stderr) == (1, True)
