"""A quota that is used up, over HTTP: with each kind of server."""

from __future__ import annotations

import pytest

from agentkit import AgentKit, Quota
from agentkit.store.memory import MemoryStore
from tests.unit.web.conftest import AGENTS, ThreadQueue, Web, assert_problem


@pytest.fixture
def narrow(web: Web) -> Web:
    """A site where ann may have one run, and nobody else any; its queue takes nothing."""
    queue = ThreadQueue()
    queue.up = False
    kit = queue.kit = AgentKit(
        AGENTS,
        store=MemoryStore(),
        queue=queue,
        authenticate=lambda request: request.headers.get("X-User"),
        quota=lambda principal: Quota(active_runs=1 if principal == "ann" else 0),
    )
    web.client = web.client_of(kit)
    return web


def test_a_start_beyond_the_quota_is_a_429_that_says_when_to_come_again(narrow: Web) -> None:
    body = {"agent": "hello", "input": "hi"}
    assert narrow.client.post("/runs", json=body, headers={"X-User": "ann"}).status_code == 202
    for user in ("ann", "bob"):
        refused = narrow.client.post("/runs", json=body, headers={"X-User": user})
        problem = assert_problem(refused, 429, "quota_exceeded")
        assert problem["title"] == "Too Many Requests"
        assert "active runs" in problem["detail"]
        assert refused.headers["Retry-After"] == "5"
    assert len(narrow.client.get("/runs", headers={"X-User": "ann"}).json["runs"]) == 1


def test_a_start_that_streams_is_refused_alike(narrow: Web) -> None:
    headers = {"X-User": "bob", "Accept": "text/event-stream"}
    assert_problem(
        narrow.client.post("/runs", json={"agent": "hello", "input": "hi"}, headers=headers), 429, "quota_exceeded"
    )
