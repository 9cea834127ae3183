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
from tests.servers import ClusterServers, ValkeyServer

__all__ = ["Stage"]

_MESSAGE_SECONDS = 2.0
_MOVE_SECONDS = 0.05
"""Between two helpings of keys of a slot that moves."""
_CLUSTER = {"cluster-node-timeout": 2500}
"""Ms: over the longest stop. What a master accepts that was replaced while it was stopped is lost."""


class Stage:
    """A store that keeps what it accepted, a broker that loses everything when killed, workers and web processes.

    Where `separate_broker` is false, the store is the broker. `cluster`: it is a Redis Cluster, beside a broker.
    `workers` and `webs` are those of each installation; `prefixes`: how many installations share the servers.
    """

    def __init__(
        self,
        folder: Path,
        report: Report,
        *,
        workers: int,
        webs: int,
        lease: float,
        separate_broker: bool,
        pool: str,
        prefixes: int,
        steps_per_message: int,
        cluster: bool,
    ) -> None:
        self.report = report
        self.ledger = Ledger(folder / "ledger.jsonl")
        self.notifications = Ledger(folder / "notifications.jsonl")
        self.finishing = threading.Event()  # set: faults restore at once what they took away
        self.cluster = ClusterServers(folder / "store", options=_CLUSTER) if cluster else None
        self.servers = {} if cluster else {"store": ValkeyServer(folder / "store")}
        if separate_broker:
            self.servers["broker"] = ValkeyServer()
        self.store = self.cluster or self.servers["store"]
        self.broker = self.servers["broker" if separate_broker else "store"]
        for server in self._all_servers:
            server.start()
        env = environment(
            AGENTKIT_APP="chaos.app:kit",
            AGENTKIT_REDIS_URL=self.store.url,
            AGENTKIT_LEASE_SECONDS=f"{lease:g}",
            AGENTKIT_MAX_ATTEMPTS="1000",  # a step may be killed any number of times, and its run must still complete
            AGENTKIT_KEEPALIVE_SECONDS="1",
            AGENTKIT_STEPS_PER_MESSAGE=str(steps_per_message),
            CHAOS_LEDGER=str(self.ledger.path),
            CHAOS_NOTIFICATIONS=str(self.notifications.path),
            HOME=str(folder),  # gunicorn puts a control socket there
        )
        if separate_broker:
            env["AGENTKIT_BROKER_URL"] = self.broker.url
        self.prefixes = ["agentkit:", *(f"agentkit-{n + 1}:" for n in range(1, prefixes))]
        envs = [{**env, "AGENTKIT_KEY_PREFIX": prefix} for prefix in self.prefixes]
        self._queues = [prefix.removesuffix(":") for prefix in self.prefixes]
        # One of each installation after the other: number n belongs to installation n modulo how many there are.
        self.workers = [
            WorkerProcess(f"worker-{n + 1}", envs[n % prefixes], folder, tuple(pool.split()))
            for n in range(workers * prefixes)
        ]
        self.webs = [WebProcess(f"web-{n + 1}", envs[n % prefixes], folder) for n in range(webs * prefixes)]
        self.processes: dict[str, Process] = {each.name: each for each in (*self.workers, *self.webs)}
        self._locks = {name: threading.Lock() for name in (*self.processes, *self.servers, "store")}

    @property
    def _all_servers(self) -> list[ValkeyServer | ClusterServers]:
        return [*self.servers.values(), *([] if self.cluster is None else [self.cluster])]

    def webs_of(self, number: int) -> list[WebProcess]:
        """The web processes of the installation that run `number` belongs to."""
        return self.webs[number % len(self.prefixes) :: len(self.prefixes)]

    def start(self) -> None:
        for process in self.processes.values():
            process.launch()
        for process in self.processes.values():
            process.wait_until_ready()

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
        for server in self._all_servers:
            server.stop()

    def watch(self) -> None:
        """Report a process that ended without being killed as a violation, and start it again."""
        for name, process in self.processes.items():
            if not self._locks[name].acquire(blocking=False):
                continue
            try:
                if process.process is not None and process.process.poll() is not None:
                    status, log_text = process.process.returncode, process.log()[-3000:]
                    process.kill()
                    process.launch()
                    # a client got this port while the web process was down
                    if "Address already in use" not in log_text:
                        self.report.violated(f"{name} ended by itself with {status}; its log ends:\n{log_text}")
            finally:
                self._locks[name].release()

    # -- faults; each returns when it has restored what it took away

    def do(self, fault: Fault) -> None:
        if fault.target == "queue":
            self._message(fault)
            return
        lock = self._locks[fault.target]
        if not lock.acquire(timeout=1):  # still being restored; `watch` holds it for a moment only
            self.report.count("skipped")
            return
        try:
            if self.cluster is not None and fault.target == "store":
                self._change(self.cluster, fault)
            elif fault.kind == "kill":
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
            self.finishing.wait(fault.seconds)
            process.launch()
            return
        server = self.servers[fault.target]
        server.kill()
        self.finishing.wait(fault.seconds)
        for attempts_left in range(20, -1, -1):
            try:
                server.start()
                return
            except RuntimeError:  # a client that tries to connect may have got this very port as its own
                if not attempts_left:
                    raise
                time.sleep(0.25)

    def _change(self, cluster: ClusterServers, fault: Fault) -> None:
        """Hit a master of the cluster, or move a slot that it has; the cluster is whole again afterwards."""
        masters = cluster.masters()
        master, other = (masters[(fault.count + more) % len(masters)] for more in (0, 1))
        if fault.kind == "move":
            slot = cluster.used_slot(master)
            if slot is not None:
                cluster.move_slot(slot, other, pause=lambda: self.finishing.wait(_MOVE_SECONDS))
        elif fault.kind == "kill":
            cluster.fail_over(master)
            self.finishing.wait(fault.seconds)
            master.start()
        else:
            master.suspend()
            self.finishing.wait(fault.seconds)
            master.resume()
        cluster.wait_until_whole()

    def _stop(self, fault: Fault) -> None:
        """SIGSTOP, later SIGCONT. Our children lead process groups, the servers are single processes."""
        process = self.processes.get(fault.target)
        send, pid = (os.kill, self.servers[fault.target].pid) if process is None else (os.killpg, process.pid)
        try:
            send(pid, signal.SIGSTOP)
            self.finishing.wait(fault.seconds)
            send(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass  # it ended by itself, which `watch` reports

    def _message(self, fault: Fault) -> None:
        """Take messages as a worker would: by a blocking read, served in the order of the readers."""
        client = redis.Redis.from_url(self.broker.url, socket_timeout=_MESSAGE_SECONDS + 1)
        try:
            for _ in range(fault.count):
                taken = client.brpop(self._queues, timeout=_MESSAGE_SECONDS)
                if taken is None:
                    return
                queue, message = taken
                if self.finishing.is_set():
                    client.lpush(queue, message)
                    return
                self.report.count(f"message {fault.kind}")
                if fault.kind == "double":
                    client.lpush(queue, message, message)
                elif fault.kind == "delay":
                    self.finishing.wait(fault.seconds)
                    client.lpush(queue, message)
        except redis.exceptions.RedisError:
            pass  # the broker is down, and the message lost with it
        finally:
            client.close()
