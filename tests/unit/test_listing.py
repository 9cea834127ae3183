"""What a page of runs costs: in proportion to what is shown, and not to how many runs there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from agentkit import Agent, AgentKit, ScriptedModel, Settings
from agentkit.core.ids import new_id
from agentkit.kit import MAX_READ
from agentkit.runtime.upgrade import index_owners
from agentkit.store.memory import MemoryStore
from agentkit.web import create_app
from tests.apps import FakeQueue
from tests.store_changes import first_change


class Counting(MemoryStore):
    """Counts the records that are read."""

    read = 0

    def loads(self, run_ids: Sequence[str]) -> list[Any]:
        self.read += len(run_ids)
        return super().loads(run_ids)


def store_of(count: int, owner: str | None) -> Counting:
    store = Counting()
    for _ in range(count):
        run_id = new_id()
        store.index(run_id, owner)
        store.create(first_change(run_id, owner=owner))
    return store


def page(store: Counting, who: str, query: str = "", **hooks: Any) -> tuple[Any, int]:
    """The page that a principal gets, and how many records were read for it."""
    hooks = {"authenticate": lambda request: request.headers["X-Name"], **hooks}
    kit = AgentKit([Agent("a", ScriptedModel(["x"]))], settings=Settings(), store=store, queue=FakeQueue(), **hooks)
    store.read = 0
    response = create_app(kit).test_client().get(f"/runs{query}", headers={"X-Name": who})
    assert response.status_code == 200
    return response.json, store.read


@pytest.mark.parametrize("query", ["", "?limit=1", "?status=paused&limit=1", "?agent=a"])
def test_a_principal_with_no_runs_reads_none_beside_however_many_of_others(query: str) -> None:
    for count in (20, 3000):
        assert page(store_of(count, "ann"), "bob", query) == ({"runs": []}, 0)


def test_a_principal_sees_its_own_among_many() -> None:
    store = store_of(2000, "ann")
    mine = [new_id() for _ in range(3)]
    for run_id in mine:
        store.index(run_id, "bob")
        store.create(first_change(run_id, owner="bob"))
    body, read = page(store, "bob")
    assert [run["id"] for run in body["runs"]] == mine[::-1]
    assert read == 3


def test_a_page_reads_a_bounded_number_where_may_allows_few_of_many() -> None:
    store = store_of(MAX_READ + 50, "ann")
    body, read = page(store, "bob", may=lambda *_: False)
    assert (body["runs"], read) == ([], MAX_READ)
    body, read = page(store, "bob", f"?cursor={body['nextCursor']}", may=lambda *_: False)
    assert (body, read) == ({"runs": []}, 50)


def test_runs_of_a_version_without_owners_lists_are_listed_before_and_after_they_are_indexed() -> None:
    class Old(Counting):
        indexed = False

        def has_owner_lists(self) -> bool:
            return self.indexed

        def set_owner_lists(self) -> None:
            self.indexed = True

    store = Old()
    ids = [new_id() for _ in range(1200)]
    for number, run_id in enumerate(ids):
        store.index(run_id)
        store.create(first_change(run_id, owner="bob" if number == 1100 else "ann"))
    body, _ = page(store, "bob")
    assert [run["id"] for run in body["runs"]] == [ids[1100]]
    index_owners(store)
    body, read = page(store, "bob")
    assert ([run["id"] for run in body["runs"]], read) == ([ids[1100]], 1)
