"""The web application under gunicorn: what only a real server can show. No worker runs, so streams stay silent."""

from __future__ import annotations

import json
import shlex
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.acceptance.stack import ROOT, THREADS, UVICORN, WebProcess, environment
from tests.waiting import wait_until

APPLICATION = """
from agentkit import Agent, AgentKit, ScriptedModel
kit = AgentKit([Agent("hello", model=ScriptedModel(["Hello."]))])
"""


BOTH = pytest.mark.parametrize("options", [THREADS, UVICORN], ids=["gunicorn", "uvicorn"])


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
    "options",
    [THREADS, (*THREADS, "--preload"), ("-k", "gevent"), UVICORN],
    ids=["gthread", "preload", "gevent", "uvicorn"],
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


@BOTH
def test_a_chunked_body_over_the_limit_is_refused(
    gunicorn: Callable[..., WebProcess], options: tuple[str, ...]
) -> None:
    server = gunicorn(*options, AGENTKIT_MAX_BODY_BYTES="1000")
    for size, status in ((1500, 413), (1000, 400)):
        chunks = iter([b"x" * 500] * (size // 500))
        connection, response = post_run(server, chunks)
        assert (response.status, json.load(response)["status"]) == (status, status)
        connection.close()


@BOTH
def test_a_stream_token_only_reads_unless_it_was_made_to_answer(
    gunicorn: Callable[..., WebProcess], options: tuple[str, ...]
) -> None:
    server = gunicorn(*options, AGENTKIT_SECRET_KEY="0123456789abcdef0123456789abcdef")
    run_id = server.http.post("/runs", json={"agent": "hello", "input": "x"}).json()["id"]
    answers = []
    for body in ({}, {"scope": "read"}, {"scope": "answer"}):
        token = server.http.post(f"/runs/{run_id}/stream-token", json=body).json()["token"]
        with connect(f"ws://127.0.0.1:{server.port}/runs/{run_id}/ws?token={token}", proxy=None) as client:
            client.send('{"type": "abort"}')
            frames = [json.loads(text) for text in client] if body.get("scope") == "answer" else []
            while not any(frame["type"] in ("ok", "error") for frame in frames):
                frames.append(json.loads(client.recv(timeout=10)))
        answers.append(next(frame for frame in frames if frame["type"] in ("ok", "error")))
    assert [answer.get("code") for answer in answers] == ["forbidden", "forbidden", None]
    assert server.http.get(f"/runs/{run_id}").json()["status"] == "aborted"


@BOTH
def test_a_host_that_is_not_named_is_refused_also_for_a_handshake(
    gunicorn: Callable[..., WebProcess], options: tuple[str, ...]
) -> None:
    server = gunicorn(*options, AGENTKIT_HOSTS="localhost,127.0.0.1")
    run_id = server.http.post("/runs", json={"agent": "hello", "input": "x"}).json()["id"]
    handshake = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    handshake["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    for path in ("/", "/runs", "/healthz", "/nowhere", f"/runs/{run_id}/events", f"/runs/{run_id}/ws"):
        for host in ("rebound.example", f"rebound.example:{server.port}", "localhost.rebound.example"):
            response = server.http.get(path, headers={**handshake, "Host": host, "X-Forwarded-Host": "localhost"})
            assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
    assert server.http.get("/runs").status_code == 200


HOST_APPLICATION = """
import json
from flask import Flask, Response
from agentkit import Agent, AgentKit, ScriptedModel
from agentkit.errors import TooManyWatchersError
from agentkit.web import sse_response

kit = AgentKit([Agent("hello", model=ScriptedModel(["Hello."]))])
app = Flask("host")

@app.get("/healthz")
def alive():
    return kit.start("hello", "x").id

@app.get("/events/<run_id>")
def events(run_id):
    def lines():
        for event in kit.handle(run_id).events(keepalive=0.3):
            yield ":\\n" if event is None else json.dumps(event) + "\\n"
    return Response(lines(), mimetype="application/x-ndjson")

@app.get("/stream/<run_id>")
def stream(run_id):
    try:
        return sse_response(kit.handle(run_id), 0, keepalive=0.3)
    except TooManyWatchersError:  # those that have left are let go at the next keepalive
        return "", 503
"""
ASGI_HOST_APPLICATION = """
import json
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, StreamingResponse
from agentkit import Agent, AgentKit, ScriptedModel
from agentkit.asgi import sse_response

kit = AgentKit([Agent("hello", model=ScriptedModel(["Hello."]))])
app = FastAPI()

@app.get("/healthz")
def alive():
    return PlainTextResponse(kit.start("hello", "x").id)

@app.get("/events/{run_id}")
async def events(run_id: str):
    async def lines():
        async for event in kit.handle(run_id).aevents(keepalive=0.3):
            yield ":\\n" if event is None else json.dumps(event) + "\\n"
    return StreamingResponse(lines(), media_type="application/x-ndjson")

@app.get("/stream/{run_id}")
async def stream(run_id: str):
    return sse_response(kit.handle(run_id), 0, keepalive=0.3)
"""
HOSTS = {
    "gthread": (HOST_APPLICATION, ("-k", "gthread", "--threads", "3")),
    "gevent": (HOST_APPLICATION, ("-k", "gevent")),
    "uvicorn": (ASGI_HOST_APPLICATION, UVICORN),
}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("route", ["events", "stream"])
def test_a_hosts_own_route_lets_go_of_browsers_that_left_and_of_a_process_that_stops(
    tmp_path: Path, redis_url: str, host: str, route: str
) -> None:
    application, options = HOSTS[host]
    (tmp_path / "host_app.py").write_text(application)
    env = environment(AGENTKIT_REDIS_URL=redis_url, AGENTKIT_KEEPALIVE_SECONDS="0.3", HOME=str(tmp_path))
    server = WebProcess("web", env, tmp_path, options, cwd=tmp_path, app="host_app:app")
    server.start()
    try:
        run_id = server.http.get("/healthz").text

        def load() -> bool:
            with server.http.stream("GET", f"/{route}/{run_id}") as stream:
                assert stream.status_code in (200, 503)
                return any('"agent_start"' in line for line in stream.iter_lines())

        for _ in range(8):
            wait_until(load, what="the page to load")
        assert server.http.get("/healthz", timeout=20).status_code == 200

        def stop_at_a_keepalive() -> float:
            with server.http.stream("GET", f"/{route}/{run_id}") as stream:
                return server.stop() if any(line.startswith(":") for line in stream.iter_lines()) else 0

        took = wait_until(stop_at_a_keepalive, what="a stream")
        assert took < 6, server.log()
        assert "Traceback" not in server.log()
    finally:
        server.kill()


LINE = b"POST /runs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
BODY = b'{"agent": "hello", "input": "x"}'
BAD = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 300 + b"\r\n\r\n",
    "a line too long": b"GET /runs?cursor=" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a header too long": LINE + b"X-Long: " + b"x" * 200_000 + b"\r\n\r\n",
    "too many headers": LINE + b"".join(b"X-%d: 1\r\n" % n for n in range(5000)) + b"\r\n",
    "NUL in a header": LINE + b"Idempotency-Key: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
    "a folded header": LINE + b"X-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\n{}",
    "a length that is none": LINE + b"Content-Length: -1\r\n\r\n{}",
    "two lengths": LINE + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length and chunks": LINE + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a chunk size that is none": LINE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a huge chunk size": LINE + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n{}",
    "chunks of bytes over the limit": LINE
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"1\r\nx\r\n" * 1500
    + b"0\r\n\r\n",
    "an unknown coding": LINE + b"Transfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    "a key of odd bytes": LINE + b"Idempotency-Key: \xff\xfe\r\nContent-Length: 1\r\n\r\n{",
    "an escaped slash": b"GET /runs/%2Fx%2f..%2f HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "no path": b"GET http://x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Expect: page\r\n\r\n",
}


@pytest.mark.parametrize("options", [THREADS, ("-k", "gevent"), UVICORN], ids=["gthread", "gevent", "uvicorn"])
def test_what_is_hardly_http_is_refused_and_the_server_serves_on(
    gunicorn: Callable[..., WebProcess], options: tuple[str, ...]
) -> None:
    server = gunicorn(*options, AGENTKIT_MAX_BODY_BYTES="1000")
    for name, request in BAD.items():
        status, body = raw(server, request)
        if name == "no path":
            assert status in (200, 400, 404), (name, status)  # 404: uvicorn without httptools takes it all for a path
            continue
        assert status is None or 400 <= status < 500 or status == 501, (name, status)
        assert b"Traceback" not in body, name
        assert server.http.get("/healthz").status_code == 200, name
    good = LINE + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(BODY) + BODY
    assert raw(server, good)[0] == 202
    assert "Traceback" not in server.log()


def raw(server: WebProcess, request: bytes) -> tuple[int | None, bytes]:
    """Send bytes, and read the first answer; None for a status where the server just hung up."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        try:
            connection.sendall(request)
            if not server.is_uvicorn:  # which takes the end of what is sent for a client that has left
                connection.shutdown(socket.SHUT_WR)
            elif b"Connection: close" not in request:
                connection.settimeout(1)
        except OSError:
            pass  # it has hung up already
        answer = b""
        try:
            while chunk := connection.recv(65536):
                answer += chunk
        except (ConnectionError, TimeoutError):
            pass
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split(b" ", 2)[1]) if head else None), body


def test_sync_workers_are_warned_of_at_the_start(gunicorn: Callable[..., WebProcess]) -> None:
    assert gunicorn("-k", "sync").log().count("gunicorn runs sync workers") == 1


def test_slow_clients_do_not_stop_the_server_as_it_is_shipped(gunicorn: Callable[..., WebProcess]) -> None:
    procfile = (ROOT / "Procfile").read_text()
    shipped = next(line for line in procfile.splitlines() if line.startswith("web:"))
    options = shlex.split(shipped)[3:]
    at = options.index("--bind")
    server = gunicorn(*options[:at], *options[at + 2 :])
    with ExitStack() as stack:
        for number in range(200):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            slow.sendall((LINE if number % 2 else LINE + b"Content-Length: 1000\r\n\r\n{") + b"X")
        for _ in range(20):
            assert server.http.get("/healthz", timeout=5).status_code == 200
        connection, response = post_run(server, json.dumps({"agent": "hello", "input": "x"}))
        assert response.status == 202
        connection.close()
