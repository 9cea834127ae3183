"""Items that several principals must answer alike (`@tool(approvals=N)`)."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from agentkit import (
    Agent,
    AgentKitError,
    DecisionConflictError,
    DecisionExpiredError,
    DecisionValidationError,
    ForbiddenError,
    IdempotencyConflictError,
    ScriptedModel,
    tool,
)
from agentkit.core.messages import Json
from agentkit.tools import Tool, ToolContext
from tests.apps import App
from tests.tools import APPROVAL, YES
from tests.turns import call

NO = {"approved": False}


def paying(**options: Any) -> Tool:
    @tool(**{"decision": APPROVAL, "approvals": 2, **options})
    def transfer(cents: int, ctx: ToolContext, decision: Any = None) -> str:
        """Transfer some cents."""
        return f"{cents} for {'+'.join(vote.decided_by for vote in ctx.votes)}, last {ctx.decided_by}"

    return transfer


class Desk:
    """A run of the owner "olga" whose transfer waits."""

    def __init__(self, **options: Any) -> None:
        model = ScriptedModel([[call("transfer", cents=500)], "Done."])
        self.app = App(model=model, tools=[paying(**options)])
        self.kit = self.app.kit
        self.id = self.kit.start("a", "go", owner="olga").id
        self.app.work()

    @property
    def item(self) -> Json:
        [item] = self.app.check(self.id).pending
        return item

    def vote(self, who: str | None, decision: Any = YES, **more: Any) -> Any:
        self.kit.resume(self.id, decision, decided_by=who, **more)
        self.app.work()
        return self.app.check(self.id)

    def events(self, *types: str) -> list[Json]:
        return [event for event in self.app.log(self.id) if event["type"] in types]

    def result(self) -> str:
        messages = self.app.check(self.id).messages
        [text] = [message["content"][0]["text"] for message in messages if message["role"] == "toolResult"]
        return str(text)


def test_each_vote_but_the_last_is_written_down_and_shown_and_the_last_decides() -> None:
    desk = Desk(approvals=3)
    assert (desk.item["approvals"], desk.item["votes"], "proposal" in desk.item) == (3, [], False)
    desk.vote("ann")
    desk.vote("bob")
    votes = desk.events("tool_decision_vote")
    assert [(vote["decidedBy"], vote["votes"], vote["approvals"]) for vote in votes] == [("ann", 1, 3), ("bob", 2, 3)]
    item = desk.item
    assert {(vote["toolCallId"], vote["decisionId"]) for vote in votes} == {(item["toolCallId"], item["decisionId"])}
    assert [vote["decidedBy"] for vote in desk.item["votes"]] == ["ann", "bob"]
    assert all(vote.keys() == {"decidedBy", "decidedAt"} for vote in desk.item["votes"])
    assert desk.item["proposal"] == {"decision": YES}
    assert desk.vote("carl").status == "completed"
    assert desk.result() == "500 for ann+bob+carl, last carl"
    [resolved] = desk.events("tool_decision_resolved")
    assert (resolved["outcome"], resolved["decidedBy"], resolved["decision"]) == ("decided", "carl", YES)
    assert [vote["decidedBy"] for vote in resolved["votes"]] == ["ann", "bob", "carl"]
    [known] = desk.kit.decisions(desk.id)
    assert [vote.decided_by for vote in known.votes] == ["ann", "bob", "carl"]
    assert len(desk.events("tool_decision_vote")) == 2


def test_the_event_of_the_item_says_how_many_must_decide_and_one_alone_needs_no_votes() -> None:
    [pending] = Desk().events("tool_decision_pending")
    assert (pending["approvals"], pending["votes"]) == (2, [])
    desk = Desk(approvals=1)
    assert not {"approvals", "votes"} & desk.item.keys()
    assert desk.vote(None).status == "completed"
    assert "votes" not in desk.events("tool_decision_resolved")[0]


def test_a_second_vote_of_the_same_principal_changes_nothing() -> None:
    desk = Desk()
    desk.vote("ann")
    before = desk.app.log(desk.id)
    assert desk.vote("ann").status == "paused"
    assert desk.app.log(desk.id) == before


def test_a_different_decision_is_a_conflict_and_changes_nothing() -> None:
    desk = Desk()
    desk.vote("ann", {"approved": True, "note": "x"})
    for who in ("ann", "bob"):
        for decision in (NO, YES, {"approved": True, "note": "y"}):
            with pytest.raises(DecisionConflictError):
                desk.vote(who, decision)
    with pytest.raises(DecisionValidationError):
        desk.vote("bob", {"approved": 1, "note": "x"})
    assert len(desk.item["votes"]) == 1
    assert desk.vote("bob", {"note": "x", "approved": True}).status == "completed"


def test_true_and_one_are_different_decisions() -> None:
    desk = Desk(decision={})
    desk.vote("ann", True)
    with pytest.raises(DecisionConflictError):
        desk.vote("bob", 1)


def test_edited_arguments_must_be_the_same_and_are_shown_to_the_next() -> None:
    desk = Desk()
    desk.vote("ann", input={"cents": 400})
    assert desk.item["proposal"] == {"decision": YES, "input": {"cents": 400}}
    assert desk.item["input"] == {"cents": 500}
    for more in ({}, {"input": {"cents": 300}}, {"input": {"cents": 500}}):
        with pytest.raises(DecisionConflictError):
            desk.vote("bob", **more)
    desk.vote("bob", input={"cents": 400})
    assert desk.result() == "400 for ann+bob, last bob"
    assert desk.events("tool_decision_resolved")[0]["input"] == {"cents": 400}


@pytest.mark.parametrize("who", ["ann", "bob"])
def test_a_rejection_by_one_of_them_settles_it(who: str) -> None:
    desk = Desk()
    desk.vote("ann")
    assert desk.vote(who, None, reject="no").status == "completed"
    assert desk.result() == "rejected: no"
    [resolved] = desk.events("tool_decision_resolved")
    assert (resolved["outcome"], resolved["decidedBy"]) == ("rejected", who)
    assert [vote["decidedBy"] for vote in resolved["votes"]] == ["ann"]
    with pytest.raises(AgentKitError, match="pending"):
        desk.vote("carl")
    with pytest.raises(DecisionConflictError):
        desk.vote("carl", decision_id=resolved["decisionId"])


@pytest.mark.parametrize("answer", [{"decision": YES}, {"decision": None, "reject": "no"}])
@pytest.mark.parametrize("who", [None, "olga"])
def test_a_caller_without_a_name_and_the_runs_owner_may_not(who: str | None, answer: Json) -> None:
    desk = Desk()
    with pytest.raises(ForbiddenError):
        desk.vote(who, **answer)
    assert desk.item["votes"] == []


def test_the_owner_may_where_the_tool_says_so_but_nobody_without_a_name() -> None:
    desk = Desk(owner_may_approve=True)
    desk.vote("olga")
    with pytest.raises(ForbiddenError):
        desk.vote(None)
    assert desk.vote("ann").status == "completed"


def test_without_an_owner_everybody_with_a_name_may() -> None:
    app = App([call("transfer", cents=5)], "Done.", tools=[paying()])
    run_id = app.run()
    for who in ("ann", "bob"):
        app.kit.resume(run_id, YES, decided_by=who)
    app.work()
    assert app.check(run_id).status == "completed"


def test_what_was_asked_for_counts_also_after_a_deploy() -> None:
    desk = Desk(approvals=2)
    desk.vote("ann")
    desk.app.agent = desk.app.agent.replace(tools=[paying(approvals=1)])
    desk.kit = desk.app.another_worker().kit
    assert desk.vote("ann").status == "paused"
    assert desk.vote("bob").status == "completed"


# -- time, abort, keys


@pytest.mark.parametrize(
    ("on_expire", "status", "outcome"),
    [
        ("reject", "completed", "rejected: only 1 of 2 principals answered in time"),
        (NO, "completed", "500 for ann, last None"),
        ("abort", "aborted", None),
    ],
)
def test_what_happens_when_votes_are_missing_at_its_time(on_expire: Any, status: str, outcome: str | None) -> None:
    kit = App([call("transfer", cents=500)], "Done.", tools=[paying(decision_timeout=60, on_expire=on_expire)]).kit
    with kit.testing({"a": [[call("transfer", cents=500)], "Done."]}) as testing:
        run = kit.start("a", "go").run
        testing.decide(run, YES, decided_by="ann")
        testing.advance(59)
        assert kit.get(run.id).status == "paused"
        testing.advance(2)
        ended = kit.get(run.id)
        assert ended.status == status
        [resolved] = testing.events(run, "tool_decision_resolved")
        assert (resolved["outcome"], "decidedBy" in resolved) == ("expired", False)
        assert [vote["decidedBy"] for vote in resolved["votes"]] == ["ann"]
        assert [call.text for call in testing.tool_calls(run)] == [outcome]
        if on_expire == "abort":
            assert ended.error is not None
            assert ended.error["message"] == "only 1 of 2 principals answered 'transfer' in time"
        with pytest.raises(DecisionExpiredError):
            kit.resume(run.id, YES, decided_by="bob", decision_id=resolved["decisionId"])


def test_more_time_keeps_the_votes() -> None:
    kit = App([call("transfer", cents=500)], "Done.", tools=[paying(decision_timeout=60)]).kit
    with kit.testing({"a": [[call("transfer", cents=500)], "Done."]}) as testing:
        run = kit.start("a", "go").run
        [item] = testing.decide(run, YES, decided_by="ann").pending
        [later] = kit.extend(run.id, item["decisionId"], 60).run.pending
        assert later == {**item, "expiresAt": item["expiresAt"] + 60_000}
        testing.advance(90)
        assert testing.decide(run, YES, decided_by="bob").status == "completed"


def test_an_abort_between_votes_leaves_nothing_pending() -> None:
    desk = Desk()
    decision_id = desk.item["decisionId"]
    desk.vote("ann")
    desk.kit.abort(desk.id)
    for who in ("ann", "bob"):
        with pytest.raises(AgentKitError, match="nothing is pending"):
            desk.vote(who, decision_id=decision_id)
    assert desk.app.check(desk.id).status == "aborted"


def test_a_vote_under_the_same_key_counts_once_and_another_decision_is_refused() -> None:
    desk = Desk()
    desk.vote("ann", idempotency_key="k")
    desk.vote("ann", idempotency_key="k")
    with pytest.raises(IdempotencyConflictError):
        desk.vote("ann", NO, idempotency_key="k")
    assert len(desk.item["votes"]) == 1
    desk.vote("ann", idempotency_key="other")  # of a vote that is there: it changes nothing, and is done
    assert desk.vote("bob", idempotency_key="k").status == "completed", "a key is its caller's own"
    assert desk.vote("ann", idempotency_key="k").status == "completed", "as the first time"
    assert len(desk.events("tool_decision_resolved")) == 1


def test_the_answer_to_a_vote_begins_with_its_event() -> None:
    desk = Desk()
    handle = desk.kit.resume(desk.id, YES, decided_by="ann", idempotency_key="k")
    again = desk.kit.resume(desk.id, YES, decided_by="ann", idempotency_key="k")
    desk.kit.abort(desk.id)
    assert next(iter(handle.events(handle.since)))["type"] == "tool_decision_vote"
    assert again.since == handle.since


def test_votes_at_the_same_moment_all_count_and_the_item_is_consumed_once() -> None:
    desk = Desk(approvals=5)
    names = [f"p{at}" for at in range(5)] * 2
    barrier = threading.Barrier(len(names))

    def vote(name: str) -> None:
        barrier.wait()
        desk.kit.resume(desk.id, YES, decided_by=name, decision_id=decision_id)

    decision_id = desk.item["decisionId"]
    threads = [threading.Thread(target=vote, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    desk.app.work()
    assert desk.app.check(desk.id).status == "completed"
    [resolved] = desk.events("tool_decision_resolved")
    assert sorted(vote["decidedBy"] for vote in resolved["votes"]) == sorted(set(names))
    assert len(desk.events("tool_decision_vote")) == 4


# -- with the rest


def test_an_answer_is_remembered_where_all_want_it_and_counts_with_their_names() -> None:
    for wishes, asked_again in (((True, True), False), ((True, False), True), ((False, True), True)):
        turns = [[call("transfer", str(at), cents=at)] for at in (1, 2)]
        app = App(*turns, "Done.", tools=[paying(remember=True)])
        run_id = app.run()
        for who, remember in zip(("ann", "bob"), wishes, strict=True):
            app.kit.resume(run_id, YES, decided_by=who, remember=remember)
        app.work()
        run = app.check(run_id)
        assert bool(run.pending) is asked_again
        if not asked_again:
            texts = [m["content"][0]["text"] for m in run.messages if m["role"] == "toolResult"]
            assert texts == [f"{cents} for ann+bob, last bob" for cents in (1, 2)]


def test_what_fewer_have_decided_does_not_count_for_a_tool_that_needs_more_now() -> None:
    turns = [[call("transfer", str(at), cents=at)] for at in (1, 2)]
    app = App(*turns, "Done.", tools=[paying(approvals=1, remember=True)])
    run_id = app.run()
    app.kit.resume(run_id, YES, decided_by="ann", remember=True)
    app.agent = app.agent.replace(tools=[paying(approvals=2, remember=True)])
    app.another_worker().work()
    [item] = app.check(run_id).pending
    assert (item["toolCallId"], item["approvals"]) == ("2", 2)


def test_a_sub_agents_item_shows_its_votes_on_the_parent_and_takes_them_there() -> None:
    cashier = Agent("cashier", ScriptedModel([[call("transfer", cents=5)], "Paid."]), tools=[paying()])
    app = App(model=ScriptedModel([[call("cashier", input="pay")], "Done."]), tools=[cashier.as_tool()])
    run_id = app.kit.start("a", "go", owner="olga").id
    app.work()
    app.kit.resume(run_id, YES, decided_by="ann")
    [item] = app.kit.get(run_id).pending
    assert [vote["decidedBy"] for vote in item["votes"]] == ["ann"]
    assert app.kit.get(item["runId"]).pending == [{key: item[key] for key in item if key != "runId"}]
    with pytest.raises(ForbiddenError):
        app.kit.resume(run_id, YES, decided_by="olga")
    app.kit.resume(item["runId"], YES, decided_by="bob")
    app.work()
    assert app.check(run_id).status == "completed"


def test_a_tool_in_doubt_and_a_clients_result_need_one_person_and_keep_who_decided() -> None:
    @tool(decision=APPROVAL, approvals=2, effects="once")
    def transfer(ctx: ToolContext) -> str:
        """Transfer some cents."""
        return "+".join(vote.decided_by for vote in ctx.votes)

    app = App([call("transfer")], "Done.", tools=[transfer])
    run_id = app.run()
    for who in ("ann", "bob"):
        app.kit.resume(run_id, YES, decided_by=who)
    run, step = app.queue.enqueued[0]
    app.store.claim(run, step, 0)
    app.work()
    [item] = app.check(run_id).pending
    assert (item["kind"], "approvals" in item) == ("in_doubt", False)
    app.kit.resume(run_id, {"verdict": "retry"})
    app.work()
    messages = app.check(run_id).messages
    assert messages[2]["content"][0]["text"] == "ann+bob"
    assert "votes" not in app.log(run_id)[-1]


def test_a_call_that_is_asked_about_again_needs_all_votes_again() -> None:
    desk = Desk()
    for who in ("ann", "bob"):
        desk.kit.resume(desk.id, YES, decided_by=who)
    desk.app.agent = desk.app.agent.replace(tools=[])
    desk.app.another_worker().work()
    assert (desk.item["approvals"], desk.item["votes"], "proposal" in desk.item) == (2, [], False)
    desk.app.agent = desk.app.agent.replace(tools=[paying()])
    desk.kit = desk.app.another_worker().kit
    desk.vote("bob")
    assert desk.vote("carl").status == "completed"
    assert desk.result() == "500 for bob+carl, last carl"
