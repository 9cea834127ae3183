"""What somebody on call sees of real workers: one that was killed, one that serves other queues, and what waits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, AgentKit, ScriptedModel, Settings
from agentkit.cli.main import main
from tests.acceptance.model import script
from tests.acceptance.stack import Stack, WorkerProcess
from tests.turns import call
from tests.waiting import wait_until

ASKS = script([call("refund", order_id="A-1", cents=250)], "Done.")
LEASE = 40


@pytest.fixture
def prefork_stack(tmp_path: Path) -> Iterator[Stack]:
    """A worker whose children execute its steps, with leases that outlast its heartbeat by far."""
    stack = Stack(tmp_path, settings={"AGENTKIT_LEASE_SECONDS": str(LEASE)}, pool=("-P", "prefork", "-c", "2"))
    try:
        stack.start(stack.model, stack.web_a, stack.workers[0])
        yield stack
    finally:
        stack.close()


def agentkit(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[Any, str, str]:
    """Give a command in this process, whose environment names the store."""
    with pytest.raises(SystemExit) as exit_:
        main(words)
    return exit_.value.code, *capsys.readouterr()


def why(stack: Stack, run_id: str) -> Any:
    answer = stack.web_a.http.get(f"/runs/{run_id}/why")
    assert answer.status_code == 200, answer.text
    return answer.json()


def wait_for_why(stack: Stack, run_id: str, *waits_for: str) -> Any:
    def explained() -> Any:
        found = why(stack, run_id)
        return found if found["waitsFor"] in waits_for else None

    return wait_until(explained, timeout=20, what=f"the run to wait for {' or '.join(waits_for)}", every=0.1)


def test_a_killed_workers_lease_has_a_name_and_an_end(
    prefork_stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stack, worker = prefork_stack, prefork_stack.workers[0]
    silent = stack.web_a.begin("support", script("Never ends.", silent=True))
    paused = stack.web_a.begin("support", ASKS)
    wait_for_why(stack, paused, "people")
    held = wait_until(
        lambda: next((step for step in why(stack, silent)["steps"] if "worker" in step), None),
        timeout=20,
        what="the name of the worker that holds the step",
    )
    assert held is not None
    name = held["worker"]
    assert (name.endswith(f":{worker.pid}"), held["workerAlive"]) == (True, True)
    report = stack.web_a.http.get("/doctor").json()
    [about] = report["workers"]
    assert (about["name"], about["pool"], about["concurrency"], about["queues"]) == (name, "prefork", 2, ["agentkit"])
    assert [finding for finding in report["findings"] if finding["status"] == "fail"] == []

    worker.kill()
    gone = wait_for_why(stack, silent, "lease")
    assert 0 < gone["steps"][0]["leaseUntil"] - gone["checkedAt"] <= LEASE * 1000
    monkeypatch.setenv("AGENTKIT_REDIS_URL", stack.store.url)
    code, out, _ = agentkit(capsys, "why", silent, "--direct")
    assert (code, f"held by worker {name}" in out, "its lease ends in" in out) == (0, True, True)


def test_a_run_whose_model_is_tried_again_says_when(stack: Stack) -> None:
    run_id = stack.web_a.begin("unhurried", script("Late.", name="why", busy=1, retry_after=30))
    found = wait_for_why(stack, run_id, "retry", "rate")
    assert 0 < found["steps"][0]["dueAt"] - found["checkedAt"] <= 40_000
    assert found["errors"] != []
    stack.web_a.abort(run_id)


def test_a_run_whose_queue_nobody_serves_is_found_and_ended_without_a_web_server(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {**stack.env, "AGENTKIT_KEY_PREFIX": "operating:"}
    settings = Settings(redis_url=stack.store.url, key_prefix="operating:")
    elsewhere = WorkerProcess("elsewhere", env, tmp_path, options=("--without-mingle", "-Q", "elsewhere"))
    try:
        elsewhere.start()
        with AgentKit([Agent("support", ScriptedModel(["x"]))], settings=settings) as kit:
            run_id = kit.start("support", "go").id
            wait_until(kit.store.workers, timeout=20, what="the worker's heartbeat")
            found = kit.why(run_id)
            assert (found.waits_for, "operating, which no worker serves" in found.summary) == ("queue", True)
            report = kit.doctor({})
            assert report.status == "fail"
            [queue] = [each.text for each in report.findings if each.name == "queues"]
            assert queue.startswith("Queue operating: nothing of it was executed lately; nobody consumes it; ")
        monkeypatch.setenv("AGENTKIT_REDIS_URL", stack.store.url)
        monkeypatch.setenv("AGENTKIT_KEY_PREFIX", "operating:")
        code, _, err = agentkit(capsys, "runs", "abort", "--all", "--yes", "--direct")
        assert (code, "1 run aborted" in err) == (0, True)
    finally:
        elsewhere.kill()
