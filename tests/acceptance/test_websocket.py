"""A run over a WebSocket, through gunicorn's two kinds of workers and uvicorn, with another's client library."""

from __future__ import annotations

import base64
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.acceptance.model import script
from tests.acceptance.stack import ROOT, THREADS, UVICORN, Stack, WebProcess, environment, events_of
from tests.acceptance.test_gunicorn import APPLICATION, raw
from tests.metrics import value
from tests.turns import call
from tests.waiting import wait_until

REFUND = script([call("refund", order_id="A-1", cents=250)], "Done: you get $2.50 back.")
KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
PINGS = ("--ws-ping-interval", "0.5", "--ws-ping-timeout", "0.5")
"""Under uvicorn pings are its own: AGENTKIT_KEEPALIVE_SECONDS sets none there."""
WORKERS = {"gthread": THREADS, "gevent": ("-k", "gevent"), "uvicorn": (*UVICORN, *PINGS)}


@pytest.fixture(scope="module", params=list(WORKERS))
def served(shared_stack: Stack, request: pytest.FixtureRequest) -> Iterator[WebProcess]:
    options = WORKERS[request.param]
    web = WebProcess(f"web-{request.param}", shared_stack.env, shared_stack.folder, options)
    web.start()
    yield web
    web.kill()


@pytest.fixture
def web(stack: Stack, served: WebProcess) -> WebProcess:
    """A web process beside a whole stack."""
    return served


def open_socket(web: WebProcess, run_id: str, query: str = "", **options: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{web.port}/runs/{run_id}/ws{query}", max_size=None, proxy=None, **options)


def said(client: ClientConnection, **frame: Any) -> None:
    client.send(json.dumps(frame))


def read(client: ClientConnection, until: str | None = None) -> list[dict[str, Any]]:
    """The frames up to and with the first of type `until`, or to the end."""
    frames = []
    try:
        while not frames or frames[-1]["type"] != until:
            text = client.recv(timeout=15)
            assert isinstance(text, str)
            frames.append(json.loads(text))
    except ConnectionClosed:
        assert until is None, frames
    return frames


def close_code(client: ClientConnection) -> int | None:
    return client.protocol.close_code


def refusal(web: WebProcess, run_id: str, query: str = "", **options: Any) -> tuple[int, dict[str, Any], Any]:
    """How the handshake was refused."""
    with pytest.raises(InvalidStatus) as caught:
        open_socket(web, run_id, query, **options)
    response = caught.value.response
    assert response.headers["Content-Type"] == "application/problem+json"
    return response.status_code, json.loads(response.body or b""), response.headers


def test_a_run_is_followed_and_answered_over_one_socket(stack: Stack, web: WebProcess) -> None:
    run_id = web.begin("support", REFUND)
    with open_socket(web, run_id) as client:
        frames = read(client, "agent_pause")
        said(client, type="resume", decision={"approved": "yes"})
        error = read(client, "error")[-1]
        assert (error["status"], error["code"], error["errors"][0]["path"]) == (422, "decision_invalid", "/approved")
        said(client, type="message", message=script("And more."), when="followUp")
        assert read(client, "ok") == [{"type": "ok"}]
        said(client, type="resume", decision={"approved": True})
        frames += read(client)
    assert frames.count({"type": "ok"}) == 1
    assert [frame for frame in frames if "seq" in frame] == stack.checked(run_id)
    assert close_code(client) == 1000


def test_a_socket_goes_on_after_a_seq(stack: Stack, web: WebProcess) -> None:
    run_id = web.begin("support", script("Hello."))
    stack.wait_for(run_id, "completed")
    events = events_of(web.sse(run_id))
    for after in (0, 3, len(events)):
        with open_socket(web, run_id, f"?after={after}") as client:
            assert read(client) == events[after:]
        assert close_code(client) == 1000


def test_what_cannot_be_followed_is_refused_before_the_handshake(stack: Stack, web: WebProcess) -> None:
    run_id = web.begin("support", script("Hello."))
    unknown = "01a2059f-dc17-7000-84f1-000000000000"
    assert refusal(web, unknown)[0:2] == (404, web.http.get(f"/runs/{unknown}").json())
    for query, code in (("?after=x", "invalid_last_event_id"), ("?after=9999", "invalid_last_event_id")):
        status, problem, _ = refusal(web, run_id, query)
        assert (status, problem["code"]) == (400, code)
    assert refusal(web, run_id, "?until=pause")[1]["code"] == "invalid_request"
    assert refusal(web, run_id, origin="https://elsewhere.example")[1]["code"] == "forbidden"
    assert web.http.get(f"/runs/{run_id}/ws").status_code == 400
    with open_socket(web, run_id, origin=f"http://127.0.0.1:{web.port}") as client:
        assert read(client)[-1]["type"] == "agent_end"


def test_what_is_no_handshake_is_refused_as_such(stack: Stack, web: WebProcess) -> None:
    run_id = web.begin("support", script("Hello."))
    handshakes = {
        "good": ("GET", "1.1", KEY),
        "HEAD": ("HEAD", "1.1", KEY),
        "HTTP/1.0": ("GET", "1.0", KEY),
        "a key that is none": ("GET", "1.1", "x"),
        "a key of 17 bytes": ("GET", "1.1", base64.b64encode(bytes(17)).decode()),
    }
    for name, (method, version, key) in handshakes.items():
        status, _ = raw(
            web,
            f"{method} /runs/{run_id}/ws HTTP/{version}\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode(),
        )
        of_uvicorn = {"HEAD": 405, "HTTP/1.0": 101} if web.is_uvicorn else {}  # it shakes hands itself
        assert status == of_uvicorn.get(name, 101 if name == "good" else 400), name


def test_a_mistake_is_answered_and_the_socket_goes_on(stack: Stack, web: WebProcess) -> None:
    run_id = web.begin("support", REFUND)
    with open_socket(web, run_id) as client:
        read(client, "agent_pause")
        mistakes = ("{", "[]", "{}", '{"type":"bogus"}', '{"type":"resume"}', b"\x00", '{"type":"abort","why":1}')
        for mistake in mistakes:
            client.send(mistake)
            (error,) = read(client, "error")
            assert (error["status"], error["code"]) == (400, "invalid_request"), mistake
            assert "seq" not in error
        client.ping().wait(5)
        said(client, type="abort", reason="enough")
        frames = read(client)
    assert {"type": "ok"} in frames
    ends = [frame for frame in frames if frame["type"] == "agent_end"]
    assert ends[0]["error"] == {"code": "aborted", "message": "enough"}
    assert close_code(client) == 1000
    stack.checked(run_id, "aborted")


def test_a_message_over_the_limit_closes_the_socket(stack: Stack, web: WebProcess) -> None:
    run_id = web.begin("support", REFUND)
    with open_socket(web, run_id) as client:
        try:
            client.send("x" * 10_000_001)
        except ConnectionClosed:
            pass
        read(client)
    assert close_code(client) == 1009
    assert web.abort(run_id).status_code == 202


def test_messages_of_a_client_that_reads_nothing_are_taken_and_nobody_waits_for_it(
    stack: Stack, web: WebProcess
) -> None:
    history = [{"role": "user", "content": "x" * 8_000_000}, {"role": "user", "content": REFUND}]
    started = web.http.post("/runs", json={"agent": "support", "messages": history})
    assert started.status_code == 202, started.text
    run_id = started.json()["id"]
    stack.wait_for(run_id, "paused")
    with closing(socket.socket()) as deaf, open_socket(web, run_id) as other:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", web.port))
        key = base64.b64encode(os.urandom(16)).decode()
        deaf.sendall(
            f"GET /runs/{run_id}/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert deaf.recv(12) == b"HTTP/1.1 101"
        read(other, "agent_pause")
        body = b'{"type":"abort"}'
        deaf.sendall(bytes([0x81, 0x80 | len(body), 0, 0, 0, 0]) + body)
        assert read(other)[-1]["status"] == "aborted"
    stack.wait_for(run_id, "aborted")


def test_a_stop_sends_clients_elsewhere(stack: Stack, web: WebProcess) -> None:
    run_id = web.begin("support", REFUND)
    try:
        with open_socket(web, run_id) as client:
            frames = read(client, "agent_pause")
            took = web.stop()
            assert read(client) == []
        # uvicorn closes them itself, or we do before it.
        assert close_code(client) in ({1001, 1012} if web.is_uvicorn else {1001})
        assert took < 6, web.log()
    finally:
        web.kill()
        web.start()
    with open_socket(stack.web_b, run_id, f"?after={frames[-1]['seq']}") as client:
        said(client, type="resume", decision={"approved": True})
        frames += read(client)
    assert [frame for frame in frames if "seq" in frame] == stack.checked(run_id)


@pytest.fixture(params=list(WORKERS))
def capped(tmp_path: Path, redis_url: str, request: pytest.FixtureRequest) -> Iterator[WebProcess]:
    """A web process for one watcher, and no worker."""
    (tmp_path / "hello_app.py").write_text(APPLICATION)
    env = environment(
        AGENTKIT_REDIS_URL=redis_url,
        AGENTKIT_APP="hello_app:kit",
        AGENTKIT_MAX_WATCHERS="1",
        AGENTKIT_KEEPALIVE_SECONDS="0.5",
        PYTHONPATH=str(ROOT),
        HOME=str(tmp_path),
    )
    server = WebProcess("web", env, tmp_path, WORKERS[request.param], cwd=tmp_path)
    server.start()
    yield server
    server.kill()


def test_watchers_beyond_the_cap_are_refused_and_do_nothing(capped: WebProcess) -> None:
    run_id = capped.begin("hello", "x")
    with open_socket(capped, run_id) as client:
        read(client, "message_end")
        status, problem, headers = refusal(capped, run_id)
        assert (status, problem["code"], headers["Retry-After"]) == (503, "too_many_watchers", "5")
        refused = capped.http.get(f"/runs/{run_id}/events")
        assert (refused.status_code, refused.json()) == (503, problem)
        accept = {"Accept": "text/event-stream"}
        assert capped.http.post("/runs", json={"agent": "hello", "input": "x"}, headers=accept).status_code == 503
        assert len(capped.http.get("/runs").json()["runs"]) == 1
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            client.recv(timeout=1.6)  # three keepalives: it answers pings, so it stays
        assert time.monotonic() - began > 1.5
    wait_until(lambda: open_streams(capped) == 0, what="the slot to be free")
    stream = HTTPConnection("127.0.0.1", capped.port, timeout=10)
    stream.request("GET", f"/runs/{run_id}/events")
    assert stream.getresponse().status == 200
    assert refusal(capped, run_id)[0] == 503
    stream.close()
    wait_until(lambda: open_streams(capped) == 0, what="the slot to be free")


def open_streams(server: WebProcess) -> float | None:
    return value(server.http.get("/metrics").text, "agentkit_event_streams")


def test_a_client_that_answers_no_ping_is_let_go(capped: WebProcess) -> None:
    run_id = capped.begin("hello", "x")
    with closing(socket.create_connection(("127.0.0.1", capped.port))) as silent:
        silent.settimeout(10)
        silent.sendall(
            f"GET /runs/{run_id}/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert silent.recv(12) == b"HTTP/1.1 101"
        while silent.recv(4096):
            pass
    wait_until(lambda: open_streams(capped) == 0, what="the slot to be free")
