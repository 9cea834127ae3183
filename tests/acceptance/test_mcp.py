"""MCP servers of real workers: whatever is killed, no process is left, nothing runs twice, and a paused run goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from agentkit import Agent, AgentKit, MCPServer, ScriptedModel, Settings
from tests.acceptance.stack import ROOT, Process, environment
from tests.mcp_servers import executed
from tests.servers import ValkeyServer
from tests.waiting import wait_until

APP = """
import os
from agentkit import Agent, AgentKit, MCPServer, ScriptedModel
from tests.mcp_servers import command

def call(name, **arguments):
    return [{"type": "toolCall", "name": name, "arguments": arguments}]

shop = MCPServer(name="shop", command=command("--log", os.environ["EXECUTED"]))
deaf = MCPServer(name="deaf", command=command("--hostile", "deaf", "--log", os.environ["EXECUTED"]))
refund = ScriptedModel([call("shop__refund", order="A-1"), call("shop__explain", order="A-1"), "done"])
kit = AgentKit([
    Agent("desk", refund, tools=[shop]),
    Agent("stuck", ScriptedModel([call("deaf__good", n=1), "done"]), tools=[deaf]),
])
"""


AGENTS = ("desk", "stuck")


class Worker(Process):
    def is_ready(self) -> bool:
        return "ready." in self.log(self._launched_at)


class Bench:
    def __init__(self, folder: Path, store: ValkeyServer) -> None:
        self.executed = folder / "executed.jsonl"
        (folder / "mcp_app.py").write_text(APP)
        self.env = environment(
            AGENTKIT_REDIS_URL=store.url,
            AGENTKIT_APP="mcp_app:kit",
            AGENTKIT_LEASE_SECONDS="2",
            EXECUTED=str(self.executed),
            PYTHONPATH=os.pathsep.join([str(folder), str(ROOT)]),
        )
        self._folder = folder
        model = ScriptedModel(["x"])
        agents = [
            Agent(name, model, tools=[MCPServer(name="none", command=["none"], optional=True)]) for name in AGENTS
        ]
        self.kit = AgentKit(agents, settings=Settings(redis_url=store.url))

    def worker(self, name: str, *pool: str) -> Worker:
        words = ["celery", "-A", "agentkit.tasks", "worker", "-l", "info", "-n", f"{name}@%h", *pool]
        worker = Worker(name, words, self.env, self._folder)
        worker.start()
        return worker


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ValkeyServer(tmp_path / "store") as store:
        yield Bench(tmp_path, store)


def _lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    "pool", [("-P", "threads", "-c", "4"), ("-P", "prefork", "-c", "2")], ids=["threads", "prefork"]
)
def test_a_killed_worker_leaves_no_server_behind(bench: Bench, pool: tuple[str, ...]) -> None:
    worker = bench.worker("first", *pool)
    handle = bench.kit.start("stuck", "go")
    wait_until(lambda: "good" in [each["tool"] for each in executed(bench.executed)], timeout=30, what="the call")
    started = next(each for each in executed(bench.executed) if each["tool"] == "started")
    children = psutil.Process(worker.pid).children(recursive=True)
    assert started["pid"] in [child.pid for child in children]

    worker.kill()
    for pid in {started["pid"], started["child"], *(child.pid for child in children)}:
        wait_until(lambda pid=pid: not _lives(pid), timeout=20, what=f"process {pid} to end")
    bench.kit.abort(handle.id)


def test_a_question_of_a_server_is_answered_after_its_worker_was_killed(bench: Bench) -> None:
    first = bench.worker("first", "-P", "threads", "-c", "4")
    handle = bench.kit.start("desk", "go")
    handle.wait(30)
    first.kill()
    second = bench.worker("second", "-P", "threads", "-c", "4")
    try:
        assert handle.run.pending[0]["toolName"] == "shop__refund"
        _answer(bench, handle.id, {"approved": True})
        wait_until(
            lambda: handle.run.status == "paused" and handle.run.pending[0]["toolName"] == "shop__explain",
            timeout=30,
            what="the question",
        )
        _answer(bench, handle.id, {"why": "rain"})
        run = wait_until(lambda: handle.run if handle.run.ended_at is not None else None, timeout=30, what="the end")
        assert run.status == "completed", run.error
        assert [each["tool"] for each in executed(bench.executed)] == ["refund", "explain"]
    finally:
        second.stop()


def _answer(bench: Bench, run_id: str, decision: dict[str, object]) -> None:
    """Answer by a process that has the tools, as a web process would."""
    script = f"from mcp_app import kit; kit.resume({run_id!r}, {decision!r})"
    done = subprocess.run([sys.executable, "-c", script], env=bench.env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
