"""A RabbitMQ that tests start as their own child, on the loopback, and end by its own pid.

It is Debian's package (`rabbitmq-server`), run by its own script instead of the one that changes user. Whatever it
writes goes to a temporary folder, its port mapper (epmd) is a child of ours too, and virtual hosts keep tests apart.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import amqp

from tests.servers import free_port
from tests.waiting import wait_until

__all__ = ["RabbitServer", "rabbitmq_script"]

_SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_START_SECONDS = 60
_USER = "guest"
# RabbitMQ 3.10 notes a moment later which quorum queues it has. Killed before that, it never gives them a leader again.
_SETTLE_SECONDS = 3


def rabbitmq_script() -> Path | None:
    """The program that starts RabbitMQ; None where it is not installed."""
    return _SCRIPT if _SCRIPT.exists() and shutil.which("erl") and shutil.which("epmd") else None


class RabbitServer:
    """A real RabbitMQ on free ports of 127.0.0.1. Durable queues outlive `kill` and `start`.

    `vhosts`: the names of its virtual hosts, each of which is a broker by itself. `queue`: a quorum queue that
    each of them has from the beginning, except the `bare` one.
    """

    def __init__(self, vhosts: tuple[str, ...], queue: str, bare: str) -> None:
        self.port, self._dist_port, self._epmd_port = free_port(), free_port(), free_port()
        self._vhosts = (*vhosts, bare)
        self._bare = bare
        self._queue = queue
        self._log_start = 0
        self._ready_at = 0.0
        self._home = Path(tempfile.mkdtemp(prefix="agentkit-rabbitmq-"))
        self._epmd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._configure()

    def url(self, vhost: str) -> str:
        return f"amqp://{_USER}:{_USER}@127.0.0.1:{self.port}/{vhost}"

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None, "RabbitMQ is not running"
        return self._process.pid

    def launch(self) -> None:
        """Start without waiting for anything."""
        assert self._process is None, "RabbitMQ is running"
        self._log_start = len(self.log())
        script = rabbitmq_script()
        assert script is not None, "RabbitMQ is not installed"
        with (self._home / "server.log").open("ab") as output:
            if self._epmd is None:
                words = ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"]
                self._epmd = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
            self._process = subprocess.Popen(
                [script],
                cwd=self._home,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"RabbitMQ ended:\n{self.log()[-4000:]}"
            try:
                for vhost in self._vhosts:
                    self._connect(vhost).close()
            except (OSError, amqp.AMQPError):
                return False
            return "Server startup complete" in self.log()[self._log_start :]

        wait_until(ready, timeout=_START_SECONDS, what="RabbitMQ to take connections", every=0.1)
        self._ready_at = self._ready_at or time.monotonic()

    def start(self) -> None:
        """Start, and return when it takes connections to every virtual host."""
        self.launch()
        self.wait_until_ready()

    def kill(self) -> None:
        """SIGKILL: what a lost machine looks like. Does nothing twice."""
        process, self._process = self._process, None
        if process is None:
            return
        wait_until(lambda: time.monotonic() - self._ready_at > _SETTLE_SECONDS, what="RabbitMQ to note its queues")
        try:
            os.killpg(process.pid, signal.SIGKILL)  # its own group: start_new_session
        except ProcessLookupError:
            pass
        process.wait()

    def stop(self) -> None:
        """End in good order and remove all that was written. Does nothing twice."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                pass
            self.kill()
        epmd, self._epmd = self._epmd, None
        if epmd is not None:
            epmd.kill()
            epmd.wait()
        shutil.rmtree(self._home, ignore_errors=True)

    def log(self) -> str:
        path = self._home / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def queued(self, vhost: str) -> int:
        """How many messages wait in the queue."""
        with self._connect(vhost) as connection:
            return int(connection.channel().queue_declare(self._queue, passive=True).message_count)

    def purge(self, vhost: str) -> None:
        """Lose the messages that wait in the queue."""
        with self._connect(vhost) as connection:
            connection.channel().queue_purge(self._queue)

    def has_quorum_queue(self, vhost: str) -> bool:
        """Whether the queue that is there is a quorum queue: another declaration than the first one is refused."""
        self.queued(vhost)  # there is one
        with self._connect(vhost) as connection:
            arguments = {"x-queue-type": "quorum"}
            try:
                connection.channel().queue_declare(self._queue, durable=True, auto_delete=False, arguments=arguments)
            except amqp.PreconditionFailed:
                return False
        return True

    def _connect(self, vhost: str) -> amqp.Connection:
        connection = amqp.Connection(
            f"127.0.0.1:{self.port}", _USER, _USER, virtual_host=vhost, connect_timeout=5, read_timeout=10
        )
        connection.connect()
        return connection

    def _configure(self) -> None:
        salt = b"salt"
        password_hash = base64.b64encode(salt + hashlib.sha256(salt + _USER.encode()).digest()).decode()
        quorum = {"durable": True, "auto_delete": False, "arguments": {"x-queue-type": "quorum"}}
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        definitions = {
            "users": [{"name": _USER, "password_hash": password_hash, "tags": []}],
            "vhosts": [{"name": vhost} for vhost in self._vhosts],
            "permissions": [{"user": _USER, "vhost": vhost, **rights} for vhost in self._vhosts],
            "queues": [
                {"name": self._queue, "vhost": vhost, **quorum} for vhost in self._vhosts if vhost != self._bare
            ],
        }
        (self._home / "definitions.json").write_text(json.dumps(definitions))
        settings = {
            "load_definitions": self._home / "definitions.json",
            "listeners.tcp.local": f"127.0.0.1:{self.port}",
            "disk_free_limit.absolute": "1MB",  # a full disk here is not what is tested
        }
        lines = [f"{name} = {value}\n" for name, value in settings.items()]
        (self._home / "rabbitmq.conf").write_text("".join(lines))
        (self._home / "enabled_plugins").write_text("[].\n")

    def _environment(self) -> dict[str, str]:
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL", "TMPDIR") if key in os.environ}
        return kept | {
            "HOME": str(self._home),  # the Erlang cookie is written there
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP_BYTES": "0",
            # The script becomes the server instead of waiting for it, so that our child's pid is the server's.
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": f"agentkit-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONFIG_FILE": str(self._home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._home / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._home / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self._home / "data"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self._home / "generated"),
            "RABBITMQ_LOG_BASE": str(self._home / "log"),
            "RABBITMQ_PID_FILE": str(self._home / "pid"),
            "RABBITMQ_LOGS": "-",
        }
