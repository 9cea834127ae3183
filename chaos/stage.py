"""The processes that chaos plays with, and what is done to them: kill, stop, start again.

Each fault restores what it took away, so when all faults are over everything runs. It knows nothing of runs.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import redis

from chaos.report import Report
from chaos.schedule import Fault
from tests.acceptance.ledger import Ledger
from tests.acceptance.stack import Process, WebProcess, WorkerProcess, environment
from tests.servers import ValkeyServer

__all__ = ["Stage"]

QUEUE = "agentkit"
_MESSAGE_SECONDS = 2.0


class Stage:
    """A store that loses nothing it accepted, a broker that loses everything with its life, workers and webs.

    Where `own_broker` is false, the store is the broker.
    """

    def __init__(
        self, folder: Path, report: Report, *, workers: int, webs: int, lease: float, own_broker: bool, pool: str
    ) -> None:
        self.report = report
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.over = threading.Event()  # set: faults end what they do at once
        self.servers = {"store": ValkeyServer(folder / "store")}
        if own_broker:
            self.servers["broker"] = ValkeyServer()
        for server in self.servers.values():
            server.start()
        self.store = self.servers["store"]
        self.broker = self.servers.get("broker", self.store)
        env = environment(
            AGENTKIT_APP="chaos.app:kit",
            AGENTKIT_REDIS_URL=self.store.url,
            AGENTKIT_LEASE_SECONDS=f"{lease:g}",
            AGENTKIT_MAX_ATTEMPTS="1000",  # a step is killed as often as the dice say, and its run must still complete
            AGENTKIT_KEEPALIVE_SECONDS="1",
            CHAOS_LEDGER=str(self.ledger.path),
            HOME=str(folder),  # gunicorn puts a control socket there
        )
        if own_broker:
            env["AGENTKIT_BROKER_URL"] = self.broker.url
        self.workers = [WorkerProcess(f"worker-{n + 1}", env, folder, tuple(pool.split())) for n in range(workers)]
        self.webs = [WebProcess(f"web-{n + 1}", env, folder) for n in range(webs)]
        self.processes: dict[str, Process] = {each.name: each for each in (*self.workers, *self.webs)}
        self._locks = {name: threading.Lock() for name in (*self.processes, *self.servers)}

    def start(self) -> None:
        for process in self.processes.values():
            process.launch()
        for process in self.processes.values():
            process.wait_until_ready()

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
        for server in self.servers.values():
            server.stop()

    def watch(self) -> None:
        """A process that ended though nobody killed it: a violation, and it is started again."""
        for name, process in self.processes.items():
            if not self._locks[name].acquire(blocking=False):
                continue
            try:
                if process.process is not None and process.process.poll() is not None:
                    status, told = process.process.returncode, process.log()[-3000:]
                    process.kill()
                    process.launch()
                    if "Address already in use" not in told:  # a client's own port, taken while the web was away
                        self.report.violated(f"{name} ended by itself with {status}; its log ends:\n{told}")
            finally:
                self._locks[name].release()

    # -- faults; each returns when what it took away is back

    def do(self, fault: Fault) -> None:
        if fault.target == "queue":
            self._message(fault)
            return
        lock = self._locks[fault.target]
        if not lock.acquire(timeout=1):  # still being restored; `watch` holds it for a moment only
            self.report.count("skipped")
            return
        try:
            if fault.kind == "kill":
                self._kill(fault)
            else:
                self._stop(fault)
            self.report.count(f"fault {fault.kind} {fault.target.partition('-')[0]}")
        finally:
            lock.release()

    def _kill(self, fault: Fault) -> None:
        process = self.processes.get(fault.target)
        if process is not None:
            process.kill()
            self.over.wait(fault.seconds)
            process.launch()
            return
        server = self.servers[fault.target]
        server.kill()
        self.over.wait(fault.seconds)
        for patience in range(20, -1, -1):
            try:
                server.start()
                return
            except RuntimeError:  # a client that asks in vain may get this very port as its own
                if not patience:
                    raise
                time.sleep(0.25)

    def _stop(self, fault: Fault) -> None:
        """SIGSTOP, later SIGCONT. Our children lead process groups, the servers are single processes."""
        process = self.processes.get(fault.target)
        send, pid = (os.kill, self.servers[fault.target].pid) if process is None else (os.killpg, process.pid)
        try:
            send(pid, signal.SIGSTOP)
            self.over.wait(fault.seconds)
            send(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass  # it had ended by itself, which `watch` sees

    def _message(self, fault: Fault) -> None:
        """Take messages as a worker would: a blocking read, served in the order of asking."""
        client = redis.Redis.from_url(self.broker.url, socket_timeout=_MESSAGE_SECONDS + 1)
        try:
            for _ in range(fault.count):
                taken = client.brpop([QUEUE], timeout=_MESSAGE_SECONDS)
                if taken is None or self.over.is_set():
                    if taken is not None:
                        client.lpush(QUEUE, taken[1])
                    return
                self.report.count(f"message {fault.kind}")
                if fault.kind == "double":
                    client.lpush(QUEUE, taken[1], taken[1])
                elif fault.kind == "delay":
                    self.over.wait(fault.seconds)
                    client.lpush(QUEUE, taken[1])
        except redis.exceptions.RedisError:
            pass  # the broker is away, and with it the message: one more that is lost
        finally:
            client.close()
