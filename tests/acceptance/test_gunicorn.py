"""The web application under gunicorn: what only a real server can show. No worker runs, so streams stay silent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from tests.acceptance.stack import THREADS, WebProcess, environment

APPLICATION = """
from agentkit import Agent, AgentKit, ScriptedModel
kit = AgentKit([Agent("hello", model=ScriptedModel(["Hello."]))])
"""


@pytest.fixture
def gunicorn(tmp_path: Path, redis_url: str) -> Iterator[Callable[..., WebProcess]]:
    (tmp_path / "hello_app.py").write_text(APPLICATION)
    started: list[WebProcess] = []

    def start(*options: str, **settings: str) -> WebProcess:
        env = environment(AGENTKIT_REDIS_URL=redis_url, AGENTKIT_APP="hello_app:kit", HOME=str(tmp_path), **settings)
        started.append(WebProcess("web", env, tmp_path, options, cwd=tmp_path))
        started[-1].start()
        return started[-1]

    yield start
    for server in started:
        server.kill()


def post_run(server: WebProcess, body: object, **headers: str) -> tuple[HTTPConnection, HTTPResponse]:
    """POST /runs with nothing between us and the socket: tests look at how bodies and streams end."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", "/runs", body, {"Content-Type": "application/json", **headers})  # type: ignore[arg-type]
    return connection, connection.getresponse()


@pytest.mark.parametrize(
    "options", [THREADS, (*THREADS, "--preload"), ("-k", "gevent")], ids=["gthread", "preload", "gevent"]
)
def test_a_stop_ends_open_streams_at_once(gunicorn: Callable[..., WebProcess], options: tuple[str, ...]) -> None:
    server = gunicorn(*options)
    body = json.dumps({"agent": "hello", "input": "x"})
    connection, stream = post_run(server, body, Accept="text/event-stream")
    assert stream.status == 200
    assert stream.readline() == b"retry: 1000\n"
    assert "sync workers" not in server.log()
    took = server.stop()
    stream.read()  # to its proper end: IncompleteRead otherwise
    connection.close()
    assert took < 6, server.log()


def test_a_chunked_body_over_the_limit_is_refused(gunicorn: Callable[..., WebProcess]) -> None:
    server = gunicorn(*THREADS, AGENTKIT_MAX_BODY_BYTES="1000")
    for size, status in ((1500, 413), (1000, 400)):
        chunks = iter([b"x" * 500] * (size // 500))
        connection, response = post_run(server, chunks)
        assert (response.status, json.load(response)["status"]) == (status, status)
        connection.close()


def test_sync_workers_are_warned_of_at_the_start(gunicorn: Callable[..., WebProcess]) -> None:
    assert gunicorn("-k", "sync").log().count("gunicorn runs sync workers") == 1
