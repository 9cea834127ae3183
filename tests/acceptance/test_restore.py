"""The restore drill of docs/how-to/back-up.md, with the commands that stand there, on real processes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from tests.acceptance.model import script
from tests.acceptance.stack import ROOT, Stack, events_of
from tests.turns import call
from tests.waiting import wait_until

PAGE = (ROOT / "docs" / "how-to" / "back-up.md").read_text()
BLOCKS = [block.splitlines() for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)]
EXPORT, IMPORT = BLOCKS[0], BLOCKS[-1]

LONG = "This takes longer to say than it takes to write a backup, and is said again from its beginning after that."


def run(commands: list[str], stack: Stack) -> list[str]:
    """Carry out commands of the page; what each prints on its error output."""
    said = []
    for command in commands:
        words = [sys.executable, "-c", "from agentkit.cli import main; main()", *shlex.split(command)[1:]]
        env = {**stack.env, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(words, cwd=stack.folder, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        said.append(done.stderr.strip())
    return said


@pytest.mark.timeout(240)
def test_a_lost_store_is_restored_and_its_runs_go_on(tmp_path: Path) -> None:
    stack = Stack(tmp_path, settings={"AGENTKIT_LEASE_SECONDS": "5"})
    try:
        stack.start(*stack.processes)
        ended = stack.web_a.begin("support", script([call("look_up", order_id="A-1")], "Delivered."))
        paused = stack.web_a.begin("support", script([call("refund", order_id="A-1", cents=5)], "Refunded."))
        asking = script([call("refund", order_id="A-2", cents=7)], "Refunded, too.")
        parent = stack.web_a.begin("boss", script([call("support", input=asking)], "y"))
        stack.wait_for(ended, "completed", timeout=60)
        for run_id in (paused, parent):
            stack.wait_for(run_id, "paused", timeout=60)
        held = stack.web_a.begin("till", script([call("hold")], "Let go."))
        wait_until(lambda: stack.ledger.entries(run=held, tool="hold"), timeout=60, what="the tool to be under way")
        before = {run_id: stack.web_a.sse(run_id, until="pause") for run_id in (ended, paused, parent)}
        shown = stack.web_a.http.get(f"/runs/{ended}").content
        with closing(stack.web_b.follow(held)) as watching:
            seen = list(islice(watching, 3))
        talking = [stack.web_a.begin("support", script(LONG, delay=0.3)) for _ in range(4)]
        with closing(stack.web_b.follow(talking[-1])) as watching:
            next(event for event in watching if event["type"] == "message_update")
        [said] = run(EXPORT, stack)
        assert said == "9 runs exported"

        stack.kill_everything()
        shutil.rmtree(tmp_path / "valkey")
        stack.broker.start()
        dry, done = run(IMPORT, stack)
        assert (dry, done) == ("9 runs would be imported", "9 runs imported")
        stack.repair()

        assert stack.web_a.http.get(f"/runs/{ended}").content == shown
        for run_id, stream in before.items():
            assert stack.web_a.sse(run_id, until="pause") == stream
        assert stack.web_a.resume(paused, decision={"approved": True}).status_code == 202
        stack.wait_for(paused, "completed", timeout=60)
        last = events_of(before[paused])[-1]["seq"]
        log = stack.checked(paused)
        assert events_of(stack.web_b.sse(paused, after=last)) == log[last:]
        assert len(stack.ledger.entries(run=paused, tool="refund")) == 1

        [item] = stack.web_a.get(parent)["pending"]
        assert stack.web_a.resume(parent, decision={"approved": True}, decisionId=item["decisionId"]).status_code == 202
        stack.wait_for(parent, "completed", timeout=60)

        for run_id in talking:
            stack.wait_for(run_id, "completed", timeout=90)
            assert LONG in str(stack.checked(run_id)[-2])
        [item] = stack.wait_for(held, "paused", timeout=60)["pending"]
        assert item["kind"] == "in_doubt"
        assert len(stack.ledger.entries(run=held, tool="hold")) == 1, "it was begun before the backup, and once is once"
        stack.web_a.resume(held, decision={"verdict": "done", "result": "held"}, decisionId=item["decisionId"])
        stack.wait_for(held, "completed", timeout=60)
        log = stack.checked(held)
        assert seen == log[: len(seen)]
        assert events_of(stack.web_b.sse(held, after=len(seen))) == log[len(seen) :]
    finally:
        stack.close()
