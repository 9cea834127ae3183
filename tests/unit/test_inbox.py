"""The inbox: the pending items of all runs, each once, oldest first, and no trace of those that are none any more."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

import pytest

from agentkit import Agent, AgentKit, LeaseLostError, ScriptedModel, Settings, StoreUnavailableError, tool
from agentkit.core.ids import new_id
from agentkit.core.inbox import ItemFilter, ListedItem, PendingCount, own_items
from agentkit.core.record import Change, Lease
from agentkit.runtime.inbox import MAX_READ, InboxFilter
from agentkit.runtime.upgrade import index_items
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import Commit, Conflict, Push
from agentkit.web import create_app
from tests.apps import App, FakeQueue, die
from tests.inbox import add
from tests.tools import APPROVAL, YES, locate, pay, photo, refund, refund_with
from tests.turns import call
from tests.waiting import wait_until

ALL = InboxFilter()


def ids(kit: AgentKit, **filters: Any) -> list[str]:
    return [item.decision_id for item in kit.pending(**filters)]


def pending(kit: AgentKit, run_id: str) -> list[str]:
    return [item["decisionId"] for item in kit.get(run_id).pending]


# -- what is in it


def test_each_item_of_every_run_is_listed_oldest_first_with_its_run() -> None:
    app = App([call("refund", cents=1), call("refund", cents=2)], "done", tools=[refund])
    runs = [app.kit.start("a", "go", owner=owner, metadata={"title": "A-1"}).id for owner in ("ann", None)]
    app.work()
    items = list(app.kit.pending())
    assert [item.decision_id for item in items] == [item for run_id in runs for item in pending(app.kit, run_id)]
    assert [item.run_id for item in items] == [runs[0], runs[0], runs[1], runs[1]]
    assert [item.owner for item in items] == ["ann", "ann", None, None]
    first = items[0]
    assert (first.agent, first.tool_name, first.kind, first.title) == ("a", "refund", "decision", "A-1")
    assert (first.input, first.schema) == ({"cents": 1}, APPROVAL)
    assert app.kit.count_pending(ALL) == PendingCount(4, first.created_at)


def test_a_title_is_shown_where_it_is_a_text() -> None:
    app = App([call("refund")], "done", tools=[refund])
    for metadata in ({"title": "x"}, {"title": 7}, {}):
        app.kit.start("a", "go", metadata=metadata)
    app.work()
    assert [item.title for item in app.kit.pending()] == ["x", None, None]


def test_filters_select_by_kind_agent_tool_and_owner_alone_and_together() -> None:
    app = App([call("refund"), call("locate")], "done", tools=[refund, locate])
    for owner in ("ann", "bob"):
        app.kit.start("a", "go", owner=owner)
    app.work()
    items = list(app.kit.pending())
    assert len(items) == 4
    choices: dict[str, Any] = {"kind": "client_execute", "agent": "a", "tool": "locate", "owner": "bob"}
    for mask in range(16):
        filters = {name: value for place, (name, value) in enumerate(choices.items()) if mask >> place & 1}
        wanted = [
            item.decision_id
            for item in items
            if {"kind": item.kind, "agent": item.agent, "tool": item.tool_name, "owner": item.owner}.items()
            >= filters.items()
        ]
        assert ids(app.kit, **filters) == wanted
        assert app.kit.count_pending(InboxFilter(ItemFilter(**filters))).pending == len(wanted)
    for filters in ({"agent": "b"}, {"tool": "ref"}, {"owner": ""}, {"kind": "in_doubt"}):
        assert ids(app.kit, **filters) == []
        assert app.kit.count_pending(InboxFilter(ItemFilter(**filters))) == PendingCount(0, None)


def test_an_item_of_a_sub_agents_run_is_listed_once_under_the_run_that_owns_it() -> None:
    helper = Agent("helper", ScriptedModel([[call("refund")], "done"], name="helper"), "", [refund])
    app = App([call("helper", input="x")], "all done", tools=[helper.as_tool()])
    run_id = app.kit.start("a", "go", owner="ann", metadata={"title": "t"}).id
    app.work()
    [listed] = app.kit.get(run_id).pending
    [item] = app.kit.pending()
    assert (item.decision_id, item.run_id) == (listed["decisionId"], listed["runId"])
    assert item.run_id != run_id
    assert (item.agent, item.owner, item.title) == ("helper", "ann", "t")
    app.kit.resume(item.run_id, YES, decision_id=item.decision_id)
    app.work()
    assert (ids(app.kit), app.kit.get(run_id).status) == ([], "completed")


def test_a_client_side_tool_waits_again_under_a_new_item() -> None:
    app = App([call("photo")], "done", tools=[photo])
    run_id = app.run()
    [first] = app.kit.pending()
    assert first.kind == "decision"
    app.kit.resume(run_id, YES)
    [second] = app.kit.pending()
    assert (second.kind, second.decision_id != first.decision_id) == ("client_execute", True)
    assert app.kit.count_pending(ALL).pending == 1


def test_a_call_in_doubt_is_in_the_same_list() -> None:
    app = App([call("pay")], "done", tools=[pay])
    app.start()
    app.execute_next()
    die(app, *app.queue.enqueued[0])
    app.work()
    assert [item.kind for item in app.kit.pending()] == ["in_doubt"]


# -- how it leaves


@pytest.mark.parametrize("how", ["answer", "reject", "abort", "expire", "delete"])
def test_what_is_settled_has_left_the_inbox(how: str) -> None:
    tool = refund_with(decision_timeout=0.05 if how == "expire" else 600)
    app = App([call("refund")], "done", tools=[tool], lease_seconds=0.2)
    run_id, other = app.run(), app.run()
    kept = pending(app.kit, other) if how != "expire" else []
    match how:
        case "answer":
            app.kit.resume(run_id, YES)
        case "reject":
            app.kit.resume(run_id, reject="no")
        case "abort":
            app.kit.abort(run_id)
        case "delete":
            app.kit.delete(run_id, force=True)
        case "expire":
            recovery = app.kit.recovery()
            wait_until(lambda: (recovery.sweep(), not ids(app.kit))[1], what="the expiry")
    assert ids(app.kit) == kept
    assert len(app.store.items(None, 10, ItemFilter())) == len(kept)
    assert app.store.items_of(run_id) == []


def test_an_item_that_is_being_aborted_can_be_answered_no_more_and_is_not_shown() -> None:
    app = App([call("refund"), call("look")], "done", tools=[refund, tool(name="look")(lambda: "seen")])
    run_id = app.start()
    app.execute_next()
    assert len(ids(app.kit)) == 1
    assert app.store.claim(*app.queue.enqueued[0], 60_000) is not None
    app.kit.abort(run_id)
    assert app.kit.get(run_id).status == "running"
    assert ids(app.kit) == []


# -- commits that fail, and processes that die


class Dying(MemoryStore):
    """Does not come back from, or to, a commit; `fails` names where."""

    fails = ""

    def commit(
        self,
        change: Change,
        version: int,
        lease: Lease | None = None,
        pushes: Sequence[Push] = (),
        **options: Any,
    ) -> Commit | Conflict:
        pends = bool(own_items(change.record))
        if pends and self.fails == "before":
            raise ZeroDivisionError  # nobody comes to anything any more, as after a kill
        if pends and self.fails == "lost":
            self.fails = ""
            raise LeaseLostError
        outcome = super().commit(change, version, lease, pushes, **options)
        if self.fails == "after":
            raise ZeroDivisionError
        return outcome

    def unlist_items(self, items: Sequence[ListedItem]) -> None:
        if items and self.fails == "unlist":
            raise StoreUnavailableError("away")
        super().unlist_items(items)


def recovered(app: App) -> bool:
    """Whether after recovery's checks the lists hold what is pending and nothing else."""
    recovery = app.kit.recovery()
    recovery.sweep()
    app.work()
    listed = [item.decision_id for item in app.store.items(None, 100, ItemFilter())]
    return listed == ids(app.kit) and app.kit.count_pending(ALL).pending == len(listed)


def test_an_item_that_a_dead_worker_listed_and_never_made_pending_is_not_shown_and_soon_not_listed() -> None:
    store = Dying()
    app = App([call("refund")], "done", tools=[refund], store=store, lease_seconds=0.2)
    store.fails = "before"
    run_id = app.start()
    with pytest.raises(ZeroDivisionError):
        app.work()
    store.fails = ""
    assert (ids(app.kit), len(app.store.items(None, 10, ItemFilter()))) == ([], 1)
    assert app.kit.count_pending(ALL) == PendingCount(0, None)
    wait_until(lambda: recovered(app) and len(ids(app.kit)) == 1, what="recovery")
    assert ids(app.kit) == pending(app.kit, run_id)


def test_an_item_whose_answer_was_committed_by_a_process_that_died_right_after_is_listed_no_more() -> None:
    store = Dying()
    app = App([call("refund")], "done", tools=[refund], store=store, lease_seconds=0.2)
    run_id = app.run()
    store.fails = "after"
    with pytest.raises(ZeroDivisionError):
        app.kit.resume(run_id, YES)
    store.fails = ""
    assert (ids(app.kit), len(app.store.items(None, 10, ItemFilter()))) == ([], 1)
    wait_until(lambda: recovered(app) and not app.store.items(None, 10, ItemFilter()), what="recovery")
    assert app.kit.get(run_id).status == "completed"


def test_an_answer_is_accepted_while_the_lists_cannot_be_written_and_recovery_makes_up_for_it() -> None:
    store = Dying()
    app = App([call("refund")], "done", tools=[refund], store=store, lease_seconds=0.2)
    run_id = app.run()
    store.fails = "unlist"
    app.kit.resume(run_id, YES)
    assert len(app.store.items(None, 10, ItemFilter())) == 1
    store.fails = ""
    wait_until(lambda: recovered(app) and not app.store.items(None, 10, ItemFilter()), what="recovery")


def test_what_a_change_that_was_refused_has_listed_is_taken_out_again() -> None:
    store = Dying()
    app = App([call("refund")], "done", tools=[refund], store=store)
    store.fails = "lost"
    app.run()
    assert app.store.items(None, 10, ItemFilter()) == []


def test_a_change_that_is_computed_again_leaves_one_item() -> None:
    class Late(Dying):
        meddles = True

        def commit(self, change: Change, version: int, *args: Any, **kwargs: Any) -> Commit | Conflict:
            if own_items(change.record) and self.meddles:
                self.meddles = False
                kit.send(change.record.id, "hurry")
            return super().commit(change, version, *args, **kwargs)

    app = App([call("refund")], "done", tools=[refund], store=Late())
    kit = app.kit
    run_id = app.run()
    assert [item.decision_id for item in app.store.items(None, 10, ItemFilter())] == pending(app.kit, run_id)


def test_recovery_lists_what_is_pending_and_not_listed() -> None:
    app = App([call("refund")], "done", tools=[refund], lease_seconds=0.2)
    run_id = app.run()
    app.store.unlist_items(app.store.items_of(run_id))
    assert app.kit.count_pending(ALL).pending == 0
    recovery = app.kit.recovery()
    wait_until(lambda: (recovery.sweep(), ids(app.kit))[1] == pending(app.kit, run_id), what="recovery")


def test_a_late_commit_lists_its_items_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader, or a recovery check, may have taken them out meanwhile."""

    class Late(Dying):
        def commit(self, change: Change, version: int, *args: Any, **kwargs: Any) -> Commit | Conflict:
            self.unlist_items(self.items(None, 10, ItemFilter()))
            return super().commit(change, version, *args, **kwargs)

    app = App([call("refund")], "done", tools=[refund], store=Late())
    monkeypatch.setattr(type(app.kit.runner._committer), "_is_late", lambda self, began: True)
    run_id = app.run()
    assert ids(app.kit) == pending(app.kit, run_id)


def test_a_reader_takes_out_an_old_entry_of_a_run_that_is_gone_and_leaves_a_young_one() -> None:
    app = App("x")
    old, young = (
        ListedItem(str(uuid.UUID(int=app.store.now() - age << 80)), new_id(), "a", "t", "decision")
        for age in (61_000, 1_000)
    )
    app.store.list_items([old, young])
    assert ids(app.kit) == []
    assert app.store.items(None, 10, ItemFilter()) == [young]


# -- bounds


class Counting(MemoryStore):
    """Counts the records that are read."""

    read = 0

    def loads(self, run_ids: Sequence[str]) -> list[Any]:
        self.read += len(run_ids)
        return super().loads(run_ids)


def web(store: MemoryStore, **hooks: Any) -> Any:
    hooks = {"authenticate": lambda request: request.headers["X-Name"], **hooks}
    kit = AgentKit([Agent("a", ScriptedModel(["x"]))], settings=Settings(), store=store, queue=FakeQueue(), **hooks)
    return create_app(kit).test_client()


def ask(client: Any, who: str, path: str = "/decisions") -> Any:
    response = client.get(path, headers={"X-Name": who})
    assert response.status_code == 200, response.text
    return response.json


def test_a_principal_sees_and_counts_its_own_alone_and_reads_no_others() -> None:
    store = Counting()
    for _ in range(300):
        add(store)
    mine = [add(store, "bob") for _ in range(3)]
    client = web(store)
    store.read = 0
    assert [item["runId"] for item in ask(client, "bob")["decisions"]] == mine
    assert store.read == 3
    assert ask(client, "bob", "/decisions/count") == {"pending": 3, "oldestCreatedAt": 7}
    assert store.read <= 5
    for query in ("?owner=ann", "?owner=eve"):
        assert ask(client, "bob", f"/decisions{query}") == {"decisions": []}
        assert ask(client, "bob", f"/decisions/count{query}") == {"pending": 0, "oldestCreatedAt": None}
    assert ask(client, "bob", "/decisions/count?owner=bob")["pending"] == 3
    assert ask(client, "eve", "/decisions/count") == {"pending": 0, "oldestCreatedAt": None}


def test_pages_follow_one_another_and_a_run_with_many_items_is_read_once_a_batch() -> None:
    store = Counting()
    for _ in range(3):
        add(store, count=40)
    client = web(store)
    store.read = 0
    seen: list[str] = []
    query = "?limit=50"
    while True:
        body = ask(client, "ann", f"/decisions{query}")
        seen += [item["decisionId"] for item in body["decisions"]]
        if "nextCursor" not in body:
            break
        query = f"?limit=50&cursor={body['nextCursor']}"
    assert seen == sorted(item.decision_id for item in store.items(None, 200, ItemFilter()))
    assert (len(seen), store.read <= 8) == (120, True)


def test_what_may_allows_is_shown_and_a_page_of_few_among_many_may_be_short_with_a_cursor() -> None:
    store = Counting()
    for _ in range(MAX_READ + 50):
        add(store)
    add(store, agent="b")
    client = web(store, may=lambda principal, action, run: run.agent == "b")
    store.read = 0
    body = ask(client, "eve")
    assert (body["decisions"], store.read) == ([], MAX_READ)
    body = ask(client, "eve", f"/decisions?cursor={body['nextCursor']}")
    assert ([item["agent"] for item in body["decisions"]], "nextCursor" in body) == (["b"], False)
    store.read = 0
    assert ask(client, "eve", "/decisions/count") == {"pending": 0, "oldestCreatedAt": None, "more": True}
    assert store.read == MAX_READ
    assert ask(client, "eve", "/decisions/count?agent=b") == {"pending": 1, "oldestCreatedAt": 7}


def test_may_is_asked_whether_the_principal_may_read_the_run_that_owns_the_item() -> None:
    store = Counting()
    run_id = add(store, count=2)
    asked: list[Any] = []

    def may(principal: str, action: str, run: Any, item: Any) -> bool:
        asked.append((principal, action, run.id, item))
        return True

    assert len(ask(web(store, may=may), "eve")["decisions"]) == 2
    assert asked == [("eve", "read", run_id, None)]


@pytest.mark.parametrize(
    "query",
    ["?state=done", "?kind=x", "?limit=0", "?limit=201", "?cursor=x", "?status=paused", "?kind=", "?state="],
)
def test_what_is_no_filter_is_refused(query: str) -> None:
    response = web(MemoryStore()).get(f"/decisions{query}", headers={"X-Name": "ann"})
    assert (response.status_code, response.json["code"]) == (400, "invalid_request")


def test_nobody_in_particular_is_shown_nothing() -> None:
    client = web(MemoryStore(), authenticate=lambda request: None)
    for path in ("/decisions", "/decisions/count"):
        assert client.get(path).status_code == 401


def test_an_item_on_the_wire_is_that_of_its_run_with_where_it_belongs() -> None:
    app = App([call("refund", cents=5)], "done", tools=[refund_with(decision_timeout=60)])
    run_id = app.kit.start("a", "go", metadata={"title": "Order 7"}).id
    app.work()
    client = create_app(app.kit).test_client()
    [item] = client.get("/decisions?state=pending&kind=decision&agent=a&tool=refund").json["decisions"]
    [known] = client.get(f"/runs/{run_id}").json["pending"]
    assert item == {**known, "runId": run_id, "agent": "a", "owner": None, "title": "Order 7"}
    for query in ("", "?state=pending"):
        assert client.get(f"/decisions/count{query}").json == {"pending": 1, "oldestCreatedAt": known["createdAt"]}
    assert client.get("/decisions/count?state=resolved").json["code"] == "invalid_request"
    assert json.loads(client.get("/decisions?owner=ann").data) == {"decisions": []}


# -- earlier versions


def test_items_of_an_earlier_version_are_listed_by_the_first_worker_of_this_one() -> None:
    class Old(Counting):
        indexed = False

        def has_items(self) -> bool:
            return self.indexed

        def set_has_items(self) -> None:
            self.indexed = True

    store = Old()
    for _ in range(3):
        add(store, count=2)
    listed = store.items(None, 10, ItemFilter())
    store.unlist_items(listed)
    index_items(store)
    assert store.items(None, 10, ItemFilter()) == listed
    store.unlist_items(listed)
    index_items(store)
    assert store.items(None, 10, ItemFilter()) == [], "it is done once"
