"""Watchers of real web processes: through a proxy that buffers, gone without a word, and slower than the run."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from agentkit.client import Client
from tests.acceptance.model import script
from tests.acceptance.stack import THREADS, UVICORN, Stack, WebProcess
from tests.metrics import value
from tests.nginx import Nginx
from tests.turns import call
from tests.waiting import wait_until

GEVENT = ("-k", "gevent")
FADED = 60
"""Seconds after which what a killed process of another test served counts no more (runtime/metrics.py), and some."""
H11 = (*UVICORN, "--http", "h11")
"""uvicorn's other implementation answers HTTP/1.0 in chunks."""


@pytest.fixture
def web(stack: Stack, tmp_path: Path) -> Iterator[Callable[..., WebProcess]]:
    """Starts web processes of this test's own beside the stack's."""
    started: list[WebProcess] = []

    def start(*options: str, **settings: str) -> WebProcess:
        server = WebProcess(f"web-{len(started)}", {**stack.env, **settings}, tmp_path, options)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.kill()


def open_streams(server: WebProcess) -> int:
    return int(value(server.http.get("/metrics").text, "agentkit_event_streams") or 0)


def paused_run(server: WebProcess) -> str:
    return server.begin("support", script([call("refund", order_id="A1", cents=5)], "Done."))


def watch(server: WebProcess, run_id: str) -> socket.socket:
    """A watcher that is nothing but a socket."""
    watcher = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    watcher.sendall(b"GET /runs/%s/events HTTP/1.1\r\nHost: x\r\n\r\n" % run_id.encode())
    assert watcher.recv(12) == b"HTTP/1.1 200"
    return watcher


@pytest.mark.parametrize("options", [THREADS, GEVENT, UVICORN], ids=["gthread", "gevent", "uvicorn"])
def test_gone_watchers_are_let_go_within_two_keepalives(
    stack: Stack, web: Callable[..., WebProcess], options: tuple[str, ...]
) -> None:
    server = web(*options, AGENTKIT_KEEPALIVE_SECONDS="0.5")
    run_id = paused_run(server)
    stack.wait_for(run_id, "paused")
    watchers = [watch(server, run_id) for _ in range(20)]
    wait_until(lambda: open_streams(server) == 20, timeout=FADED, what="all to watch")
    for watcher in watchers:
        watcher.close()
    wait_until(lambda: open_streams(server) == 0, timeout=5, what="the gone to be let go")
    assert server.get(run_id)["status"] == "paused"


def slow_reader(port: int, run_id: str) -> socket.socket:
    """A watcher whose own buffers are small, and who does not read."""
    watcher = socket.socket()
    watcher.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    watcher.settimeout(20)
    watcher.connect(("127.0.0.1", port))
    watcher.sendall(b"GET /runs/%s/events HTTP/1.0\r\nHost: x\r\n\r\n" % run_id.encode())
    return watcher


@pytest.mark.parametrize("options", [THREADS, GEVENT, H11], ids=["gthread", "gevent", "uvicorn"])
def test_a_watcher_who_does_not_read_slows_nobody_and_loses_nothing(
    stack: Stack, web: Callable[..., WebProcess], options: tuple[str, ...]
) -> None:
    server = web(*options)
    history = [{"role": "user", "content": "long " * 1_500_000}, {"role": "user", "content": script("Yes.")}]
    run_id = server.http.post("/runs", json={"agent": "support", "messages": history}).json()["id"]
    with slow_reader(server.port, run_id) as slow:
        followed = list(server.follow(run_id))
        assert followed[-1]["type"] == "agent_end"
        # The first event is longer than all buffers on the way together, so the rest waited in the log.
        received = b"".join(iter(lambda: slow.recv(65536), b""))
    _, _, stream = received.partition(b"\r\n\r\n")
    frames = [line for line in stream.split(b"\n") if line.startswith(b"data: ")]
    assert [json.loads(frame[6:]) for frame in frames] == followed


@pytest.mark.parametrize("options", [THREADS, GEVENT, H11], ids=["gthread", "gevent", "uvicorn"])
def test_a_watcher_who_does_not_read_holds_up_no_stop(
    stack: Stack, web: Callable[..., WebProcess], options: tuple[str, ...]
) -> None:
    server = web(*options)
    history = [{"role": "user", "content": "x" * 8_000_000}, {"role": "user", "content": script("Yes.")}]
    run_id = server.http.post("/runs", json={"agent": "support", "messages": history}).json()["id"]
    stack.wait_for(run_id, "completed")
    with slow_reader(server.port, run_id) as slow:
        assert slow.recv(12)[8:] == b" 200"
        wait_until(lambda: open_streams(server) == 1, timeout=FADED, what="the stream to be open")
        assert server.stop() < 8, server.log()
    assert "Traceback" not in server.log()


def test_a_buffering_proxy_passes_each_event_on_at_once(stack: Stack, tmp_path: Path) -> None:
    run_id = paused_run(stack.web_a)
    stack.wait_for(run_id, "paused")
    with Nginx(tmp_path / "plain", stack.web_a.port) as proxy, Client(f"http://127.0.0.1:{proxy.port}") as client:
        events = []
        for event in client.events(run_id):
            events.append(event)
            if event["type"] == "agent_pause":  # it came, though the stream stays open and silent after it
                client.resume(run_id, decision={"approved": True})
    stack.wait_for(run_id, "completed")
    assert events == stack.checked(run_id)


def test_that_proxy_would_hold_events_back_without_our_header(stack: Stack, tmp_path: Path) -> None:
    run_id = paused_run(stack.web_a)
    stack.wait_for(run_id, "paused")
    with Nginx(tmp_path / "deaf", stack.web_a.port, "proxy_ignore_headers X-Accel-Buffering;") as proxy:
        url = f"http://127.0.0.1:{proxy.port}/runs/{run_id}/events"
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(url, timeout=1.0)


def test_behind_a_proxy_a_restarted_web_process_costs_a_watcher_nothing(
    stack: Stack, web: Callable[..., WebProcess], tmp_path: Path
) -> None:
    server = web(*THREADS, AGENTKIT_KEEPALIVE_SECONDS="0.5")
    run_id = paused_run(server)
    with Nginx(tmp_path / "nginx", server.port) as proxy, Client(f"http://127.0.0.1:{proxy.port}") as client:
        events = []
        for event in client.events(run_id):
            events.append(event)
            if event["type"] == "agent_pause":
                server.kill()
                server.start()
                client.resume(run_id, decision={"approved": True})
        wait_until(lambda: open_streams(server) == 0, timeout=FADED, what="the proxy to hang up as its client did")
    stack.wait_for(run_id, "completed")
    assert events == stack.checked(run_id)


def test_a_websocket_passes_a_proxy_that_is_configured_for_it(stack: Stack, tmp_path: Path) -> None:
    run_id = paused_run(stack.web_a)
    stack.wait_for(run_id, "paused")
    options = 'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'
    with (
        Nginx(tmp_path / "upgrading", stack.web_a.port, options) as proxy,
        connect(f"ws://127.0.0.1:{proxy.port}/runs/{run_id}/ws", proxy=None) as socket,
    ):
        frames = []
        for frame in socket:
            frames.append(json.loads(frame))
            if frames[-1]["type"] == "agent_pause":
                socket.send(json.dumps({"type": "resume", "decision": {"approved": True}}))
    assert {"type": "ok"} in frames
    assert [frame for frame in frames if "seq" in frame] == stack.checked(run_id)
