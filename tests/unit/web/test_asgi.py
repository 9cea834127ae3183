"""What is the ASGI application's own: mounts, scopes, bodies, WebSockets, and streams that hold no thread.

All else runs through the tests of the routes, which use the fixture `web`: each over Flask and over ASGI.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse, WebSocketTestSession
from starlette.websockets import WebSocket, WebSocketDisconnect

from agentkit import AgentKit, Settings
from agentkit.asgi import application, create_app, sse_response
from agentkit.asgi.application import environ_of
from agentkit.runtime import web_server
from agentkit.runtime.threads import MAX_THREADS
from agentkit.server.streams import open_streams
from agentkit.store.memory import MemoryStore
from tests.unit.web.conftest import AGENTS, ThreadQueue, frames
from tests.waiting import wait_until

Message = dict[str, Any]


@pytest.fixture
def make_kit() -> Iterator[Callable[..., AgentKit]]:
    queues: list[ThreadQueue] = []

    def make(settings: Settings | None = None, **hooks: Any) -> AgentKit:
        queues.append(ThreadQueue())
        kit = AgentKit(AGENTS, settings=settings or Settings(), store=MemoryStore(), queue=queues[-1], **hooks)
        queues[-1].kit = kit
        return kit

    yield make
    for queue in queues:
        queue.close()


@pytest.fixture
def kit(make_kit: Callable[..., AgentKit]) -> AgentKit:
    return make_kit()


def begin(kit: AgentKit, agent: str = "shop", **options: Any) -> str:
    run_id = kit.start(agent, "hi", **options).id
    kit.handle(run_id).wait(10)
    return run_id


def scope(path: str, method: str = "GET", kind: str = "http", **more: Any) -> Message:
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        **more,
    }


# -- in an application


def test_two_kits_stand_below_two_prefixes_which_all_their_urls_carry(make_kit: Callable[..., AgentKit]) -> None:
    kits = make_kit(), make_kit()
    app = Starlette(routes=[Mount("/desk/agents", create_app(kits[0])), Mount("/shop", create_app(kits[1]))])
    client = TestClient(app, root_path="/behind")
    for prefix, kit in zip(("/desk/agents", "/shop"), kits, strict=True):
        begun = client.post(f"{prefix}/runs", json={"agent": "hello", "input": "x"})
        assert begun.status_code == 202
        assert begun.headers["location"] == f"/behind{prefix}/runs/{begun.json()['id']}"
        assert [run.id for run in kit.runs()] == [begun.json()["id"]]
        page = client.get(f"{prefix}/")
        assert page.status_code == 200
        asset = page.text.partition('src="./')[2].partition('"')[0]
        assert client.get(f"{prefix}/{asset}").status_code == 200
        missing = client.get(f"{prefix}/nowhere")
        assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    assert client.get("/nowhere").text == "Not Found", "the host's own"


def test_page_and_system_can_be_left_out(kit: AgentKit) -> None:
    client = TestClient(create_app(kit, page=False, system=False))
    assert {path: client.get(path).status_code for path in ("/", "/healthz", "/readyz", "/metrics", "/runs")} == {
        **dict.fromkeys(("/", "/healthz", "/readyz", "/metrics"), 404),
        "/runs": 200,
    }


class ByName(AuthenticationBackend):
    """Takes the header X-Name at its word."""

    async def authenticate(self, conn: Any) -> Any:
        name = conn.headers.get("X-Name")
        return (AuthCredentials(), SimpleUser(name)) if name else None


def test_the_hosts_user_and_session_can_be_read_by_the_hooks(make_kit: Callable[..., AgentKit]) -> None:
    seen: list[Any] = []

    def authenticate(request: Any) -> str | None:
        its_scope = request.environ["asgi.scope"]
        seen.append((its_scope["session"].get("theme"), request.path, request.headers.get("X-Name")))
        return its_scope["user"].display_name or None

    async def log_in(request: Request) -> JSONResponse:
        request.session["theme"] = "dark"
        return JSONResponse({})

    kit = make_kit(authenticate=authenticate)
    app = Starlette(
        routes=[Route("/login", log_in, methods=["POST"]), Mount("/agents", create_app(kit))],
        middleware=[
            Middleware(SessionMiddleware, secret_key="s" * 32),
            Middleware(AuthenticationMiddleware, backend=ByName()),
        ],
    )
    client = TestClient(app)
    client.post("/login")
    assert client.get("/agents/runs").status_code == 401
    ann = {"X-Name": "ann"}
    run_id = client.post("/agents/runs", json={"agent": "shop", "input": "x"}, headers=ann).json()["id"]
    assert kit.get(run_id).owner == "ann"
    assert client.get(f"/agents/runs/{run_id}", headers={"X-Name": "bob"}).status_code == 404
    assert seen[1] == ("dark", "/runs", "ann")
    kit.handle(run_id).wait(10)
    with client.websocket_connect(f"/agents/runs/{run_id}/ws", headers=ann) as socket:
        assert read(socket, "agent_pause")
    assert seen[-1] == ("dark", f"/runs/{run_id}/ws", "ann")


def test_context_variables_of_a_middleware_reach_the_hooks(make_kit: Callable[..., AgentKit]) -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    kit = make_kit(authenticate=lambda request: tenant.get())
    inner = create_app(kit)

    async def app(its_scope: Any, receive: Any, send: Any) -> None:
        tenant.set("acme")
        await inner(its_scope, receive, send)

    run_id = TestClient(app).post("/runs", json={"agent": "hello", "input": "x"}).json()["id"]
    assert kit.get(run_id).owner == "acme"


def test_it_takes_part_in_the_servers_start_and_stop(kit: AgentKit) -> None:
    with TestClient(create_app(kit)) as client:
        assert client.get("/healthz").json() == {"status": "ok"}


def test_without_starlette_there_is_one_line() -> None:
    script = "import sys; sys.modules['starlette'] = None; import agentkit.asgi"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "agentkit.errors.ConfigurationError: agentkit.asgi needs Starlette: pip install 'agentkit-celery[asgi]'"
    )


# -- requests


def test_a_header_with_an_underscore_is_not_read_as_the_one_with_a_dash() -> None:
    headers = [(b"x_name", b"forged"), (b"x-name", b"ann"), (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"te", b"1")]
    environ = environ_of(scope("/", headers=[*headers, (b"te", b"2"), (b"transfer-encoding", b"chunked")]))
    assert environ["HTTP_X_NAME"] == "ann"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["HTTP_TE"] == "1,2"
    assert "HTTP_TRANSFER_ENCODING" not in environ


@pytest.mark.parametrize(
    ("root", "path", "raw", "expected"),
    [
        ("", "/runs", b"/runs", ("", "/runs")),
        ("/agents", "/agents/runs", b"/agents/runs", ("/agents", "/runs")),
        ("/agents/", "/agents", b"/agents", ("/agents", "")),
        ("/agents", "/agentsx/runs", b"/agentsx/runs", ("/agents", "/agentsx/runs")),
        ("/agents", "/runs", b"/runs", ("/agents", "/runs")),
        ("/caf\u00e9", "/caf\u00e9/runs", b"/caf%C3%A9/runs", ("/caf\xc3\xa9", "/runs")),
        ("", "/\ufffd", b"/%ff", ("", "/\xff")),
        ("", "/rewritten", b"/before", ("", "/rewritten")),
        ("", "/runs", None, ("", "/runs")),
    ],
)
def test_paths_are_split_where_the_mount_ends_and_keep_their_bytes(
    root: str, path: str, raw: bytes | None, expected: tuple[str, str]
) -> None:
    environ = environ_of(scope(path, root_path=root, raw_path=raw))
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == expected


class Client:
    """A client that is nothing but messages."""

    def __init__(self, *sent: Message) -> None:
        self._sent: asyncio.Queue[Message] = asyncio.Queue()
        self.got: list[Message] = []
        for message in sent:
            self._sent.put_nowait(message)

    def sends(self, message: Message) -> None:
        self._sent.put_nowait(message)

    async def receive(self) -> Message:
        return await self._sent.get()

    async def send(self, message: Message) -> None:
        self.got.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.got)


def test_clients_that_send_slowly_hold_no_thread_and_one_that_leaves_has_done_nothing(kit: AgentKit) -> None:
    app = create_app(kit)
    post = scope("/runs", "POST", headers=[(b"host", b"x"), (b"content-type", b"application/json")])
    body = b'{"agent": "hello", "input": "x"}'
    before = threading.active_count()

    async def run() -> None:
        slow = [Client({"type": "http.request", "body": body, "more_body": True}) for _ in range(5 * MAX_THREADS)]
        tasks = [asyncio.create_task(app(post, client.receive, client.send)) for client in slow]
        quick = Client({"type": "http.request", "body": body})
        await app(post, quick.receive, quick.send)
        assert quick.got[0]["status"] == 202
        assert threading.active_count() <= before + MAX_THREADS + 4  # what executes the run's steps
        for client in slow:
            client.sends({"type": "http.disconnect"})
        await asyncio.gather(*tasks)
        assert [client.got for client in slow] == [[]] * len(slow)

    asyncio.run(run())
    assert len(list(kit.runs())) == 1


def test_of_a_body_that_says_it_is_too_long_nothing_is_read(make_kit: Callable[..., AgentKit]) -> None:
    app = create_app(make_kit(Settings(max_body_bytes=1000)))
    headers = [(b"host", b"x"), (b"content-type", b"application/json"), (b"content-length", b"100000")]
    client = Client()  # one that waits for a word before it sends
    asyncio.run(app(scope("/runs", "POST", headers=headers), client.receive, client.send))
    assert client.got[0]["status"] == 413
    assert json.loads(client.body)["code"] == "payload_too_large"


# -- WebSockets


def read(socket: WebSocketTestSession, until: str) -> list[Message]:
    """The frames up to and with the first of type `until`."""
    found: list[Message] = []
    while not found or found[-1]["type"] != until:
        found.append(socket.receive_json())
    return found


def test_a_run_is_followed_and_answered_over_a_websocket(kit: AgentKit) -> None:
    run_id, before = begin(kit), open_streams()
    with TestClient(create_app(kit)).websocket_connect(f"/runs/{run_id}/ws") as socket:
        seen = read(socket, "agent_pause")
        assert open_streams() == before + 1
        socket.send_text("{")
        assert read(socket, "error")[-1]["code"] == "invalid_request"
        socket.send_bytes(b"{}")
        assert "binary" in read(socket, "error")[-1]["detail"]
        socket.send_json({"type": "resume", "decision": {"approved": True}})
        answer, *events = read(socket, "agent_end")
        assert answer == {"type": "ok"}, "which comes before what it caused"
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
    assert closed.value.code == 1000
    assert [event["seq"] for event in (*seen, *events)] == list(range(1, kit.get(run_id).last_seq + 1))
    wait_until(lambda: open_streams() == before, what="the slot to be free")


@pytest.mark.parametrize(("path", "status"), [("/runs/unknown/ws", 404), ("/runs/{id}/ws?after=x", 400)])
def test_a_handshake_is_refused_by_a_problem_or_where_the_server_cannot_by_a_close(
    kit: AgentKit, path: str, status: int
) -> None:
    path = path.replace("{id}", begin(kit))
    with pytest.raises(WebSocketDenialResponse) as refused, TestClient(create_app(kit)).websocket_connect(path):
        pass
    assert refused.value.status_code == status
    assert refused.value.headers["content-type"] == "application/problem+json"
    assert refused.value.json()["status"] == status
    path, _, query = path.partition("?")
    client = Client({"type": "websocket.connect"})
    its_scope = scope(path, kind="websocket", query_string=query.encode(), scheme="ws")
    asyncio.run(create_app(kit)(its_scope, client.receive, client.send))
    assert client.got == [{"type": "websocket.close"}]


def test_a_server_that_has_no_websockets_says_what_to_do_instead(kit: AgentKit) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    headers["Sec-WebSocket-Key"] = "AAAAAAAAAAAAAAAAAAAAAA=="
    answer = TestClient(create_app(kit)).get(f"/runs/{begin(kit)}/ws", headers=headers)
    assert answer.status_code == 400
    assert "GET /runs/{id}/events" in answer.json()["detail"]


def test_messages_of_a_client_that_reads_nothing_are_carried_out(kit: AgentKit) -> None:
    run_id = begin(kit)

    async def run() -> None:
        reads = asyncio.Event()
        client = Client({"type": "websocket.connect"})

        async def send(message: Message) -> None:
            if message["type"] == "websocket.send":
                await reads.wait()
            await client.send(message)

        serving = asyncio.create_task(
            create_app(kit)(scope(f"/runs/{run_id}/ws", kind="websocket"), client.receive, send)
        )
        client.sends({"type": "websocket.receive", "text": '{"type": "resume"}'})
        client.sends({"type": "websocket.receive", "text": '{"type": "abort"}'})
        async with asyncio.timeout(10):
            await asyncio.to_thread(wait_until, lambda: kit.get(run_id).status == "aborted")
            reads.set()
            await serving
        types = [json.loads(message["text"])["type"] for message in client.got[1:-1]]
        assert [each for each in types if each in ("error", "ok", "agent_end")] == ["error", "ok", "agent_end"]
        assert client.got[-1]["code"] == 1000

    asyncio.run(run())


def test_a_message_over_the_limit_closes_the_websocket(make_kit: Callable[..., AgentKit]) -> None:
    kit = make_kit(Settings(max_body_bytes=1000))
    with TestClient(create_app(kit)).websocket_connect(f"/runs/{begin(kit)}/ws") as socket:
        read(socket, "agent_pause")
        socket.send_text("x" * 1001)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
    assert closed.value.code == 1009


def test_a_websocket_of_the_hosts_own_is_not_touched(kit: AgentKit) -> None:
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())

    app = Starlette(routes=[WebSocketRoute("/echo", echo), Mount("/agents", create_app(kit))])
    with TestClient(app).websocket_connect("/echo") as socket:
        socket.send_text("hello")
        assert socket.receive_text() == "hello"


# -- streams


def watch(
    app: Any,
    path: str,
    count: int,
    then: Callable[[list[Client]], Any],
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    """Open so many streams, wait until each has sent something, call `then`, and hang up."""
    its_scope = scope(path, headers=[(b"host", b"x"), *headers])

    async def run() -> None:
        clients = [Client({"type": "http.request"}) for _ in range(count)]
        tasks = [asyncio.create_task(app(dict(its_scope), client.receive, client.send)) for client in clients]
        async with asyncio.timeout(30):
            await asyncio.to_thread(wait_until, lambda: all(b"id: 1\n" in client.body for client in clients), 30)
            await asyncio.to_thread(then, clients)
            for client in clients:
                client.sends({"type": "http.disconnect"})
            await asyncio.gather(*tasks)

    asyncio.run(run())


def test_watchers_hold_no_thread_each_and_leave_nothing_behind(kit: AgentKit) -> None:
    run_id, before, threads = begin(kit), open_streams(), threading.active_count()

    def check(clients: list[Client]) -> None:
        assert open_streams() == before + len(clients)
        assert threading.active_count() <= threads + MAX_THREADS + 6  # of to_thread above
        assert len({client.body for client in clients}) == 1

    watch(create_app(kit), f"/runs/{run_id}/events", 5 * MAX_THREADS, check)
    assert open_streams() == before


def test_the_hosts_middlewares_hold_no_event_back(kit: AgentKit) -> None:
    async def mark(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["X-Marked"] = "yes"
        return response

    app = Starlette(
        routes=[Mount("/agents", create_app(kit))],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=mark), Middleware(GZipMiddleware, minimum_size=1)],
    )
    run_id, before = begin(kit), open_streams()

    def check(clients: list[Client]) -> None:
        wait_until(lambda: all(b"agent_pause" in client.body for client in clients), what="the pause")
        assert (b"x-marked", b"yes") in clients[0].got[0]["headers"]

    watch(app, f"/agents/runs/{run_id}/events", 5, check, [(b"accept-encoding", b"gzip")])
    assert open_streams() == before


def test_a_client_that_stops_reading_loses_its_stream(kit: AgentKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "STALL_SECONDS", 0.05)
    run_id, before = begin(kit), open_streams()
    client = Client({"type": "http.request"})

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()
        await client.send(message)

    asyncio.run(create_app(kit)(scope(f"/runs/{run_id}/events"), client.receive, send))
    assert [message["type"] for message in client.got] == ["http.response.start"]
    assert open_streams() == before


def test_a_route_of_a_hosts_own_streams_a_run(kit: AgentKit) -> None:
    def text_of(event: Message) -> str | None:
        return event["message"]["role"] if event["type"] == "message_end" else None

    async def ask(request: Request) -> Any:
        handle = await asyncio.to_thread(kit.start, "hello", "x")
        return sse_response(handle, render=text_of, names=True)

    async def live(request: Request) -> Any:
        return sse_response(kit.handle(request.path_params["run_id"]), 0, until_pause=False, keepalive=0.05)

    app = Starlette(routes=[Route("/ask", ask, methods=["POST"]), Route("/live/{run_id}", live)])
    client = TestClient(app)
    answer = client.post("/ask")
    assert answer.headers["content-type"] == "text/event-stream"
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")
    data = [line for line in answer.text.splitlines() if line.startswith(("data", "event"))]
    assert data == ["event: message_end", "data: user", "event: message_end", "data: assistant"]

    run_id, before = begin(kit), open_streams()

    def is_kept_alive(clients: list[Client]) -> None:
        wait_until(lambda: all(b": keepalive" in client.body for client in clients), what="keepalives")
        assert open_streams() == before + 3
        assert frames(clients[0].body)[-1][1]["type"] == "agent_pause"

    watch(app, f"/live/{run_id}", 3, is_kept_alive)
    assert open_streams() == before
    head = client.head(f"/live/{run_id}")
    assert (head.status_code, head.headers["content-type"], head.content) == (200, "text/event-stream", b"")
    assert open_streams() == before


# -- uvicorn's stop


class Server:
    """What uvicorn's server shows of itself."""

    def __init__(self) -> None:
        self.started = True
        self.should_exit = False
        self.is_serving = lambda: True
        self.servers = [self]
        self.server_state = None
        self.config: Any = type("Config", (), {"limit_concurrency": None})


@pytest.mark.parametrize("by_requests", [False, True], ids=["a signal", "as many requests as it may"])
def test_a_stopping_uvicorn_ends_its_streams(kit: AgentKit, monkeypatch: pytest.MonkeyPatch, by_requests: bool) -> None:
    server = Server()
    monkeypatch.setattr(web_server, "_server", server)
    run_id, before = begin(kit), open_streams()

    async def run() -> None:
        client = Client({"type": "http.request"})
        serving = asyncio.create_task(create_app(kit)(scope(f"/runs/{run_id}/events"), client.receive, client.send))
        await asyncio.to_thread(wait_until, lambda: b"agent_pause" in client.body)
        if by_requests:
            server.is_serving = lambda: False
        else:
            server.should_exit = True
        async with asyncio.timeout(5):
            await serving
        assert client.got[-1] == {"type": "http.response.body", "body": b"", "more_body": False}

    asyncio.run(run())
    assert open_streams() == before


def test_a_limit_of_uvicorns_bounds_the_watchers(kit: AgentKit, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    server.config.limit_concurrency = 2
    monkeypatch.setattr(web_server, "_server", server)
    run_id = begin(kit)

    def check(_: list[Client]) -> None:
        refused = TestClient(create_app(kit)).get(f"/runs/{run_id}/events")
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_watchers")

    watch(create_app(kit), f"/runs/{run_id}/events", 1, check)
