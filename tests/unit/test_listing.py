"""What a page of runs costs: in proportion to what is shown, and not to how many runs there are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from agentkit import Agent, AgentKit, ScriptedModel, Settings
from agentkit.core.events import RunError
from agentkit.core.ids import new_id
from agentkit.core.record import Status, StatusList, status_list
from agentkit.runtime.listing import MAX_READ
from agentkit.runtime.upgrade import index_runs
from agentkit.store.memory import MemoryStore
from agentkit.testing.store_changes import first_change
from agentkit.web import create_app
from tests.apps import App, FakeQueue
from tests.tools import YES, refund
from tests.turns import call
from tests.waiting import wait_until


class Counting(MemoryStore):
    """Counts the records that are read."""

    read = 0

    def loads(self, run_ids: Sequence[str]) -> list[Any]:
        self.read += len(run_ids)
        return super().loads(run_ids)


def add(
    store: Any,
    owner: str | None = None,
    agent: str = "a",
    status: Status = Status.QUEUED,
    at: int | None = None,
    **fields: Any,
) -> str:
    """A run that is in its lists, was created at `at` (ms), and has had its status for years."""
    run_id = new_id()
    if at is not None:
        fields["created_at"] = at
        run_id = f"{at:012x}"[:8] + "-" + f"{at:012x}"[8:] + run_id[13:]
    store.index(run_id, owner, agent=agent, status=status_list(status))
    change = first_change(run_id, owner=owner)
    store.create(replace(change, record=structs.replace(change.record, agent=agent, status=status, **fields)))
    return run_id


def store_of(count: int, owner: str | None) -> Counting:
    store = Counting()
    for _ in range(count):
        add(store, owner)
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


@pytest.mark.parametrize("hooks", [{}, {"may": lambda *_: True}])
def test_a_page_may_be_of_one_owner_alone(hooks: Any) -> None:
    store = store_of(2000, "ann")
    bobs = [add(store, "bob") for _ in range(3)]
    body, read = page(store, "bob", "?owner=bob", **hooks)
    assert ([run["id"] for run in body["runs"]], read) == (bobs[::-1], 3)
    body, _ = page(store, "bob", "?owner=ann&limit=2", **hooks)
    assert len(body["runs"]) == (2 if hooks else 0)  # without `may`, those of others are not there


def test_a_page_may_be_of_the_runs_since_a_time_and_older_ones_are_not_read() -> None:
    store = Counting()
    for _ in range(500):
        add(store, "ann", created_at=1_000_000)
    young = [add(store, "ann", created_at=3_000_000) for _ in range(3)]
    body, read = page(store, "ann", "?since=2000000&limit=200")
    assert ([run["id"] for run in body["runs"]], body.get("nextCursor")) == (young[::-1], None)
    assert read <= 100


def test_a_page_may_be_of_the_runs_with_a_text_in_their_title_or_id() -> None:
    store = Counting()
    ids = [add(store, "ann", metadata=metadata) for metadata in ({"title": "Größe ändern"}, {"title": 7}, {})]
    for text, found in (("GRÖSSE", ids[:1]), (ids[1][-8:].upper(), ids[1:2]), ("nothing", []), ("", ids[::-1])):
        body, _ = page(store, "ann", f"?text={text}")
        assert [run["id"] for run in body["runs"]] == found


def test_a_page_may_be_of_the_runs_until_a_time_and_newer_ones_are_not_read() -> None:
    store = Counting()
    old = [add(store, "ann", at=1_000_000 + n) for n in range(3)]
    for n in range(1500):
        add(store, "ann", at=3_000_000 + n)
    body, read = page(store, "ann", "?until=1000001")
    assert ([run["id"] for run in body["runs"]], read) == (old[1::-1], 3)
    body, read = page(store, "ann", "?until=1000001&limit=1")
    body, read = page(store, "ann", f"?until=1000001&cursor={body['nextCursor']}")
    assert ([run["id"] for run in body["runs"]], body.get("nextCursor"), read) == ([old[0]], None, 1)


def test_a_page_may_be_of_the_runs_that_ended_with_an_error() -> None:
    store = Counting()
    cut, slow = (
        add(store, "ann", status=Status.FAILED, error=RunError(code, "x")) for code in ("limit_turns", "provider_error")
    )
    late = add(store, "ann", status=Status.ABORTED, error=RunError("expired", "x"))
    for _ in range(500):
        add(store, "ann", status=Status.COMPLETED)
    for query, found in (
        ("error=limit_turns", [cut]),
        ("error=provider_error&status=failed", [slow]),
        ("error=expired", [late]),
        ("error=expired&status=failed", []),
        ("error=unheard_of", []),
    ):
        body, read = page(store, "ann", f"?{query}")
        assert [run["id"] for run in body["runs"]] == found
        assert read <= 2  # those that failed, or were aborted


def test_a_page_may_be_of_the_runs_with_some_metadata_and_reads_a_bounded_number() -> None:
    store = Counting()
    wanted = add(store, "ann", metadata={"customer": 42, "vip": True, "at": {"b": 1}})
    for _ in range(MAX_READ):
        add(store, "ann", metadata={"customer": "43"})
    assert page(store, "ann", "?metadata[customer]=43&limit=200")[1] <= 300
    body, read = page(store, "ann", "?metadata[customer]=42&metadata[vip]=true")
    assert (body["runs"], read) == ([], MAX_READ)
    cursor = body["nextCursor"]
    for query, found in (
        ("metadata[customer]=42&metadata[vip]=true", [wanted]),
        ('metadata[at]={"b":1}', [wanted]),
        ("metadata[customer]=42&metadata[vip]=false", []),
        ("metadata[vip]=", []),
        ("metadata[gone]=null", []),
    ):
        assert [run["id"] for run in page(store, "ann", f"?{query}&cursor={cursor}")[0]["runs"]] == found


@pytest.mark.parametrize("query", ["since=", "since=-1", "since=soon", "until=1.5", "metadata=a", "metadata[]=a"])
def test_a_filter_that_is_none_is_refused(query: str) -> None:
    kit = AgentKit([Agent("a", ScriptedModel(["x"]))], settings=Settings(), store=MemoryStore(), queue=FakeQueue())
    assert create_app(kit).test_client().get(f"/runs?{query}").json["code"] == "invalid_request"  # type: ignore[index]


def test_a_principal_sees_its_own_among_many() -> None:
    store = store_of(2000, "ann")
    mine = [add(store, "bob") for _ in range(3)]
    body, read = page(store, "bob")
    assert [run["id"] for run in body["runs"]] == mine[::-1]
    assert read == 3


def test_a_page_reads_a_bounded_number_where_may_allows_few_of_many() -> None:
    store = store_of(MAX_READ + 50, "ann")
    body, read = page(store, "bob", may=lambda *_: False)
    assert (body["runs"], read) == ([], MAX_READ)
    body, read = page(store, "bob", f"?cursor={body['nextCursor']}", may=lambda *_: False)
    assert (body, read) == ({"runs": []}, 50)


@pytest.mark.parametrize("owner", ["ann", None])
def test_a_page_of_a_status_reads_no_runs_of_others(owner: str | None) -> None:
    store = Counting()
    paused = [add(store, "ann", status=Status.PAUSED) for _ in range(2)]
    for status in (Status.COMPLETED, Status.FAILED, Status.ABORTED, Status.RUNNING) * 500:
        add(store, "ann", status=status)
    hooks = {} if owner else {"authenticate": None}
    for status, wanted in (("paused", paused[::-1]), ("queued", [])):
        body, read = page(store, "ann", f"?status={status}", **hooks)
        assert [run["id"] for run in body["runs"]] == wanted
        assert read == (2 if status == "paused" else 500)
    body, read = page(store, "ann", "?status=completed&limit=3", **hooks)
    assert (len(body["runs"]), read) == (3, 4)


def test_a_page_of_an_agent_reads_no_runs_of_others() -> None:
    store = Counting()
    few = [add(store, "ann", agent="b") for _ in range(3)]
    for _ in range(1500):
        add(store, "ann")
    body, read = page(store, "ann", "?agent=b&limit=2")
    assert ([run["id"] for run in body["runs"]], read) == (few[:0:-1], 3)
    body, read = page(store, "ann", f"?agent=b&limit=2&cursor={body['nextCursor']}")
    assert ([run["id"] for run in body["runs"]], read) == ([few[0]], 1)
    assert page(store, "ann", "?agent=none") == ({"runs": []}, 0)


def test_of_a_status_and_an_agent_both_count() -> None:
    store = Counting()
    for agent in "ab" * 20:
        add(store, "ann", agent=agent, status=Status.PAUSED)
    wanted = [add(store, "ann", agent="b", status=Status.FAILED) for _ in range(2)]
    body, read = page(store, "ann", "?status=failed&agent=b")
    assert ([run["id"] for run in body["runs"]], read) == (wanted[::-1], 2)


def statuses(kit: AgentKit) -> dict[str, int]:
    """How many runs each status shows."""
    return {status: found for status in Status if (found := len(list(kit.runs(status=status))))}


def test_a_run_is_listed_under_the_status_that_it_has_at_every_moment() -> None:
    app = App([call("refund")], "done", tools=[refund])
    run_id = app.start()
    assert statuses(app.kit) == {"queued": 1}
    app.work()
    assert statuses(app.kit) == {"paused": 1}
    app.kit.resume(run_id, YES)
    assert statuses(app.kit) == {"queued": 1}
    app.work()
    assert statuses(app.kit) == {"completed": 1}
    aborted = app.run()
    app.kit.abort(aborted)
    assert statuses(app.kit) == {"completed": 1, "aborted": 1}
    assert len(list(app.kit.runs(agent="a"))) == 2


def test_an_ended_run_is_taken_out_of_the_lists_of_its_other_statuses() -> None:
    app = App([call("refund")], "done", tools=[refund], lease_seconds=0.1)
    run_id = app.run()
    app.kit.resume(run_id, YES)
    app.work()
    assert app.store.listing(None, 10, status="paused") == [run_id]
    recovery = app.kit.recovery()
    wait_until(
        lambda: (recovery.sweep(), app.store.listing(None, 10, status="paused") == [])[1], what="the recovery check"
    )
    assert app.store.listing(None, 10, status="active") == []
    assert statuses(app.kit) == {"completed": 1}


@pytest.mark.parametrize("ends", ["paused", "completed"])
def test_a_run_that_a_worker_of_an_older_version_paused_or_ended_is_listed_after_its_next_check(ends: str) -> None:
    class OldWorkers(MemoryStore):
        old = True

        def index(self, run_id: str, owner: str | None = None, **lists: Any) -> None:
            super().index(run_id, owner, **({} if self.old else lists))

    store = OldWorkers()
    app = App(*([[call("refund")]] if ends == "paused" else []), "done", tools=[refund], store=store, lease_seconds=0.1)
    app.run()
    store.old = False
    assert statuses(app.kit) == {}
    recovery = app.kit.recovery()
    wait_until(lambda: (recovery.sweep(), statuses(app.kit) == {ends: 1})[1], what="the recovery check")


def test_a_page_takes_out_what_has_left_its_status_for_long_and_nothing_else() -> None:
    store = Counting()
    old = [add(store, "ann", status=Status.PAUSED) for _ in range(150)]
    for run_id in old:
        store.index(run_id, "ann", agent="a", status="active")
    kept = add(store, "ann", status=Status.RUNNING)
    for left in (50, 0):
        body, _ = page(store, "ann", "?status=running")
        assert [run["id"] for run in body["runs"]] == [kept]
        assert len(store.listing(None, 1000, "ann", status="active")) == left + 1
    assert len(store.listing(None, 1000, status="active")) == 1
    assert len(store.listing(None, 1000, "ann", status="paused")) == 150


def test_what_has_just_changed_its_status_stays_in_both_lists() -> None:
    app = App([call("refund")], "done", tools=[refund])
    run_id = app.run()
    assert list(app.kit.runs(status="running")) == []
    assert app.store.listing(None, 10, status="active") == [run_id]


def test_a_run_that_comes_back_while_it_is_taken_out_is_put_back() -> None:
    class Quick(Counting):
        def unindex(self, run_id: str, statuses: Collection[StatusList], owner: str | None = None) -> None:
            super().unindex(run_id, statuses, owner)
            change = first_change(run_id, owner=owner)
            state = self.load(run_id)
            record = structs.replace(state.record, status=Status.RUNNING)
            self.commit(replace(change, before=state.record, record=record, opened=()), state.version)

    store = Quick()
    run_id = add(store, "ann", status=Status.PAUSED)
    store.index(run_id, "ann", agent="a", status="active")
    page(store, "ann", "?status=running")
    assert store.listing(None, 10, status="active") == store.listing(None, 10, "ann", status="active") == [run_id]


def test_runs_of_a_version_without_owners_lists_are_listed_before_and_after_they_are_indexed() -> None:
    class Old(Counting):
        indexed = False

        def has_lists(self) -> bool:
            return self.indexed

        def set_has_lists(self) -> None:
            self.indexed = True

    store = Old()
    ids = [new_id() for _ in range(1200)]
    for number, run_id in enumerate(ids):
        store.index(run_id)
        store.create(first_change(run_id, owner="bob" if number == 1100 else "ann"))
    for query in ("", "?status=queued", "?agent=a"):
        body, _ = page(store, "bob", query)
        assert [run["id"] for run in body["runs"]] == [ids[1100]]
    index_runs(store)
    for query in ("", "?status=queued", "?agent=a"):
        body, read = page(store, "bob", query)
        assert ([run["id"] for run in body["runs"]], read) == ([ids[1100]], 1)
