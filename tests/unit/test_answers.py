"""The record of answers: an entry for each item that was settled, in a chain that shows every change."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from cryptography.fernet import Fernet

from agentkit import Agent, AgentKit, FernetCodec, ScriptedModel, Settings
from agentkit.core.audit import GENESIS, AnswerEntry, BrokenChainError, Chain, Verifier, header, part
from agentkit.core.inbox import ItemFilter
from agentkit.core.record import Change
from agentkit.core.struct import digest
from agentkit.errors import StoreUnavailableError
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import Commit, Conflict
from agentkit.web import create_app
from tests.apps import App, FakeQueue, die
from tests.tools import APPROVAL, YES, locate, pay, refund, refund_with
from tests.turns import call
from tests.waiting import wait_until


def exported(store: Any) -> list[str]:
    chain = store.chain()
    return [header(chain), *store.chain_lines(chain.first - 1, 10_000)]


def check(lines: list[str]) -> None:
    verifier = Verifier(lines[0])
    for line in lines[1:]:
        verifier.add(line)
    verifier.end()


def entries(app: App) -> list[dict[str, Any]]:
    check(exported(app.store))
    return [json.loads(line) for line in exported(app.store)[1:]]


# -- what is recorded


def test_an_answer_is_recorded_with_who_what_when_and_what_was_shown() -> None:
    app = App([call("refund", cents=500)], "done", tools=[refund])
    run_id = app.kit.start("a", "go", owner="ann").id
    app.work()
    [item] = app.kit.get(run_id).pending
    app.kit.resume(run_id, YES, input={"cents": 200}, decided_by="bob")
    [entry] = entries(app)
    at = app.log(run_id)[-1]["timestamp"]
    assert abs(entry.pop("at") - at) < 5000
    assert entry.pop("decidedAt") >= item["createdAt"]
    assert len(entry.pop("hash")) == 64
    assert entry == {
        "number": 1,
        "previous": GENESIS,
        "runId": run_id,
        "agent": "a",
        "owner": "ann",
        "toolName": "refund",
        "toolCallId": item["toolCallId"],
        "decisionId": item["decisionId"],
        "kind": "decision",
        "createdAt": item["createdAt"],
        "inputSha256": digest({"cents": 500}),
        "schemaSha256": digest(APPROVAL),
        "outcome": "decided",
        "decision": YES,
        "editedInput": {"cents": 200},
        "decidedBy": "bob",
    }
    assert app.store.outbox(run_id) == []


def test_rejections_results_verdicts_and_expiries_are_entries_too() -> None:
    tools = [refund_with(decision_timeout=0.05), locate, pay]
    app = App([call("refund"), call("locate"), call("pay")], "done", tools=tools, lease_seconds=0.2)
    run_id = app.start()
    app.execute_next()
    die(app, *app.queue.enqueued[0])
    app.work()
    items = {item.tool_name: item for item in app.kit.pending()}
    app.kit.resume(run_id, result="Rome", decision_id=items["locate"].decision_id, decided_by="ann")
    app.kit.resume(run_id, {"verdict": "failed"}, decision_id=items["pay"].decision_id, decided_by="bob")
    recovery = app.kit.recovery()
    wait_until(lambda: (recovery.sweep(), not list(app.kit.pending()))[1], what="the expiry")
    located, paid, refunded = entries(app)
    assert (located["kind"], located["outcome"], located["decidedBy"]) == ("client_execute", "decided", "ann")
    assert ("decision" in located, len(located["resultSha256"])) == (False, 64)
    assert (paid["kind"], paid["decision"]) == ("in_doubt", {"verdict": "failed"})
    assert (refunded["outcome"], refunded["reason"]) == ("expired", "nobody answered in time")
    assert "decidedBy" not in refunded
    other = app.run()
    app.kit.resume(other, reject="no", decision_id=next(app.kit.pending(tool="refund")).decision_id)
    assert (entries(app)[-1]["outcome"], entries(app)[-1]["reason"]) == ("rejected", "no")


def test_votes_remembered_answers_and_extensions_are_in_their_entries() -> None:
    tool = refund_with(approvals=2, remember=True, decision_timeout=60)
    app = App([call("refund")], [call("refund")], "done", tools=[tool])
    run_id = app.run()
    [item] = app.kit.pending()
    app.kit.extend(run_id, item.decision_id, 5, caller="eve")
    for name in ("bob", "cem"):
        app.kit.resume(run_id, YES, decision_id=item.decision_id, decided_by=name, remember=True)
    app.work()
    first, second = entries(app)
    assert [vote["decidedBy"] for vote in first["votes"]] == ["bob", "cem"]
    assert first["extensions"][0]["by"] == "eve"
    assert (second["remembered"], second["outcome"], second["decision"]) == (True, "decided", YES)
    assert second["decidedAt"] <= second["at"]
    assert second["previous"] == first["hash"]


def test_nothing_is_recorded_of_items_that_an_abort_takes_away_or_where_the_record_is_off() -> None:
    app = App([call("refund")], "done", tools=[refund])
    app.kit.abort(app.run())
    assert entries(app) == []
    off = App([call("refund")], "done", tools=[refund], audit_seconds=0)
    off.kit.resume(off.run(), YES)
    assert entries(off) == []


def test_a_null_decision_is_a_decision() -> None:
    app = App([call("refund")], "done", tools=[refund_with(decision={})])
    app.kit.resume(app.run(), None)
    assert entries(app)[0]["decision"] is None


# -- crashes


class Dying(MemoryStore):
    fails = ""

    def commit(self, change: Change, *args: Any, **kwargs: Any) -> Commit | Conflict:
        outcome = super().commit(change, *args, **kwargs)
        if self.fails == "after commit":
            raise ZeroDivisionError
        return outcome

    def record_answer(self, entry: AnswerEntry) -> None:
        if self.fails == "away":
            raise StoreUnavailableError("away")
        super().record_answer(entry)
        if self.fails == "after record":
            raise ZeroDivisionError

    def remove_entries(self, run_id: str, entry_ids: Any) -> None:
        if self.fails == "before removal":
            raise StoreUnavailableError("away")
        super().remove_entries(run_id, entry_ids)


@pytest.mark.parametrize("fails", ["after commit", "away", "after record", "before removal"])
@pytest.mark.parametrize("deleted", [False, True])
def test_an_answer_is_recorded_once_wherever_its_process_dies(fails: str, deleted: bool) -> None:
    store = Dying()
    app = App([call("refund")], "done", tools=[refund], store=store, lease_seconds=0.2)
    run_id = app.run()
    store.fails = fails
    try:
        app.kit.resume(run_id, YES)
    except ZeroDivisionError:
        pass
    store.fails = ""
    assert store.outbox(run_id) != []
    if deleted:
        app.kit.delete(run_id, force=True)
    recovery = app.kit.recovery()
    wait_until(lambda: (recovery.sweep(), app.work(), not store.outbox(run_id))[2], what="the outbox to be empty")
    assert [entry["runId"] for entry in entries(app)] == [run_id]


# -- the chain


@pytest.fixture(scope="module")
def chain() -> list[str]:
    app = App([call("refund")], "done", tools=[refund])
    for number in range(6):
        app.kit.resume(app.run(), YES, decided_by=f"ann {number} ü")
    return exported(app.store)


def broken(lines: list[str]) -> str:
    with pytest.raises(BrokenChainError) as caught:
        check(lines)
    return str(caught.value)


def test_a_whole_chain_holds(chain: list[str]) -> None:
    check(chain)
    check(exported(MemoryStore()))


def test_a_chain_shows_each_entry_that_is_missing_doubled_moved_or_changed(chain: list[str]) -> None:
    for place in range(1, len(chain)):
        assert broken(chain[:place] + chain[place + 1 :])
        assert broken([*chain[: place + 1], *chain[place:]])
        if place > 1:
            assert broken([*chain[: place - 1], chain[place], chain[place - 1], *chain[place + 1 :]])
        for old, new in (("ann", "eve"), ("true", "false"), ('"number": ', '"number":  '), ('"at": 1', '"at": 2')):
            assert old in chain[place]
            assert broken([*chain[:place], chain[place].replace(old, new, 1), *chain[place + 1 :]])
    assert broken(chain[:-2])
    assert broken([chain[0].replace('"last": 6', '"last": 5'), *chain[1:]])
    assert broken([*chain, chain[-1]])
    assert broken(chain[1:])
    assert broken(["", *chain])
    assert broken(["[]"])


def test_no_flipped_character_of_an_export_passes(chain: list[str]) -> None:
    rng = random.Random(7)
    for _ in range(300):
        place = rng.randrange(len(chain))
        at = rng.randrange(len(chain[place]))
        other = chr(ord(chain[place][at]) ^ 1)
        assert broken([*chain[:place], chain[place][:at] + other + chain[place][at + 1 :], *chain[place + 1 :]])


def test_a_line_that_was_made_anew_breaks_the_chain_at_the_next(chain: list[str]) -> None:
    entry = json.loads(chain[3])
    entry["decidedBy"] = "eve"
    entry.pop("hash")
    forged = json.dumps({**entry, "hash": digest(entry)}, sort_keys=True)
    assert "does not follow" in broken([*chain[:3], forged, *chain[4:]])


def test_a_part_of_a_chain_begins_after_its_anchor(chain: list[str]) -> None:
    store = App([call("refund")], "done", tools=[refund]).store
    whole = json.loads(chain[0])
    anchor = json.loads(chain[2])["hash"]
    read = Chain(first=1, last=6, anchor=GENESIS, head=whole["head"])
    check([header(part(read, 3, anchor)), *chain[3:]])
    assert broken([header(part(read, 3, GENESIS)), *chain[3:]])
    assert broken([header(part(read, 3, anchor)), *chain[4:]])
    assert store.chain() == Chain()


def test_what_is_trimmed_leaves_a_chain_that_holds_and_a_missing_head_does_not() -> None:
    app = App([call("refund")], "done", tools=[refund])
    for _ in range(4):
        app.kit.resume(app.run(), YES)
    whole = exported(app.store)
    assert app.store.trim_answers(app.store.now() + 1, 3) == 3
    kept = exported(app.store)
    assert kept[1:] == whole[4:]
    check(kept)
    assert broken([kept[0], *whole[3:]])
    assert broken([whole[0], *whole[4:]]), "entries that are missing and were not trimmed"
    app.kit.resume(app.run(), YES)
    assert [entry["number"] for entry in entries(app)] == [4, 5]
    assert app.store.trim_answers(app.store.now() + 1, 100) == 2
    check(exported(app.store))
    app.kit.resume(app.run(), YES)
    assert [entry["number"] for entry in entries(app)] == [6]


def test_workers_trim_what_is_too_old() -> None:
    app = App([call("refund")], "done", tools=[refund], audit_seconds=1)
    app.kit.resume(app.run(), YES)
    recovery = app.kit.recovery()
    recovery.start()
    try:
        wait_until(lambda: not app.store.chain_lines(0, 1), what="the trim")
    finally:
        recovery.stop()


# -- reading


def web(store: MemoryStore, **hooks: Any) -> Any:
    hooks = {"authenticate": lambda request: request.headers["X-Name"], **hooks}
    kit = AgentKit([Agent("a", ScriptedModel(["x"]))], settings=Settings(), store=store, queue=FakeQueue(), **hooks)
    return create_app(kit).test_client()


def resolved(client: Any, who: str = "", query: str = "") -> Any:
    response = client.get(f"/decisions?state=resolved{query}", headers={"X-Name": who})
    assert response.status_code == 200, response.text
    return response.json


def answered(app: App, *owners: str, **options: Any) -> list[str]:
    ids = []
    for owner in owners:
        run_id = app.kit.start("a", "go", owner=owner, **options).id
        app.work()
        app.kit.resume(run_id, YES, decided_by="boss")
        app.work()
        ids.append(run_id)
    return ids


def test_answers_are_listed_newest_first_as_their_items_with_what_came_of_them() -> None:
    app = App([call("refund", cents=7)], "done", tools=[refund])
    first, second = answered(app, "ann", "bob", metadata={"title": "Order"})
    page = resolved(create_app(app.kit).test_client())["decisions"]
    assert [item["runId"] for item in page] == [second, first]
    item = page[0]
    assert {"decisionId", "toolCallId", "createdAt", "decidedAt"} <= item.keys()
    shown = {"toolName": "refund", "kind": "decision", "input": {"cents": 7}, "schema": APPROVAL, "agent": "a"}
    came = {"owner": "bob", "title": "Order", "outcome": "decided", "decision": YES, "decidedBy": "boss"}
    assert item.items() >= {**shown, **came}.items()
    assert [item.run_id for item in app.kit.answers()] == [second, first]
    assert [item.run_id for item in app.kit.answers(owner="ann", tool="refund")] == [first]
    assert list(app.kit.answers(kind="in_doubt")) == []


def test_answers_outlive_their_run_without_what_was_shown() -> None:
    app = App([call("refund", cents=7)], "done", tools=[refund])
    [run_id] = answered(app, "ann", metadata={"title": "Order"})
    app.kit.delete(run_id)
    [item] = app.kit.answers()
    assert (item.run_id, item.decision, item.decided_by) == (run_id, YES, "boss")
    assert (item.input, item.schema, item.title) == (None, None, None)


def test_a_principal_is_shown_the_answers_of_its_runs_and_those_that_may_allows() -> None:
    app = App([call("refund")], "done", tools=[refund])
    one, two, gone = answered(app, "ann", "bob", "bob")
    app.kit.delete(gone)
    client = web(app.store)
    assert [item["runId"] for item in resolved(client, "ann")["decisions"]] == [one]
    assert [item["runId"] for item in resolved(client, "bob")["decisions"]] == [gone, two]
    assert resolved(client, "bob", "&owner=ann")["decisions"] == []
    client = web(app.store, may=lambda principal, action, run: principal == "eve" and run.owner == "ann")
    assert [item["runId"] for item in resolved(client, "eve")["decisions"]] == [one]
    assert [item["runId"] for item in resolved(client, "bob")["decisions"]] == [gone], "whose run is gone was bob's"


def test_answers_are_paged_also_where_few_of_many_are_wanted() -> None:
    app = App([call("refund")], "done", tools=[refund])
    ids = answered(app, *["ann", "bob"] * 10)
    client = create_app(app.kit).test_client()
    for owner, wanted in ((None, ids), ("ann", ids[::2])):
        seen: list[str] = []
        query = "&limit=3" + (f"&owner={owner}" if owner else "")
        cursor = ""
        while True:
            body = resolved(client, "", f"{query}{cursor}")
            seen += [item["runId"] for item in body["decisions"]]
            if "nextCursor" not in body:
                break
            cursor = f"&cursor={body['nextCursor']}"
        assert seen == wanted[::-1]
    for query in ("&cursor=0", "&cursor=x", f"&cursor={ids[0]}"):
        assert client.get(f"/decisions?state=resolved{query}").status_code == 400


def test_what_the_record_holds_is_encrypted_where_there_is_a_codec() -> None:
    store = MemoryStore()
    store.use_codec(FernetCodec([Fernet.generate_key().decode()]))
    app = App([call("refund", cents=7)], "done", tools=[refund], store=store)
    answered(app, "ann")
    stored = store._lines[0].text
    assert b"approved" not in stored
    assert b"boss" not in stored
    assert entries(app)[0]["decidedBy"] == "boss"
    assert [item.decision for item in app.kit.answers()] == [YES]


def test_an_answer_of_one_item_is_recorded_once() -> None:
    app = App([call("refund")], "done", tools=[refund])
    answered(app, "ann")
    line = json.loads(exported(app.store)[1])
    for name in ("number", "previous", "hash"):
        del line[name]
    app.store.record_answer(msgspec.convert(line, AnswerEntry))
    assert len(entries(app)) == 1
    assert app.store.answers(None, 10, ItemFilter()) != []
