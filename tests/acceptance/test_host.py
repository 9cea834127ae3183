"""agentkit in a team's own Flask and Celery applications: their broker, routes, handlers, session and pools."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.acceptance.ledger import Ledger
from tests.acceptance.stack import ROOT, THREADS, Process, WebProcess, WorkerProcess, environment
from tests.servers import ValkeyServer
from tests.waiting import wait_until

POOLS = {
    "threads": ("-P", "threads", "-c", "4"),
    "prefork": ("-P", "prefork", "-c", "2"),
    "gevent": ("-P", "gevent", "-c", "20"),
    "solo": ("-P", "solo"),
}
_numbers = itertools.count()


class Host:
    """The team's processes: a store, a broker of their own, a web process and the workers that a test starts."""

    def __init__(self, folder: Path, store: ValkeyServer, **settings: str) -> None:
        self.folder = folder
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.env = environment(
            AGENTKIT_REDIS_URL=store.url,
            AGENTKIT_LEASE_SECONDS="2",
            AGENTKIT_READY_SECONDS="4",
            HOST_BROKER_URL=store.database(1),
            ACCEPTANCE_LEDGER=str(self.ledger.path),
            HOME=str(folder),
            **settings,
        )
        self.web = WebProcess("web", self.env, folder, THREADS, app="tests.acceptance.host:flask_app")
        self.workers: list[Process] = []
        self.http = self.web.http

    def start(self) -> None:
        self.web.start()
        self.http = self.web.http

    def worker(self, pool: str = "threads", *options: str) -> WorkerProcess:
        name = f"worker-{next(_numbers)}"
        worker = WorkerProcess(name, self.env, self.folder, (*POOLS[pool], *options), app="tests.acceptance.host")
        self.workers.append(worker)
        worker.start()
        return worker

    def log_in(self, name: str = "ann") -> None:
        assert self.http.post(f"/login/{name}").status_code == 200

    def begin(self, agent: str, prefix: str = "/ai") -> str:
        response = self.http.post(f"{prefix}/runs", json={"agent": agent, "input": "x" * 3000})
        assert response.status_code == 202, response.text
        run_id: str = response.json()["id"]
        assert response.headers["location"] == f"{prefix}/runs/{run_id}"
        return run_id

    def wait_for(self, run_id: str, status: str, prefix: str = "/ai", timeout: float = 20) -> dict[str, Any]:
        def there() -> dict[str, Any] | None:
            run: dict[str, Any] = self.http.get(f"{prefix}/runs/{run_id}").json()
            assert run["status"] == status or run["status"] in ("queued", "running", "paused"), run
            return run if run["status"] == status else None

        return wait_until(there, timeout=timeout, what=f"the run to be {status}", every=0.05) or {}

    def celery(self, *words: str) -> str:
        command = [sys.executable, "-m", "celery", "-A", "tests.acceptance.host", *words]
        done = subprocess.run(command, cwd=ROOT, env=self.env, check=True, capture_output=True, text=True, timeout=60)
        return done.stdout

    def kill(self) -> None:
        for process in (self.web, *self.workers):
            process.kill()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def host(tmp_path: Path, store: ValkeyServer, request: pytest.FixtureRequest) -> Iterator[Host]:
    mark = request.node.get_closest_marker("host_settings")
    # A prefix for each test: what one leaves is not another's. The kit's queue follows it.
    settings = {"AGENTKIT_KEY_PREFIX": f"host-{next(_numbers)}:", **(mark.kwargs if mark else {})}
    host = Host(tmp_path, store, **settings)
    host.start()
    try:
        yield host
    finally:
        host.kill()


def _do_the_job(host: Host) -> None:
    """Log in, have a refund approved, and see that the tools were in their world."""
    host.log_in()
    run_id = host.begin("desk")
    paused = host.wait_for(run_id, "paused")
    assert paused["owner"] == "ann"
    answer = host.http.post(f"/ai/runs/{run_id}/resume", json={"decision": {"approved": True}})
    assert answer.status_code == 202
    host.wait_for(run_id, "completed")
    done = host.ledger.entries(run=run_id)
    assert [(entry["tool"], entry["shop"], entry["tenant"]) for entry in done] == [
        ("survey", "the shop", "desk/survey"),
        ("refund", "the shop", "desk/refund"),
    ]


@pytest.mark.parametrize("pool", POOLS)
def test_a_refund_from_login_to_approval_on_the_teams_own_workers(host: Host, pool: str) -> None:
    host.worker(pool)
    assert host.http.get("/healthz").json() == {"shop": "open"}
    assert host.http.get("/ai/runs").status_code == 401
    _do_the_job(host)
    steps = [entry for entry in host.ledger.entries() if entry.get("task", "").startswith("agentkit.")]
    traces = [entry["trace"] for entry in steps]
    assert len(traces) == len(set(traces)) >= 5, "each message has the header of its own that the handler gave it"
    assert None not in traces
    host.worker("threads", "-Q", "business")
    host.celery("call", "shop.count", "--args", "[1]")
    wait_until(lambda: host.ledger.entries(task="count"), timeout=20, what="the shop's own task to be executed")


@pytest.mark.host_settings(HOST_ACKS_LATE="1")
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_nothing_is_lost_with_late_acknowledgement_and_a_killed_worker(host: Host, pool: str) -> None:
    worker = host.worker(pool)
    host.log_in()
    run_id = host.begin("talker")
    wait_until(
        lambda: host.http.get(f"/ai/runs/{run_id}").json()["lastSeq"] > 5, timeout=20, what="the answer to begin"
    )
    worker.kill()
    host.worker(pool)
    run = host.wait_for(run_id, "completed", timeout=40)
    assert run["messages"][-1]["content"][0]["text"] == "word " * 200


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_that_is_stopped_hands_its_model_call_to_another(host: Host, pool: str) -> None:
    first = host.worker(pool)
    host.log_in()
    run_id = host.begin("talker")
    wait_until(
        lambda: host.http.get(f"/ai/runs/{run_id}").json()["lastSeq"] > 5, timeout=20, what="the answer to begin"
    )
    host.worker(pool)
    os.kill(first.pid, signal.SIGTERM)
    assert first.process is not None
    assert first.process.wait(20) == 0
    host.wait_for(run_id, "completed", timeout=40)


@pytest.mark.host_settings(HOST_ROUTES="1", HOST_SLOW_QUEUE="slow")
def test_routes_and_queues_send_steps_where_they_say_and_readiness_tells_of_each(host: Host) -> None:
    prefix = host.env["AGENTKIT_KEY_PREFIX"].removesuffix(":")
    host.worker("threads", "-Q", f"{prefix},tools")

    def queues() -> Any:
        return host.http.get("/ai/readyz").json()["queues"]

    wait_until(
        lambda: queues() == {prefix: True, "tools": True, "slow": False}, timeout=20, what="two queues to be served"
    )
    host.log_in()
    run_id = host.begin("desk")
    entries = host.ledger.entries
    wait_until(lambda: entries(task="agentkit.model_call"), timeout=20, what="the model call")
    host.worker("threads", "-Q", "slow")
    host.wait_for(run_id, "paused")
    wait_until(lambda: all(queues().values()), timeout=20, what="all queues to be served")
    host.http.post(f"/ai/runs/{run_id}/resume", json={"decision": {"approved": True}})
    host.wait_for(run_id, "completed")
    assert {entry["queue"] for entry in entries(task="agentkit.model_call")} == {prefix}
    # Recovery may have sent the first again while nobody served its queue.
    assert {entry["queue"] for entry in entries(task="agentkit.tool_call")} == {"slow", "tools"}


@pytest.mark.host_settings(HOST_SLOW_QUEUE="slow")
def test_recovery_enqueues_a_lost_step_in_its_own_queue(host: Host, store: ValkeyServer) -> None:
    prefix = host.env["AGENTKIT_KEY_PREFIX"].removesuffix(":")
    host.worker("threads", "-Q", prefix)
    host.log_in()
    run_id = host.begin("desk")
    with redis.Redis.from_url(store.database(1)) as broker:
        wait_until(lambda: broker.llen("slow"), timeout=20, what="the tool's message")
        broker.delete("slow")  # it is lost
        host.worker("threads", "-Q", "slow")
        host.wait_for(run_id, "paused", timeout=30)


def test_two_kits_of_one_application_keep_to_themselves(host: Host) -> None:
    host.worker()
    host.log_in()
    ours = host.begin("desk")
    other = host.begin("other", "/other")
    host.wait_for(other, "completed", "/other")
    host.wait_for(ours, "paused")
    assert host.http.get(f"/ai/runs/{other}").status_code == 404
    assert host.http.get(f"/other/runs/{ours}").status_code == 404


def test_a_run_is_started_by_the_task_from_beat_and_from_elsewhere(host: Host) -> None:
    host.worker()
    host.log_in("cron")
    call = ["call", "agentkit.start", "--kwargs"]
    body = '{"agent": "greeter", "input": "hi", "owner": "cron", "metadata": {"a": 1}, "idempotency_key": "k"}'
    host.celery(*call, body)
    host.celery(*call, body)

    def runs() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = host.http.get("/ai/runs").json()["runs"]
        return found

    wait_until(lambda: [run["status"] for run in runs()] == ["completed"], timeout=20, what="the run to complete")
    assert runs()[0]["metadata"] == {"a": 1}
    words = ["celery", "-A", "tests.acceptance.host", "beat", "-s", str(host.folder / "beat"), "--max-interval", "1"]
    beat = _Beat("beat", words, host.env, host.folder)
    host.workers.append(beat)
    beat.launch()
    wait_until(lambda: len(host.ledger.entries(task="agentkit.model_call")) >= 3, timeout=30, what="beat to start runs")


class _Beat(Process):
    def is_ready(self) -> bool:
        return True


def test_the_shipped_worker_refuses_a_kit_that_another_application_serves(host: Host) -> None:
    env = {**host.env, "AGENTKIT_APP": "tests.acceptance.host:kit"}
    command = [sys.executable, "-m", "celery", "-A", "agentkit.tasks", "worker", "-P", "solo"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "the Celery application 'shop'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stream_below_the_prefix_ends_with_its_run(host: Host) -> None:
    host.worker()
    host.log_in()
    run_id = host.begin("greeter")
    with host.http.stream("GET", f"/ai/runs/{run_id}/events") as response:
        assert response.headers["content-type"] == "text/event-stream"
        text = "".join(response.iter_text())
    assert '"type":"agent_end"' in text
    assert httpx.get(f"http://127.0.0.1:{host.web.port}/ai/runs/{run_id}/events").status_code == 401
