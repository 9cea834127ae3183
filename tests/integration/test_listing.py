"""What a page of runs asks of a real server: no more commands beside thousands of runs of others than beside a few."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from msgspec import structs

from agentkit import Agent, AgentKit, ScriptedModel, Settings
from agentkit.core.ids import new_id
from agentkit.core.inbox import ItemFilter
from agentkit.core.record import Status, status_list
from agentkit.store.redis import RedisStore
from agentkit.testing.store_changes import first_change
from agentkit.web import create_app
from tests import inbox
from tests.apps import FakeQueue

MANY = 3000
OF_ANN = ItemFilter(owner="ann")


class Server:
    """A web process with `count` runs of ann, all completed but a paused one of another agent, and those of bob."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)
        self.store = RedisStore(url)
        hooks: dict[str, Any] = {"authenticate": lambda request: request.headers["X-Name"]}
        kit = AgentKit(
            [Agent("a", ScriptedModel(["x"]))], settings=Settings(), store=self.store, queue=FakeQueue(), **hooks
        )
        self.web = create_app(kit).test_client()

    def add(self, owner: str, status: Status, agent: str = "a") -> str:
        run_id = new_id()
        self.store.index(run_id, owner, agent=agent, status=status_list(status))
        change = first_change(run_id, owner=owner)
        self.store.create(replace(change, record=structs.replace(change.record, status=status, agent=agent)))
        return run_id

    def commands(self) -> int:
        """How many commands the server has executed, those of scripts among them."""
        stats = self.client.info("commandstats")
        return sum(
            each["calls"] for name, each in stats.items() if not name.startswith(("cmdstat_info", "cmdstat_ping"))
        )

    def get(self, who: str, path: str) -> tuple[Any, int]:
        """What is answered, and how many commands it took: the fewest of three times, since the server counts all that
        is sent to it, and a thread of this process may ask it something of its own meanwhile.
        """
        costs = []
        for _ in range(3):
            before = self.commands()
            response = self.web.get(path, headers={"X-Name": who})
            assert response.status_code == 200
            costs.append(self.commands() - before)
        return response.json, min(costs)

    def page(self, who: str, query: str) -> tuple[list[str], int]:
        """The ids of a page, and how many commands it took."""
        body, commands = self.get(who, f"/runs{query}")
        return [run["id"] for run in body["runs"]], commands

    def close(self) -> None:
        self.store.close()
        self.client.close()


@pytest.fixture
def server(redis_url: str) -> Iterator[Server]:
    server = Server(redis_url)
    yield server
    server.close()


def test_pages_of_few_runs_cost_the_same_beside_thousands(server: Server) -> None:
    wanted = server.add("ann", Status.PAUSED, "b")
    queries = {
        ("bob", "?status=paused&limit=1"): [],
        ("bob", "?limit=1"): [],
        ("bob", "?agent=a"): [],
        ("ann", "?status=paused&limit=1"): [wanted],
        ("ann", "?status=running"): [],
        ("ann", "?agent=b"): [wanted],
    }

    def costs() -> dict[tuple[str, str], int]:
        found = {}
        for query, ids in queries.items():
            shown, found[query] = server.page(*query)
            assert shown == ids
        return found

    for _ in range(20):
        server.add("ann", Status.COMPLETED)
    server.page("ann", "")  # what a first call asks once
    few = costs()
    for _ in range(MANY):
        server.add("ann", Status.COMPLETED)
    assert costs() == few
    assert max(few.values()) < 15


def test_the_inbox_and_its_count_cost_the_same_beside_thousands_of_items(server: Server) -> None:
    def add(count: int) -> None:
        for _ in range(count):
            inbox.add(server.store, "ann")

    mine = inbox.add(server.store, "bob")

    def costs() -> list[int]:
        asked = [
            server.get(who, path)
            for who in ("ann", "bob")
            for path in ("/decisions?limit=5&tool=t", "/decisions/count")
        ]
        assert [len(asked[0][0]["decisions"]), asked[1][0]["pending"]] == [5, *server.store.count_items(OF_ANN)]
        assert [item["runId"] for item in asked[2][0]["decisions"]] == [mine]
        assert asked[3][0]["pending"] == 1
        return [commands for _, commands in asked]

    add(20)
    costs()  # what a first call asks once
    few = costs()
    add(MANY)
    assert costs() == few
    assert max(few) < 30
