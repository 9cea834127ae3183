"""The web application under gunicorn: what only a real server can show. No worker runs, so streams stay silent."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import free_port
from tests.waiting import wait_until

APPLICATION = """
from agentkit import Agent, AgentKit, ScriptedModel
kit = AgentKit([Agent("hello", model=ScriptedModel(["Hello."]))])
"""


class Gunicorn:
    """A gunicorn with one worker on a free port of 127.0.0.1."""

    def __init__(self, folder: Path, redis_url: str, *options: str) -> None:
        (folder / "hello_app.py").write_text(APPLICATION)
        self.port = free_port()
        self._log = folder / "gunicorn.log"
        environment = {**os.environ, "AGENTKIT_REDIS_URL": redis_url, "AGENTKIT_APP": "hello_app:kit"}
        command = [sys.executable, "-m", "gunicorn", "agentkit.web:create_app()", "--workers", "1", *options]
        command += ["--graceful-timeout", "30", "--bind", f"127.0.0.1:{self.port}"]
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        wait_until(self._answers, what="gunicorn to answer")

    def request(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, body, headers)  # type: ignore[arg-type]
        return connection, connection.getresponse()

    def log(self) -> str:
        return self._log.read_text()

    def stop(self) -> float:
        """SIGTERM, and how many seconds it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(40)
        return time.monotonic() - began

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            connection, response = self.request("GET", "/healthz")
        except OSError:
            return False
        connection.close()
        return response.status == 200


@pytest.fixture
def gunicorn(tmp_path: Path, redis_url: str) -> Iterator[Callable[..., Gunicorn]]:
    started: list[Gunicorn] = []

    def start(*options: str) -> Gunicorn:
        started.append(Gunicorn(tmp_path, redis_url, *options))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


THREADS = ("-k", "gthread", "--threads", "8")


@pytest.mark.parametrize(
    "options", [THREADS, (*THREADS, "--preload"), ("-k", "gevent")], ids=["gthread", "preload", "gevent"]
)
def test_a_stop_ends_open_streams_at_once(gunicorn: Callable[..., Gunicorn], options: tuple[str, ...]) -> None:
    server = gunicorn(*options)
    body = json.dumps({"agent": "hello", "input": "x"})
    connection, stream = server.request(
        "POST", "/runs", body, **{"Content-Type": "application/json", "Accept": "text/event-stream"}
    )
    assert stream.status == 200
    assert stream.readline() == b"retry: 1000\n"
    assert "sync workers" not in server.log()
    took = server.stop()
    stream.read()  # to its proper end: IncompleteRead otherwise
    connection.close()
    assert took < 6, server.log()


def test_a_chunked_body_over_the_limit_is_refused(
    gunicorn: Callable[..., Gunicorn], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTKIT_MAX_BODY_BYTES", "1000")
    server = gunicorn(*THREADS)
    for size, status in ((1500, 413), (1000, 400)):
        chunks = iter([b"x" * 500] * (size // 500))
        connection, response = server.request("POST", "/runs", chunks, **{"Content-Type": "application/json"})
        assert (response.status, json.load(response)["status"]) == (status, status)
        connection.close()


def test_sync_workers_are_warned_of_at_the_start(gunicorn: Callable[..., Gunicorn]) -> None:
    assert gunicorn("-k", "sync").log().count("gunicorn runs sync workers") == 1
