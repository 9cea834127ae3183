"""Whatever two principals do to two items, in whatever order, each item has one outcome, and the one that is due to it.

A small model, which knows nothing of the loop, says what must come of each act. The engine is the real one, on the
store in memory with a clock that the test moves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentkit import (
    Agent,
    AgentKit,
    AgentKitError,
    DecisionConflictError,
    DecisionExpiredError,
    ForbiddenError,
    RunNotPausedError,
    ScriptedModel,
    Settings,
    tool,
)
from agentkit.core.messages import Json
from agentkit.errors import DecisionNotFoundError
from agentkit.testing import Testing
from agentkit.testing.store_audit_contract import check_chain
from agentkit.tools import ToolContext
from tests.event_rules import check_log
from tests.tools import APPROVAL
from tests.turns import call

DEFAULT: Json = {"approved": False}
SECONDS = 60
ANSWERS: list[Json] = [
    {"decision": {"approved": True}},
    {"decision": {"approved": False}},
    {"decision": {"approved": True}, "input": {"cents": 7}},
    {"reject": "no"},
]
executed: Counter[str] = Counter()


@tool(decision=APPROVAL, approvals=2, decision_timeout=SECONDS)
def transfer(ctx: ToolContext, cents: int = 0) -> str:
    """Transfer some cents: two principals decide."""
    executed["transfer"] += 1
    return str(cents)


@tool(decision=APPROVAL, decision_timeout=SECONDS, on_expire=DEFAULT)
def refund(ctx: ToolContext, cents: int = 0) -> str:
    """Refund some cents: one principal decides, or time does."""
    executed["refund"] += 1
    return str(cents)


KIT = AgentKit(
    [
        Agent(
            "a",
            ScriptedModel([[call("transfer", "transfer"), call("refund", "refund")], "Done."]),
            tools=[transfer, refund],
        )
    ],
    settings=Settings(),
)


@dataclass
class Item:
    """What the model knows of an item. `outcome`: "decided", "rejected", "expired", or "gone" with the run."""

    name: str
    approvals: int
    decision_id: str = ""
    left: float = SECONDS
    votes: list[str] = field(default_factory=list)
    given: Json | None = None
    outcome: str | None = None

    def answer(self, who: str | None, body: Json) -> type[AgentKitError] | None:
        """Take an answer: which error it must get, None where it must be accepted."""
        if self.outcome == "gone":
            return RunNotPausedError
        if self.outcome == "expired":
            return DecisionExpiredError
        if self.outcome is not None:
            return None if self.given == body else DecisionConflictError
        if self.approvals > 1 and who in (None, "olga"):
            return ForbiddenError
        if "reject" in body:
            self.outcome, self.given = "rejected", body
        elif self.approvals == 1:
            self.outcome, self.given = "decided", body
        elif self.given is not None and self.given != body:
            return DecisionConflictError
        elif who is not None and who not in self.votes:
            self.votes.append(who)
            self.given = body
            self.outcome = "decided" if len(self.votes) == self.approvals else None
        return None


answers = st.tuples(
    st.just("answer"),
    st.sampled_from([0, 0, 1]),
    st.sampled_from(["ann", "bob", "ann", "bob", None, "olga"]),
    st.sampled_from([ANSWERS[0], *ANSWERS]),
)
others = st.one_of(
    st.tuples(st.just("extend"), st.integers(0, 1), st.sampled_from([5, 90])),
    st.tuples(st.just("wait"), st.sampled_from([1, 30, 61])),
    st.tuples(st.just("abort"), st.sampled_from(["ann", "bob"])),
)
acts = st.integers(0, 3).flatmap(lambda kind: others if kind == 0 else answers)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(acts, max_size=14))
def test_each_item_has_exactly_one_outcome_whatever_two_principals_do(script: list[Any]) -> None:
    executed.clear()
    with KIT.testing() as testing:
        run_id = KIT.start("a", "go", owner="olga").id
        items = [Item("transfer", 2), Item("refund", 1)]
        for item, shown in zip(items, KIT.get(run_id).pending, strict=True):
            assert item.name == shown["toolName"]
            item.decision_id = shown["decisionId"]
        for act in script:
            carry_out(act, run_id, items, testing)
            check_pending(run_id, items)
        let_time_pass(10_000, items, testing)
        check_end(run_id, items, testing)


def carry_out(act: Any, run_id: str, items: list[Item], testing: Testing) -> None:
    match act:
        case ("answer", int(at), who, body):
            given = {"decision": None, **body}
            expected = items[at].answer(who, body)
            error = error_of(KIT.resume, run_id, **given, decided_by=who, decision_id=items[at].decision_id)
            assert type(error) is (expected or type(None)), (act, error)
        case ("extend", int(at), int(seconds)):
            error = error_of(KIT.extend, run_id, items[at].decision_id, seconds, caller="ann")
            assert (error is None) == (items[at].outcome is None), (act, error)
            if error is None:
                items[at].left += seconds
        case ("wait", int(seconds)):
            let_time_pass(seconds, items, testing)
        case ("abort", str(who)):
            KIT.abort(run_id, by=who)
            if any(item.outcome is None for item in items):
                for item in items:
                    item.outcome = item.outcome or "gone"


def let_time_pass(seconds: float, items: list[Item], testing: Testing) -> None:
    testing.advance(seconds)
    for item in items:
        item.left -= seconds
        if item.outcome is None and item.left <= 0:
            item.outcome = "expired"


def error_of(act: Callable[..., object], *args: Any, **options: Any) -> AgentKitError | None:
    try:
        act(*args, **options)
    except AgentKitError as error:
        return error
    return None


def check_pending(run_id: str, items: list[Item]) -> None:
    """What is shown as pending is what has no outcome, with the votes that count."""
    shown = {
        item["toolName"]: [vote["decidedBy"] for vote in item.get("votes", [])] for item in KIT.get(run_id).pending
    }
    assert shown == {item.name: item.votes for item in items if item.outcome is None}


def check_end(run_id: str, items: list[Item], testing: Testing) -> None:
    """The run has ended, and all that is kept of its items says the same: what else keeps answers is compared here."""
    run, log = KIT.get(run_id), testing.events(run_id)
    check_log(log, run.messages or [], run.status)
    assert run.ended
    resolved = Counter(
        (event["decisionId"], event["outcome"]) for event in log if event["type"] == "tool_decision_resolved"
    )
    expected = Counter((item.decision_id, item.outcome) for item in items if item.outcome != "gone")
    assert resolved == expected
    assert Counter((known.decision_id, known.outcome) for known in KIT.decisions(run_id)) == expected
    assert check_chain(KIT.store) == expected.total()
    assert Counter((known.decision_id, known.outcome) for known in KIT.answers()) == expected
    assert list(KIT.pending()) == []
    if run.status != "aborted":
        was_executed = {"transfer": items[0].outcome == "decided", "refund": items[1].outcome in ("decided", "expired")}
        assert executed == Counter(name for name, is_executed in was_executed.items() if is_executed)
    assert max(executed.values(), default=0) <= 1
    for item in items:
        late = error_of(KIT.resume, run_id, {"approved": "x"}, decided_by="eve", decision_id=item.decision_id)
        assert isinstance(
            late, DecisionConflictError | DecisionExpiredError | RunNotPausedError | DecisionNotFoundError
        )
