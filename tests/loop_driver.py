"""Drives one run by hand through the loop's transitions and a store, with a clock of its own.

Every move goes through the store, so that what a test reads is what another process would read, and every
change is checked against the table of transitions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from msgspec.structs import replace

from agentkit.agents import Agent, BoundAgent
from agentkit.core.cancellation import Cancellation
from agentkit.core.events import AssistantMessageEvent, Event, MessageUpdate
from agentkit.core.ids import new_id
from agentkit.core.messages import (
    AssistantMessage,
    Json,
    Message,
    StopReason,
    ToolResultMessage,
    Usage,
    UserMessage,
    check_content,
    text_of,
)
from agentkit.core.record import TRANSITIONS, AbortRequest, Change, Lease, RunRecord, RunState
from agentkit.core.struct import check, to_json
from agentkit.loop import (
    Answer,
    abort,
    admissions,
    begin_run,
    call_end,
    client_result,
    expire,
    fail,
    find_pending,
    finish_model,
    finish_tool,
    next_turn,
    park,
    resolve,
    result_message,
)
from agentkit.loop import add_message as send_message
from agentkit.loop import doubt as doubt_step
from agentkit.providers.builder import MessageBuilder
from agentkit.providers.choice import BoundModel
from agentkit.providers.protocol import ModelRequest
from agentkit.providers.scripted import ScriptedModel
from agentkit.results import error_result, to_result
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import Claim, Commit, Conflict, LastCall, Store
from agentkit.testing.store_changes import append
from agentkit.tools import Tool
from tests.event_rules import check_log, shape
from tests.turns import with_ids

__all__ = ["Driver", "texts_of"]

LEASE_MS = 60_000


def texts_of(messages: Sequence[Json], role: str | None = None) -> list[str]:
    """The text of each message, of those with this role where one is named."""
    return [text_of(check(message, Message)) for message in messages if role in (None, message["role"])]


class Driver:
    """One run and its agent. `now` is the clock (ms) that transitions get; tests move it."""

    def __init__(self, *tools: Tool, store: Store | None = None, **options: Any) -> None:
        model = ScriptedModel(["unused"])
        self.agent = BoundAgent(Agent("tester", model, tools=tools, **options), [BoundModel(model, model.model)])
        self.store: Store = store or MemoryStore()
        self.now = 1_700_000_000_000
        self.run_id = new_id()
        self.claims: dict[int, Claim] = {}

    # -- reading

    @property
    def state(self) -> RunState:
        return self.store.load(self.run_id)

    @property
    def record(self) -> RunRecord:
        return self.state.record

    @property
    def status(self) -> str:
        return str(self.record.status)

    @property
    def pending(self) -> list[Json]:
        """The pending items, as the wire's objects."""
        shown: list[Json] = to_json(self.record.pending)
        return shown

    @property
    def messages(self) -> list[Json]:
        return self.store.messages(self.run_id)[1]

    @property
    def events(self) -> list[Json]:
        """The log, as a client reads it."""
        return [json.loads(event.data) for event in self.store.events(self.run_id, 0, 10_000).events]

    def shape(self) -> list[str]:
        return shape(self.events)

    def check(self) -> Driver:
        """The log, the messages and the record agree, and keep the rules."""
        check_log(self.events, self.messages, self.status)
        assert self.record.messages == len(self.messages)
        return self

    # -- moves

    def start(self, content: str | None = "go", *, history: Any = None, limits: Json | None = None) -> Driver:
        """Start the run with a text, or with a history, messages or their JSON."""
        change = begin_run(
            self.agent,
            self.run_id,
            content if history is None else None,
            history=None if history is None else check(history, list[Message]),
            metadata={},
            limits=limits or {},
            now=self.now,
        )
        assert self.store.create(change)
        return self

    def open_step(self, kind: str, call_id: str | None = None) -> int:
        """The number of the open step of this kind, and of this call where one is named."""
        record = self.record
        for step in record.steps:
            if step.kind == kind and (
                call_id is None or (step.call is not None and record.calls[step.call].id == call_id)
            ):
                return step.number
        raise AssertionError(f"no {kind} step is open for {call_id}: {record.steps}")

    def claim(self, kind: str, call_id: str | None = None, *, lease_ms: int = LEASE_MS) -> Claim:
        """Claim an open step, or give the claim that this driver has."""
        number = self.open_step(kind, call_id)
        if number not in self.claims:
            claim = self.store.claim(self.run_id, number, lease_ms)
            assert claim is not None
            self.claims[number] = claim
        return self.claims[number]

    def lose(self, kind: str, call_id: str | None = None) -> Claim:
        """Claim a step as a worker that dies at once: its lease is over, another may claim it."""
        claim = self.claim(kind, call_id, lease_ms=0)
        del self.claims[claim.lease.step]
        return claim

    def commit(self, change: Change, lease: Lease | None = None) -> Commit:
        """Make a change true that was computed from the present state."""
        state = self.state
        before, after = state.record.status, change.record.status
        assert after in {before, *TRANSITIONS[before]}, f"{before} -> {after}"
        assert change.before == state.record
        commit = self.store.commit(change, state.version, lease)
        assert isinstance(commit, Commit)
        assert len(self.messages) == change.record.messages, "what the record counts is there"
        assert to_json(self.record.calls) == to_json(change.record.calls), "a call that was left alone is what it was"
        if lease is not None:
            self.claims.pop(lease.step, None)
        return commit

    def answer_of(self, turn: Any, usage: Usage | None = None) -> tuple[tuple[Event, ...], AssistantMessage]:
        """What the model says in a turn (as ScriptedModel takes it)): its stream, and its message; see `with_ids`."""
        builder = self.builder()
        updates: list[AssistantMessageEvent] = []
        request = ModelRequest("script", "", [UserMessage("x", 0)])
        for part in ScriptedModel([with_ids(turn)], chunk_size=4).stream(request, Cancellation()):
            updates += builder.feed(part)
        updates += builder.finish()
        message = builder.message()
        if usage is not None:
            message.usage = usage
        return tuple(MessageUpdate(assistant_message_event=update) for update in updates), message

    def builder(self) -> MessageBuilder:
        provider = self.agent.provider
        return MessageBuilder(api=provider.api, provider=provider.name, model=self.agent.model, timestamp=self.now)

    def model(self, turn: Any, usage: Usage | None = None) -> Driver:
        """The model step answers with `turn`."""
        claim = self.claim("model")
        updates, message = self.answer_of(turn, usage)
        calls = admissions(self.agent, message)
        change = finish_model(self.state, self.agent, claim.lease.step, message, calls, self.now)
        self.commit(change.with_events(updates), claim.lease)
        return self

    def tool(self, call_id: str, text: str | None = None, *, is_error: bool = False, executed: bool = True) -> Driver:
        """The tool step of a call ends with a result."""
        claim = self.claim("tool", call_id)
        result = self.result(claim, text or f"{call_id} done", is_error=is_error)
        self.commit(
            finish_tool(self.state, self.agent, claim.lease.step, result, self.now, executed=executed), claim.lease
        )
        return self

    def tool_beside_others(
        self, call_id: str, text: str | None = None, *, is_error: bool = False, executed: bool = True
    ) -> bool:
        """End the tool step of a call without the rest of the run; False, and nothing done, where that cannot be."""
        claim = self.claim("tool", call_id)
        result = self.result(claim, text or f"{call_id} done", is_error=is_error)
        return self.commit_call(claim, result, executed=executed)

    def commit_call(self, claim: Claim, result: ToolResultMessage, *, executed: bool) -> bool:
        before, number = self.state, claim.lease.step
        index = next(step.call for step in claim.state.record.steps if step.number == number)
        assert claim.call is not None
        assert index is not None
        end = call_end(claim.call, result, executed)
        follows = None if claim.complete else next_turn(claim.state, self.agent, number, self.now)
        last = None if follows is None else LastCall(follows, claim.state.version)
        outcome = self.store.commit_call(claim.lease, index, result, () if end is None else (end,), last=last)
        if isinstance(outcome, Conflict):
            return False
        if outcome.was_last:
            whole = finish_tool(before, self.agent, number, result, self.now, executed=executed).record
            assert self.record == replace(whole, updated_at=self.record.updated_at), "as a transition has it"
        self.claims.pop(number, None)
        return True

    def result(self, claim: Claim, text: str, *, is_error: bool = False) -> ToolResultMessage:
        """What the claimed call comes to."""
        assert claim.call is not None
        return result_message(claim.call, error_result(text) if is_error else to_result(text), self.now)

    def doubt(self, call_id: str) -> Driver:
        claim = self.claim("tool", call_id)
        self.commit(doubt_step(self.state, self.agent, claim.lease.step, self.now), claim.lease)
        return self

    def park(self, call_id: str, reason: str = "no such tool here") -> Driver:
        claim = self.claim("tool", call_id)
        self.commit(park(self.state, claim.lease.step, self.now, reason), claim.lease)
        return self

    def decide(self, decision: Any, call_id: str | None = None, **more: Any) -> Driver:
        return self._answer(Answer("decision", decision, **more), call_id)

    def reject(self, reason: str, call_id: str | None = None, **more: Any) -> Driver:
        return self._answer(Answer("reject", {"reason": reason}, **more), call_id)

    def give(self, value: Any, call_id: str | None = None) -> Driver:
        """The result of a client-side tool."""
        return self._answer(Answer("result", client_result(value)), call_id)

    def _answer(self, answer: Answer, call_id: str | None) -> Driver:
        state = self.state
        index = find_pending(state.record, tool_call_id=call_id, decision_id=None)
        assert index is not None, f"nothing is pending for {call_id}"
        tool = self.agent.tool(state.record.calls[index].name)
        change = resolve(state, index, answer, tool, self.agent.agent.parallel_tool_calls, self.now)
        if change is not None:  # else it is a vote that is there already
            self.commit(change)
        return self

    def expire(self, seconds: float = 0) -> bool:
        """Let time pass and apply what has expired; False where nothing has."""
        self.now += round(seconds * 1000)
        change = expire(self.state, self.agent, self.now)
        if change is not None:
            self.commit(change)
        return change is not None

    def abort(self, reason: str | None = None, **holding: Any) -> bool:
        """Abort from outside, or (`holding`) as the worker that ends it; False where nothing is to be done."""
        state = self.state
        outcome = abort(state, reason, self.now, **holding)
        if isinstance(outcome, AbortRequest):
            assert self.store.request_abort(self.run_id, outcome, state.version)
        elif outcome is not None:
            self.commit(outcome)
        return outcome is not None

    def fail(self, code: str, text: str, message: AssistantMessage | None = None) -> Driver:
        self.commit(fail(self.state, code, text, self.now, message=message))
        return self

    def send(self, content: Any, when: Literal["steer", "followUp"]) -> Driver:
        self.commit(send_message(self.state, check_content(content), when, self.now))
        return self

    def cut_message(self, text: str, stop_reason: StopReason) -> AssistantMessage:
        """The assistant message as far as a worker came; what it streamed goes into the log under its lease."""
        claim = self.claim("model")
        builder = self.builder()
        message = builder.message(stop_reason=stop_reason)
        if text:
            updates, whole = self.answer_of(text)
            append(self.store, claim.lease, updates, 1)
            message.content = whole.content
        return message
