"""The whole of agentkit as real processes on the loopback: store, workers, web processes, and a model.

Each is our own child with a process group of its own, and is ended by its pid, with all that it started.
`kill` is SIGKILL: what a lost machine looks like.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import httpx
import psutil

from tests.acceptance.ledger import Ledger
from tests.brokers import Broker, ValkeyBroker
from tests.event_rules import check_log
from tests.servers import ClusterServers, ValkeyServer, free_port
from tests.waiting import wait_until

__all__ = [
    "THREADS",
    "UVICORN",
    "ModelProcess",
    "Process",
    "Stack",
    "WebProcess",
    "WorkerProcess",
    "environment",
    "events_of",
]

ROOT = Path(__file__).parents[2]
LEASE_SECONDS = 2.0
THREADS = ("-k", "gthread", "--threads", "64")
UVICORN = ("uvicorn", "--timeout-graceful-shutdown", "5")
"""What the docs recommend: without the second, uvicorn waits for ever for a client that reads nothing."""


def environment(**more: str) -> dict[str, str]:
    """This process's environment without what would reach into agentkit, and with `more`."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("AGENTKIT_", "OPENAI_"))}
    return {**env, **more}


def events_of(sse: bytes) -> list[dict[str, Any]]:
    """The events of a whole event stream, whose frames are as the protocol has them."""
    head, *frames = sse.removesuffix(b"\n\n").split(b"\n\n")
    assert head.startswith(b"retry: ")
    events = []
    for frame in frames:
        if frame.startswith(b":"):
            continue
        number, data = frame.split(b"\n")
        events.append(json.loads(data.removeprefix(b"data: ")))
        assert number == b"id: %d" % events[-1]["seq"]
    return events


class Process:
    """A program that is started, killed and started again. Its output goes to `folder/name.log`."""

    def __init__(self, name: str, words: list[str], env: dict[str, str], folder: Path, cwd: Path = ROOT) -> None:
        self.name = name
        self._words = words
        self._env = env
        self._cwd = cwd
        self._log = folder / f"{name}.log"
        self._launched_at = 0
        self.process: subprocess.Popen[bytes] | None = None

    def use(self, env: dict[str, str], cwd: Path) -> None:
        """Have the next start take another environment and another working folder."""
        self._env, self._cwd = env, cwd

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} is not running"
        return self.process.pid

    def log(self, start: int = 0) -> str:
        return self._log.read_bytes()[start:].decode(errors="replace") if self._log.exists() else ""

    def log_size(self) -> int:
        return self._log.stat().st_size if self._log.exists() else 0

    def launch(self) -> None:
        """Start without waiting for anything."""
        assert self.process is None, f"{self.name} is running"
        self._launched_at = self.log_size()
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self._words],
                cwd=self._cwd,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"{self.name} ended:\n{self.log(self._launched_at)[-4000:]}"
            return self.is_ready()

        wait_until(ready, timeout=20, what=f"{self.name} to be ready", every=0.05)

    def is_ready(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        self.launch()
        self.wait_until_ready()

    def kill(self) -> None:
        """SIGKILL, to it and to what it started. Does nothing twice."""
        process, self.process = self.process, None
        if process is None:
            return
        try:
            os.killpg(process.pid, signal.SIGKILL)  # its own group: start_new_session
        except ProcessLookupError:
            pass
        process.wait()

    def stop(self) -> float:
        """SIGTERM, and how many seconds it took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(40)
        took = time.monotonic() - began
        self.kill()
        return took


class WebProcess(Process):
    """A gunicorn with one worker process on a free port, which it keeps; or a uvicorn, where `options` begin so.

    `app`: by default the shipped application for that server.
    """

    def __init__(
        self,
        name: str,
        env: dict[str, str],
        folder: Path,
        options: tuple[str, ...] = THREADS,
        cwd: Path = ROOT,
        app: str = "",
    ) -> None:
        self.port = free_port()
        self.is_uvicorn = options[:1] == UVICORN[:1]
        if self.is_uvicorn:
            words = ["uvicorn", *([app] if app else ["--factory", "agentkit.asgi:create_app"]), *options[1:]]
            words += ["--host", "127.0.0.1", "--port", str(self.port)]
        else:
            words = ["gunicorn", app or "agentkit.web:create_app()", "--workers", "1", *options]
            words += ["--graceful-timeout", "30", "--bind", f"127.0.0.1:{self.port}"]
        super().__init__(name, words, env, folder, cwd)
        self.http = self._client()

    def launch(self) -> None:
        self.http.close()
        self.http = self._client()
        super().launch()

    def kill(self) -> None:
        self.http.close()
        super().kill()

    def is_ready(self) -> bool:
        try:
            return self.http.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def get(self, run_id: str) -> dict[str, Any]:
        """The run."""
        response = self.http.get(f"/runs/{run_id}")
        assert response.status_code == 200, response.text
        run: dict[str, Any] = response.json()
        return run

    def begin(self, agent: str, message: str) -> str:
        """Start a run; its id."""
        response = self.http.post("/runs", json={"agent": agent, "input": message})
        assert response.status_code == 202, response.text
        run_id: str = response.json()["id"]
        assert response.headers["location"] == f"/runs/{run_id}"
        return run_id

    def resume(self, run_id: str, **answer: Any) -> httpx.Response:
        return self.http.post(f"/runs/{run_id}/resume", json=answer)

    def abort(self, run_id: str) -> httpx.Response:
        return self.http.post(f"/runs/{run_id}/abort")

    def stream(self, path: str, body: dict[str, Any]) -> bytes:
        """Post, and read the answer's event stream to its end."""
        response = self.http.post(path, json=body, headers={"Accept": "text/event-stream"})
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        return response.content

    def sse(self, run_id: str, after: int | None = None, until: str | None = None) -> bytes:
        """The run's event stream, after the seq `after`, read to its end."""
        response = self._events(run_id, after, until)
        assert response.status_code == 200, response.text
        return response.content

    def sse_status(self, run_id: str, after: int) -> int:
        return self._events(run_id, after, None).status_code

    def follow(self, run_id: str, after: int = 0) -> Generator[dict[str, Any], None, None]:
        """The run's events as they come; close it to hang up."""
        headers = {"Last-Event-ID": str(after)} if after else {}
        with self.http.stream("GET", f"/runs/{run_id}/events", headers=headers) as response:
            assert response.status_code == 200
            for line in response.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

    def _events(self, run_id: str, after: int | None, until: str | None) -> httpx.Response:
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        params = {} if until is None else {"until": until}
        return self.http.get(f"/runs/{run_id}/events", headers=headers, params=params)

    def _client(self) -> httpx.Client:
        # gunicorn hangs up on a connection that was idle for two seconds, perhaps while it is used again.
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30, limits=limits)


class WorkerProcess(Process):
    """A Celery worker."""

    def __init__(
        self,
        name: str,
        env: dict[str, str],
        folder: Path,
        pool: tuple[str, ...] = ("-P", "threads", "-c", "8"),
        options: tuple[str, ...] = ("--without-gossip", "--without-mingle"),
        app: str = "agentkit.tasks",
    ) -> None:
        words = ["celery", "-A", app, "worker", "-n", f"{name}@%h", "-l", "info"]
        super().__init__(name, [*words, *pool, *options], env, folder)
        self.pool = pool[pool.index("-P") + 1]

    def is_ready(self) -> bool:
        log = self.log(self._launched_at)
        if " ready.\n" not in log:
            return False
        banner = "thread" if self.pool == "threads" else self.pool  # as Celery's banner names it
        assert f"({banner})" in log, f"{self.name} was to run {self.pool}:\n{log}"
        return True

    def ports(self) -> set[int]:
        """The local ports of its open connections."""
        connections = psutil.Process(self.pid).net_connections("tcp")
        return {c.laddr.port for c in connections if c.status == psutil.CONN_ESTABLISHED}


class ModelProcess(Process):
    """The server of tests.acceptance.model."""

    def __init__(self, env: dict[str, str], folder: Path, ledger: Ledger) -> None:
        self.port = free_port()
        words = ["tests.acceptance.model", "--port", str(self.port), "--ledger", str(ledger.path)]
        super().__init__("model", words, env, folder)

    def is_ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Stack:
    """A Valkey that keeps its data, two workers, two web processes and a model.

    `settings`: variables for all of agentkit's processes; `web_settings`: for the web processes, over these.
    `broker`: a running one, where it is not the store. `pool`: of the workers. `store`: another server in place of the
    Valkey, or, beside a broker, a cluster.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, str] | None = None,
        web_settings: dict[str, str] | None = None,
        broker: Broker | None = None,
        pool: tuple[str, ...] = ("-P", "threads", "-c", "8"),
        store: ValkeyServer | ClusterServers | None = None,
    ) -> None:
        self.folder = folder
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.store: ValkeyServer | ClusterServers = store or ValkeyServer(folder / "valkey")
        self.store.start()
        self._store_broker = ValkeyBroker(cast(ValkeyServer, self.store))  # a cluster is started and killed alike
        self.broker: Broker = broker or self._store_broker
        self.model = ModelProcess(environment(), folder, self.ledger)
        self.env = environment(
            AGENTKIT_APP="tests.acceptance.app:kit",
            AGENTKIT_REDIS_URL=self.store.url,
            AGENTKIT_LEASE_SECONDS=f"{LEASE_SECONDS:g}",
            OPENAI_BASE_URL=f"http://127.0.0.1:{self.model.port}/v1",
            OPENAI_API_KEY="none",
            ACCEPTANCE_LEDGER=str(self.ledger.path),
            HOME=str(folder),  # gunicorn puts a control socket there
        )
        if broker is not None:
            self.env["AGENTKIT_BROKER_URL"] = broker.url
        self.env |= settings or {}
        web_env = self.env | (web_settings or {})
        self.workers = [WorkerProcess(f"worker-{n}", self.env, folder, pool) for n in (1, 2)]
        self.web_a, self.web_b = (WebProcess(f"web-{n}", web_env, folder) for n in "ab")

    @property
    def processes(self) -> list[Process]:
        return [self.model, self.web_a, self.web_b, *self.workers]

    def repair(self) -> None:
        """Start whatever is not running."""
        for server in (self._store_broker, self.broker):
            if not server.running:
                server.start()
        self.start(*(process for process in self.processes if process.process is None))

    def start(self, *processes: Process) -> None:
        """Start processes side by side."""
        for process in processes:
            process.launch()
        for process in processes:
            process.wait_until_ready()

    def kill_workers(self) -> None:
        for worker in self.workers:
            worker.kill()

    def kill_everything(self) -> None:
        for process in self.processes:
            process.kill()
        self._store_broker.kill()
        self.broker.kill()

    def close(self) -> None:
        """End it for ever. The broker, where it is not the store, is its owner's to end."""
        for process in self.processes:
            process.kill()
        self.store.stop()

    def wait_for(self, run_id: str, *statuses: str, timeout: float = 15) -> dict[str, Any]:
        """The run once it has one of these statuses."""

        def there() -> dict[str, Any] | None:
            run = self.web_b.get(run_id)
            return run if run["status"] in statuses else None

        return wait_until(there, timeout=timeout, what=f"the run to be {' or '.join(statuses)}", every=0.05) or {}

    def checked(self, run_id: str, status: str = "completed") -> list[dict[str, Any]]:
        """The events of an ended (or once paused) run, after a look that all is well with them.

        Both web processes give the same bytes and the same run, the log keeps the rules, and it folds into the
        run's messages.
        """
        run = self.web_a.get(run_id)
        assert run["status"] == status, run
        assert run == self.web_b.get(run_id)
        until = "pause" if status == "paused" else None
        sse = self.web_a.sse(run_id, until=until)
        assert sse == self.web_b.sse(run_id, until=until)
        events = events_of(sse)
        assert run["lastSeq"] == len(events)
        check_log(events, run["messages"], status)
        return events

    def worker_at(self, port: int) -> WorkerProcess | None:
        """The worker whose connection has this local port."""
        return next((worker for worker in self.workers if worker.process and port in worker.ports()), None)

    def queued(self) -> int:
        """How many messages wait in the broker."""
        return self.broker.queued()
