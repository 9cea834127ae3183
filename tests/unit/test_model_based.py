"""Anything may happen to a run in any order: hypothesis plays workers, people and the clock.

Whatever it does, the log keeps its rules, a decision is consumed once, and a run that is driven ends.
"""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import structs

from agentkit.core.calls import ItemAnswer
from agentkit.core.events import MessageDiscard, MessageStart
from agentkit.core.messages import Json
from agentkit.core.record import Change, Lease, RunState, Step, WholeRecordNeededError
from agentkit.core.struct import encode, to_json
from agentkit.errors import (
    DecisionConflictError,
    DecisionExpiredError,
    InvalidRequestError,
    LeaseLostError,
)
from agentkit.loop import Answer, abort, admissions, client_result, doubt, extend, finish_model, finish_tool, resolve
from agentkit.store.protocol import Claim, Conflict
from agentkit.testing.store_changes import append
from tests.loop_driver import LEASE_MS, Driver, texts_of
from tests.tools import look, pay, refund_with
from tests.turns import call

refund = refund_with(decision_timeout=60)
drop = refund_with(name="drop", decision_timeout=300, on_expire="abort")
photo = refund_with(name="photo", decision_timeout=90, on_expire={"approved": False}, runs="client")

NAMES = ["look", "refund", "drop", "photo", "pay", "unknown"]
ANSWERS = [{"approved": True}, {"approved": False}]


def check_alone(
    run: Driver, index: int, transition: Callable[[RunState], Change], whole: Change, step: int | None = None
) -> None:
    """What is computed from one call alone, where it can be, is what is computed from all: no other call changes."""
    state = run.store.load(run.run_id, call=index)
    others = state.record.others
    if others is None:
        return
    if step is not None:
        record = structs.replace(state.record, steps=(Step(step, "tool", index),))
        state = replace(state, record=structs.replace(record, others=replace(others, steps=others.steps - 1)))
    try:
        alone = transition(state)
    except WholeRecordNeededError:
        return
    assert whole.before is not None
    pairs = zip(whole.record.calls, whole.before.calls, strict=True)
    assert [n for n, (after, before) in enumerate(pairs) if after is not before] == [index]
    assert without_ids(alone.record.calls) == without_ids([whole.record.calls[index]])
    assert without_ids(alone.events) == without_ids(whole.events)
    for change in (alone, whole):
        assert (change.opened, change.messages, change.on_claim, change.orphans) == ((), (), (), ())
    assert (alone.closed, alone.resolutions) == (whole.closed, whole.resolutions)
    kept = {"calls": (), "first_call": 0, "others": None, "steps": (), "queued": ()}
    assert structs.replace(alone.record, **kept) == structs.replace(whole.record, **kept)


def without_ids(value: Any) -> str:
    """As JSON, without the ids of items, which are made at random."""
    return re.sub(r'"decisionId":"[^"]*"', "", encode(value).decode())


class Runs(RuleBasedStateMachine):
    """One run. `hands` are the workers' claims: some hold, some have run out and belong to nobody or another."""

    def __init__(self) -> None:
        super().__init__()
        self.run: Driver | None = None
        self.hands: list[Claim] = []
        self.accepted: dict[str, ItemAnswer] = {}
        self.sent: list[str] = []
        self.turns = 0

    @property
    def driver(self) -> Driver:
        assert self.run is not None
        return self.run

    @precondition(lambda self: self.run is None)
    @rule(parallel=st.booleans(), history=st.sampled_from([None, [{"role": "user", "content": "x", "timestamp": 1}]]))
    def start(self, parallel: bool, history: Any) -> None:
        run = Driver(look, refund, drop, photo, pay, parallel_tool_calls=parallel, max_turns=6)
        self.run = run.start(history=history)

    # -- workers

    @precondition(lambda self: self.run is not None and self.run.record.steps)
    @rule(data=st.data(), dies=st.booleans())
    def claim(self, data: st.DataObject, dies: bool) -> None:
        step = data.draw(st.sampled_from(self.driver.record.steps))
        live = step.number in self.driver.state.live
        claim = self.driver.store.claim(self.driver.run_id, step.number, 0 if dies else LEASE_MS)
        assert (claim is None) == live, "a step is lent unless its lease runs"
        if claim is not None:
            self.hands.append(claim)

    @precondition(lambda self: self.hands)
    @rule(data=st.data(), names=st.lists(st.sampled_from(NAMES), max_size=3))
    def finish(self, data: st.DataObject, names: list[str]) -> None:
        """A worker ends its step, whether it still holds it or not; its claim may be long ago."""
        claim = data.draw(st.sampled_from(self.hands))
        self.hands.remove(claim)
        self._finish(claim, names)

    def _finish(self, claim: Claim, names: list[str]) -> None:
        run, lease = self.driver, claim.lease
        state = run.state
        step = state.record.step(lease.step)
        held = step is not None and lease.token == self._newest(lease)
        if step is None:
            with pytest.raises(LeaseLostError):
                append(run.store, lease, [MessageDiscard(reason="x")], 1)
            return
        with contextlib.nullcontext() if held else pytest.raises(LeaseLostError):
            if step.kind == "model":
                self._finish_model(lease, names)
            else:
                self._finish_tool(claim, step.call or 0)

    def _newest(self, lease: Lease) -> int:
        """The token that holds the step: that of the last claim of it."""
        return max([lease.token, *(c.lease.token for c in self.hands if c.lease.step == lease.step)])

    def _finish_model(self, lease: Lease, names: list[str]) -> None:
        run, state = self.driver, self.driver.state
        if lease.attempt > 1:
            fresh = run.agent.empty_message(run.now)
            append(run.store, lease, [MessageDiscard(reason="x"), MessageStart(message=fresh)], 1)
        if state.record.abort is not None:
            change = abort(state, None, run.now, holding=True, message=run.builder().message(stop_reason="aborted"))
            assert change is not None
            run.commit(change, lease)
            return
        self.turns += 1
        blocks = [call(name, f"{self.turns}-{n}-{name}") for n, name in enumerate(names)]
        updates, message = run.answer_of(blocks or "an answer")
        calls = admissions(run.agent, message)
        run.commit(finish_model(state, run.agent, lease.step, message, calls, run.now).with_events(updates), lease)

    def _finish_tool(self, claim: Claim, index: int) -> None:
        run, state, lease = self.driver, self.driver.state, claim.lease
        waiting = state.record.calls[index]
        answer = waiting.answer or ItemAnswer()
        verdict = answer.verdict.verdict if answer.verdict else "retry"
        executed = not answer.reject and not answer.result and verdict == "retry"
        result = run.result(claim, "done")
        if state.record.abort is not None:
            finished = (lease.step, result, executed)
            change = abort(state, None, run.now, holding=True, finished=finished)
            assert change is not None
            run.commit(change, lease)
            return
        if executed and waiting.name == "pay" and lease.attempt > 1:
            change = doubt(state, run.agent, lease.step, run.now)
            check_alone(run, index, lambda part: doubt(part, run.agent, lease.step, run.now), change, lease.step)
            run.commit(change, lease)
            return
        assert waiting.name != "photo" or not executed, "a client-side tool is not executed here"
        if run.commit_call(claim, result, executed=executed):
            return
        change = finish_tool(state, run.agent, lease.step, result, run.now, executed=executed)
        run.commit(change, lease)

    # -- people

    @precondition(lambda self: self.run is not None and self.run.pending)
    @rule(data=st.data(), how=st.sampled_from(["answer", "reject"]), decision=st.sampled_from(ANSWERS))
    def answer(self, data: st.DataObject, how: str, decision: Any) -> None:
        self._answer(data.draw(st.sampled_from(self.driver.pending)), how, decision)

    def _answer(self, item: Json, how: str, decision: Any) -> None:
        run = self.driver
        state = run.state
        index = next(i for i, c in enumerate(state.record.calls) if to_json(c.item) == item)
        answer = Answer("reject", {"reason": "no"})
        if how == "answer":
            answer = {
                "decision": Answer("decision", decision),
                "client_execute": Answer("result", client_result("from the client")),
                "in_doubt": Answer("decision", {"verdict": random.choice(["retry", "done", "failed"])}),
            }[item["kind"]]
        tool_, parallel = run.agent.tool(item["toolName"]), run.agent.agent.parallel_tool_calls
        try:
            change = resolve(state, index, answer, tool_, parallel, run.now)
        except DecisionExpiredError:
            assert run.now >= item["expiresAt"]
            return
        if item["kind"] != "in_doubt":  # whose verdict is random
            check_alone(run, index, lambda part: resolve(part, index, answer, tool_, parallel, run.now), change)
        run.commit(change)
        self.accepted[item["decisionId"]] = answer.stored()
        assert isinstance(run.store.commit(change, state.version), Conflict), "it was computed from an older state"

    @precondition(lambda self: self.run is not None and self.run.pending)
    @rule(data=st.data(), seconds=st.sampled_from([30, 600]))
    def extend(self, data: st.DataObject, seconds: int) -> None:
        item = data.draw(st.sampled_from(self.driver.pending))
        state = self.driver.state
        index = next(i for i, c in enumerate(state.record.calls) if to_json(c.item) == item)
        expires = item.get("expiresAt")
        try:
            self.driver.commit(extend(state, index, seconds, self.driver.now))
        except InvalidRequestError:
            assert expires is None
        except DecisionExpiredError:
            assert self.driver.now >= expires
        else:
            (moved,) = [i for i in self.driver.pending if i["decisionId"] == item["decisionId"]]
            assert moved == {**item, "expiresAt": expires + seconds * 1000}

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def answer_again(self, data: st.DataObject) -> None:
        """An accepted answer is known for good, and told from any other."""
        decision_id = data.draw(st.sampled_from(sorted(self.accepted)))
        known = self.driver.store.resolution(self.driver.run_id, decision_id=decision_id, tool_call_id=None)
        assert known is not None
        assert to_json(known.answer) == to_json(self.accepted[decision_id])
        assert decision_id not in {item["decisionId"] for item in self.driver.pending}
        assert not Answer("decision", {"approved": "other"}).same_as(known.answer), DecisionConflictError

    @precondition(lambda self: self.run is not None and not self.run.record.terminal)
    @rule(when=st.sampled_from(["steer", "followUp"]))
    def send(self, when: str) -> None:
        self.sent.append(f"message {len(self.sent)}")
        self.driver.send(self.sent[-1], when)

    @precondition(lambda self: self.run is not None)
    @rule(often=st.integers(0, 9))
    def abort(self, often: int) -> None:
        if often == 0:
            self.driver.abort("enough")

    # -- time

    @precondition(lambda self: self.run is not None)
    @rule(seconds=st.sampled_from([1, 61, 301]))
    def time_passes(self, seconds: int) -> None:
        self.driver.expire(seconds)

    # -- what always holds

    @invariant()
    def the_log_keeps_its_rules(self) -> None:
        if self.run is not None:
            self.run.check()
            record = self.run.record
            assert record.terminal or record.steps or record.pending, "somebody can always make the run go on"
            assert not record.terminal or (not record.steps and not record.pending and not record.queued)

    @invariant()
    def nothing_that_was_sent_is_lost(self) -> None:
        if self.run is not None:
            last = self.run.events[-1]
            record = self.run.record
            queued = record.queued
            assert queued is not None
            assert record.queued_steers == sum(each.when == "steer" for each in queued)
            assert record.queued_follow_ups == sum(each.when == "followUp" for each in queued)
            waits = [each.message for each in queued]
            waits += [each["message"] for each in last.get("unsent", ())]
            came = [text for text in texts_of(self.run.messages, "user") if text in self.sent]
            assert sorted(came + waits) == sorted(self.sent), "each is in one place"
            for when in ("steer", "followUp"):
                own = [each.message for each in queued if each.when == when]
                assert own == sorted(own, key=self.sent.index), "in the order of arrival"

    def teardown(self) -> None:
        """Whatever state it was left in, a run that is driven reaches its end."""
        if self.run is None:
            return
        for _ in range(200):
            if self.driver.record.terminal:
                break
            self._drive()
        self.driver.check()
        assert self.driver.record.terminal

    def _drive(self) -> None:
        run = self.driver
        state = run.state
        for step in state.record.steps:
            held = [c for c in self.hands if c.lease.step == step.number]
            claim = run.store.claim(run.run_id, step.number, LEASE_MS) or max(held, key=lambda c: c.lease.token)
            self.hands = [c for c in self.hands if c.lease.step != step.number]
            self._finish(claim, [])
            return
        run.expire(0)
        if run.pending and not run.record.terminal:
            self._answer(run.pending[0], "answer", {"approved": True})


Runs.TestCase.settings = settings(
    max_examples=120, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRuns = Runs.TestCase
