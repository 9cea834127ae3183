"""WebSockets in an application that is already there: what its request holds, and what each message runs through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, abort, g, request

from agentkit import AgentKit, Settings
from agentkit.server.streams import open_streams
from agentkit.store.memory import MemoryStore
from agentkit.web import init_app
from tests.sockets import HANDSHAKE, SocketClient
from tests.unit.web.conftest import AGENTS, ThreadQueue, assert_problem
from tests.waiting import wait_until


class _Host:
    """An application with a pool of connections: one for each application context that asked for it."""

    def __init__(self) -> None:
        self.queue = ThreadQueue()
        self.kit = self.queue.kit = AgentKit(
            AGENTS,
            settings=Settings(),
            store=MemoryStore(),
            queue=self.queue,
            authenticate=lambda request: self.name_of_caller(),
            may=lambda principal, action, run: self.connection() > 0,
        )
        self.taken = 0
        self.refuses = False
        self.asked = 0
        self.app = Flask("shop")
        init_app(self.app, self.kit, url_prefix="/ai")

        @self.app.before_request
        def find_user() -> None:
            if self.refuses:
                abort(403)
            g.user = request.headers.get("X-User")

        @self.app.teardown_appcontext
        def give_back(error: BaseException | None) -> None:
            self.taken -= g.pop("connection", 0)

    def connection(self) -> int:
        if "connection" not in g:
            g.connection = 1
            self.taken += 1
        return self.taken

    def name_of_caller(self) -> str | None:
        self.asked += 1
        self.connection()
        user: str | None = g.user
        return user

    def begin(self) -> str:
        run_id = self.kit.start("shop", "hi", owner="ann").id
        self.kit.handle(run_id).wait(10)
        return run_id


@pytest.fixture
def host() -> Iterator[_Host]:
    host = _Host()
    yield host
    host.queue.close()


ANN = {"X-User": "ann"}


def test_an_open_socket_holds_nothing_that_the_applications_context_took(host: _Host) -> None:
    run_id = host.begin()
    client = SocketClient(host.app, f"/ai/runs/{run_id}/ws", ANN)
    client.read("agent_pause")
    assert host.asked == 1
    assert host.taken == 0
    client.send(type="resume", decision={"approved": "yes"})
    assert client.read("error")[-1]["code"] == "decision_invalid"
    assert host.taken == 0
    client.send(type="resume", decision={"approved": True})
    client.read("close")
    assert client.close_code == 1000
    assert [decision.decided_by for decision in host.kit.decisions(run_id)] == ["ann"]
    assert host.asked == 1, "who opened the WebSocket sends its messages"
    client.close()


def test_each_message_goes_through_the_applications_before_request(host: _Host) -> None:
    run_id = host.begin()
    client = SocketClient(host.app, f"/ai/runs/{run_id}/ws", ANN)
    client.read("agent_pause")
    host.refuses = True
    client.send(type="abort")
    [refused] = client.read("error")
    assert (refused["status"], refused["code"]) == (403, "forbidden")
    host.refuses = False
    client.send(type="abort")
    client.read("ok")
    client.close()


@pytest.mark.parametrize("key", ["gunicorn.socket", "werkzeug.socket"])
def test_a_client_that_hangs_up_leaves_no_slot_taken(host: _Host, key: str) -> None:
    before = open_streams()
    client = SocketClient(host.app, f"/ai/runs/{host.begin()}/ws", ANN, key)
    client.read("agent_pause")
    assert open_streams() == before + 1
    client.close()
    wait_until(lambda: open_streams() == before, timeout=10, what="the slot to be free")


def test_a_response_that_no_server_reads_leaves_no_slot_taken(host: _Host) -> None:
    before = open_streams()
    run_id = host.begin()
    with host.app.test_request_context(f"/ai/runs/{run_id}/ws", headers={**HANDSHAKE, **ANN}) as context:
        context.request.environ["gunicorn.socket"] = object()
        response: Any = host.app.full_dispatch_request()
        assert response.status_code == 101
        assert open_streams() == before + 1
        response.close()
    assert open_streams() == before


def test_a_web_server_without_websockets_says_what_to_do_instead(host: _Host) -> None:
    path = f"/ai/runs/{host.begin()}/ws"
    problem = assert_problem(host.app.test_client().get(path, headers={**HANDSHAKE, **ANN}), 400, "invalid_request")
    assert "GET /runs/{id}/events" in problem["detail"]
