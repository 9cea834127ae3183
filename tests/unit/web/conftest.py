"""A kit in this process, with threads for workers, and a client in front of it: of each kind of server in turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from agentkit import Agent, AgentKit, ScriptedModel, Settings
from agentkit.asgi import create_app as create_asgi_app
from agentkit.core.record import StepKind
from agentkit.web import create_app
from tests.asgi import AsgiServer
from tests.django_project import make_django, make_django_asgi
from tests.flaky_store import FlakyStore
from tests.tools import locate, refund
from tests.turns import call

REFUND = call("refund", cents=500)


AGENTS = [
    Agent("hello", model=ScriptedModel(["Hello there."], chunk_size=4)),
    Agent("shop", model=ScriptedModel([[REFUND], "Done."]), tools=[refund]),
    Agent("twice", model=ScriptedModel([[REFUND, REFUND], "Done."]), tools=[refund]),
    Agent(
        "map",
        model=ScriptedModel([[call("locate")], "Found."]),
        tools=[locate],
    ),
]


class ThreadQueue:
    """A `StepQueue` that executes what is enqueued in threads of this process."""

    def __init__(self) -> None:
        self.kit: AgentKit | None = None
        self.up = True
        self._pool = ThreadPoolExecutor(4)

    def enqueue(self, run_id: str, step: int, kind: StepKind, queue: str | None = None) -> None:
        assert self.kit is not None
        if self.up:
            self._pool.submit(self.kit.execute, run_id, step)

    def push(self, run_id: str, step: int, kind: StepKind, queue: str | None = None) -> None:
        return None

    def name(self, kind: StepKind, queue: str | None = None) -> str:
        return queue or "agentkit"

    def queued(self, name: str) -> int:
        return 0

    def probe(self, queue: str) -> None:
        pass

    def notify(self, run_id: str, entry_id: str) -> None:
        assert self.kit is not None
        if self.up:
            self._pool.submit(self.kit.deliver, run_id, entry_id)

    def notify_queue(self) -> str:
        return "agentkit"

    def reachable(self) -> bool:
        return self.up

    def close(self) -> None:
        self._pool.shutdown()


SERVERS: dict[str, Callable[[AgentKit], Any]] = {
    "flask": create_app,
    "django": make_django,
    "asgi": lambda kit: AsgiServer(create_asgi_app(kit)),
    "django_asgi": make_django_asgi,
}
"""What makes a WSGI application of a kit; of an ASGI application, one around it."""


class Web:
    """The web layer over a kit whose steps are executed by threads of this process.

    `server`: the kind that its `client` sends requests to. `app` is Flask's, of the same kit, whatever the kind.
    """

    def __init__(
        self, store: FlakyStore, queue: ThreadQueue, kit: AgentKit | None = None, server: str = "flask"
    ) -> None:
        self.server = server
        self.store = store
        self.queue = queue
        settings = Settings(max_body_bytes=30_000)
        self.kit = queue.kit = kit or AgentKit(AGENTS, settings=settings, store=store, queue=queue)
        self.app = create_app(self.kit)
        self.client = Client(self.app) if server == "flask" else self.client_of(self.kit)

    def client_of(self, kit: AgentKit) -> Client:
        """A client of another kit, served alike."""
        return Client(SERVERS[self.server](kit))

    def start(self, agent: str = "hello", **more: Any) -> str:
        """Start a run, wait until it ends or pauses, and return its id."""
        response = self.client.post("/runs", json={"agent": agent, "input": "hi", **more})
        assert response.status_code == 202, response.text
        run_id: str = response.json["id"]
        self.kit.handle(run_id).wait(10)
        return run_id

    def resume(self, run_id: str, body: Any, **headers: str) -> TestResponse:
        return self.client.post(
            f"/runs/{run_id}/resume", json=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    def beat(self) -> None:
        self.store.heartbeat("worker", 60_000)


@pytest.fixture(params=["flask", "django", "asgi"])
def server(request: pytest.FixtureRequest) -> str:
    """The kind of server: what is tested holds for each."""
    kind: str = request.param
    return kind


@pytest.fixture
def web(server: str) -> Iterator[Web]:
    queue, store = ThreadQueue(), FlakyStore()
    yield Web(store, queue, server=server)
    store.fail.clear()  # a thread that still waits for the store ends
    queue.close()


@pytest.fixture
def stopped_web(web: Web) -> Web:
    """Its queue takes nothing: what is started stays queued."""
    web.queue.up = False
    return web


def frames(body: bytes) -> list[tuple[int, dict[str, Any]]]:
    """The (id, event) of each frame of a stream."""
    found = []
    for block in body.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if "data" in lines:
            assert set(lines) == {"id", "data"}
            found.append((int(lines["id"]), json.loads(lines["data"])))
    return found


def assert_problem(response: TestResponse, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    body: dict[str, Any] = json.loads(response.data.decode("utf-8"))
    assert (body["status"], body["code"]) == (status, code)
    assert {"type", "title", "detail"} <= body.keys()
    assert "Traceback" not in response.text
    return body
