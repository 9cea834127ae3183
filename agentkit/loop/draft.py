"""The change in the making: the moves that all transitions share.

Rules that this module alone knows:

1. Tool results become messages in the order of the tool calls, whatever order they finished in.
2. A turn ends when all its calls have results; then comes the next turn, or the end.
3. A run pauses when nothing is left to execute but something is pending; it continues, once, when the
   last pending item is answered.
4. Whatever was started gets its end, also when the run is cut short.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from agentkit.agents import BoundAgent, Limits
from agentkit.core import events as ev
from agentkit.core.events import Event
from agentkit.core.ids import new_id
from agentkit.core.messages import AssistantMessage, Json, Message, tool_result_message, user_message
from agentkit.core.record import TRANSITIONS, Call, Change, Resolution, RunRecord, RunState, Status, Step, StepKind
from agentkit.errors import LeaseLostError
from agentkit.tools import Tool

__all__ = ["IN_DOUBT_SCHEMA", "Draft", "error_content", "finish_step"]

IN_DOUBT_SCHEMA: Json = {
    "type": "object",
    "properties": {
        "verdict": {"enum": ["retry", "done", "failed"], "description": "What to do, or what has happened."},
        "result": {"type": "string", "description": "The tool's result, or what went wrong."},
    },
    "required": ["verdict"],
    "additionalProperties": False,
}


def error_content(text: str) -> Json:
    """A call's result that tells the model what went wrong."""
    return {"content": [{"type": "text", "text": text}], "isError": True}


class Draft:
    """One transition's work in progress. `record` is replaced as it goes; `change()` is the outcome."""

    def __init__(self, state: RunState, now: int) -> None:
        self.state = state
        self.record: RunRecord = replace(state.record)  # this draft's own, so that `set` can write to it
        self.now = now
        self._messages: list[Message] = []
        self._events: list[Event] = []
        self._opened: list[Step] = []
        self._closed: list[int] = []
        self._resolutions: list[Resolution] = []
        self._on_claim: tuple[Event, ...] = ()
        self._orphans: list[str] = []
        self._on_first_claim: dict[int, tuple[Event, ...]] = {}
        self._last_calls: tuple[Call, ...] = ()

    def change(self) -> Change:
        self.set(updated_at=self.now)
        return Change(
            record=self.record,
            messages=tuple(self._messages),
            events=tuple(self._events),
            opened=tuple(self._opened),
            closed=tuple(self._closed),
            resolutions=tuple(self._resolutions),
            on_claim=self._on_claim,
            orphans=tuple(self._orphans),
            on_first_claim=self._on_first_claim,
        )

    # -- small moves

    def set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self.record, name, value)

    def emit(self, *events: Event) -> None:
        self._events += events

    def set_status(self, status: Status) -> None:
        before = self.record.status
        if status is before:
            return
        if status not in TRANSITIONS[before]:
            raise AssertionError(f"run {self.record.id} cannot go from {before} to {status}")
        self.set(status=status)

    def add_message(self, message: Message, *, started: bool = False) -> None:
        """Append a message with its events; `started` where its message_start is in the log already."""
        if not started:
            self.emit(ev.message_start(message))
        self.emit(ev.message_end(message))
        self._messages.append(message)
        self.set(messages=self.record.messages + 1)

    def adopt_history(self, history: list[Message]) -> None:
        """Take messages that agent_start already shows."""
        self._messages += history
        self.set(messages=self.record.messages + len(history))

    def turn_messages(self) -> list[Message]:
        """The messages of the open turn: the assistant's, then tool results."""
        before, start = self.state.record.messages, self.record.turn_from
        known = self.state.turn[len(self.state.turn) - (before - start) :] if start < before else ()
        return [*known, *self._messages[max(0, start - before) :]]

    def open_step(
        self, kind: StepKind, on_first_claim: tuple[Event, ...] = (), call: int | None = None, **wait: Any
    ) -> None:
        step = Step(self.record.next_step, kind, call, **wait)
        self.set(steps=(*self.record.steps, step), next_step=step.number + 1)
        self._opened.append(step)
        if on_first_claim:
            self._on_first_claim[step.number] = on_first_claim

    def close_step(self, number: int) -> Step:
        step = self.record.step(number)
        if step is None:
            raise LeaseLostError(f"step {number} of run {self.record.id} is done")
        self.set(steps=tuple(s for s in self.record.steps if s.number != number))
        self._closed.append(number)
        return step

    def set_call(self, index: int, **values: Any) -> None:
        calls = list(self.record.calls)
        calls[index] = replace(calls[index], **values)
        self.set(calls=tuple(calls))

    def finish_call(self, index: int, result: Json) -> None:
        self.set_call(
            index, state="done", result=result, item=None, on_expire=None, answer=None, args={}, child=None,
            child_pending=(),
        )  # fmt: skip

    def resolve_item(self, index: int, outcome: str, answer: Json | None, **shown: Any) -> None:
        """Consume the pending item of a call and say so in the log."""
        item = cast(Json, self.record.calls[index].item)
        self._resolutions.append(
            Resolution(
                item["decisionId"],
                item["toolCallId"],
                outcome,
                answer,
                event=len(self._events),
                decided_at=self.now,
                decided_by=shown.get("decidedBy"),
            )
        )
        self.emit(ev.tool_decision_resolved(item["toolCallId"], item["decisionId"], outcome, **shown))

    def pend(
        self,
        index: int,
        kind: str,
        schema: Json,
        *,
        timeout: float | None = None,
        on_expire: Any = None,
        reason: str | None = None,
    ) -> None:
        """Make a call wait for an answer, and say so in the log. `reason`: why it is asked again."""
        call = self.record.calls[index]
        item: Json = {
            "decisionId": new_id(),
            "toolCallId": call.id,
            "toolName": call.name,
            "kind": kind,
            "input": call.args,
            "schema": schema,
            "createdAt": self.now,
        }
        if timeout is not None:
            item["expiresAt"] = self.now + round(timeout * 1000)
        self.set_call(index, state="pending", item=item, on_expire=on_expire if timeout is not None else None)
        make = {
            "decision": ev.tool_decision_pending,
            "client_execute": ev.tool_client_execute_pending,
            "in_doubt": ev.tool_in_doubt,
        }[kind]
        self.emit(make(self.record.id, item, reason))

    # -- the moves of the loop

    def open_turn(self, agent: BoundAgent) -> None:
        """Begin the next turn: its model call becomes due."""
        for content in self.record.steers:
            self.add_message(user_message(cast(Any, content["content"]), self.now))
        turn = self.record.turn + 1
        self.set(steers=(), turn=turn, turn_from=self.record.messages, calls=(), flushed=0)
        self.open_step("model", (ev.turn_start(turn), ev.message_start(agent.empty_message(self.now))))

    def settle(self, agent: BoundAgent, reason: str | None = None) -> None:
        """Go as far as the calls of the open turn allow."""
        self._flush_results()
        record = self.record
        if record.flushed == len(record.calls):
            self._finish_turn(agent)
        elif (over := self._over_limits(agent)) is not None and not self._executing():
            self.end(Status.FAILED, over)
        else:
            self.advance(agent.agent.parallel_tool_calls, reason)

    def advance(self, parallel: bool, reason: str | None = None) -> None:
        """Open the tool steps that may run now; pause where there is none and something is pending."""
        if not self.record.asks:
            for index, call in enumerate(self.record.calls):
                if call.state == "answered":
                    self.set_call(index, state="ready")
        stepped = {step.call for step in self.record.steps}
        ready = [i for i, call in enumerate(self.record.calls) if call.state == "ready" and i not in stepped]
        if not parallel:
            ready = ready[: 0 if stepped else 1]
        for index in ready:
            call = self.record.calls[index]
            self.open_step("tool", self._start_events(call), index)
        working = any(call.state == "waiting" and not call.child_pending for call in self.record.calls)
        if not self.record.steps and not working:
            self._pause(self.record.pending, reason)

    def _start_events(self, call: Call) -> tuple[Event, ...]:
        """What the first claim of a call's step announces: its execution, where one is to come."""
        executes = call.answer is None or not ({"reject", "result"} & call.answer.keys())
        if call.started or not executes:
            return ()
        return (ev.tool_execution_start(call.id, call.name, call.args),)

    def _pause(self, pending: list[Json], reason: str | None) -> None:
        spent = self.now - (self.record.active_since or self.now)
        self.set(active_ms=self.record.active_ms + spent, active_since=None)
        self.set_status(Status.PAUSED)
        self.emit(ev.agent_pause(self.record.id, pending, reason))

    def pend_client(self, index: int, tool: Tool) -> None:
        """Make a call wait for the client to execute its tool."""
        on_expire = "abort" if tool.on_expire == "abort" else "reject"  # a default decision is no result
        self.pend(index, "client_execute", {}, timeout=tool.decision_timeout, on_expire=on_expire)

    def unpause(self, call_ids: list[str]) -> None:
        """The paused run becomes queued; whoever claims its next step writes agent_resume."""
        self.set_status(Status.QUEUED)
        self.set(active_since=self.now)
        self._on_claim = (ev.agent_resume(self.record.id, call_ids),)

    def wake(self, call_ids: list[str]) -> None:
        """The paused run goes on without a worker of its own: a sub-agent's run does."""
        self.unpause(call_ids)
        self.set_status(Status.RUNNING)
        self.emit(*self._on_claim)
        self._on_claim = ()

    def _executing(self) -> bool:
        return any(step.kind == "tool" for step in self.record.steps)

    def _flush_results(self, *, skip_unfinished: bool = False) -> None:
        calls = self.record.calls
        index = self.record.flushed
        while index < len(calls):
            call = calls[index]
            if call.result is not None:
                result = call.result
                self.add_message(
                    tool_result_message(
                        {"id": call.id, "name": call.name},
                        result["content"],
                        result["isError"],
                        self.now,
                        result.get("details"),
                    )
                )
                self.set_call(index, result=None)
            elif not skip_unfinished:
                break
            index += 1
        self.set(flushed=index)

    def _finish_turn(self, agent: BoundAgent) -> None:
        self._end_turn()
        over = self._over_limits(agent)
        wants_more = bool(self._last_calls)
        if over is not None:
            self.end(Status.FAILED, over)
        elif wants_more or self.record.steers:
            self._next_turn(agent)
        elif self.record.follow_ups:
            first, *rest = self.record.follow_ups
            self.set(steers=(first,), follow_ups=tuple(rest))
            self._next_turn(agent)
        else:
            self.end(Status.COMPLETED, None)

    def _next_turn(self, agent: BoundAgent) -> None:
        limits = agent.agent.limits.override(self.record.limits)
        if limits.max_turns is not None and self.record.turn >= limits.max_turns:
            message = f"the run has had its {limits.max_turns} turns (maxTurns)"
            self.end(Status.FAILED, {"code": "limit_turns", "message": message})
        else:
            self.open_turn(agent)

    def _end_turn(self) -> None:
        messages = self.turn_messages()
        self._last_calls = self.record.calls
        self.emit(ev.turn_end(self.record.turn, messages[0], messages[1:]))
        self.set(calls=(), flushed=0, turn_from=self.record.messages)

    def _over_limits(self, agent: BoundAgent) -> Json | None:
        limits: Limits = agent.agent.limits.override(self.record.limits)
        usage = self.record.usage
        if limits.max_tokens is not None and usage["totalTokens"] > limits.max_tokens:
            return _over("tokens", f"{usage['totalTokens']} tokens of {limits.max_tokens} (maxTokens)")
        if limits.max_cost is not None and usage["cost"]["total"] > limits.max_cost:
            return _over("cost", f"{usage['cost']['total']:.6g} dollars of {limits.max_cost:.6g} (maxCost)")
        active = self.record.active_ms + self.now - (self.record.active_since or self.now)
        if limits.timeout is not None and active >= limits.timeout * 1000:
            return _over("time", f"{active / 1000:.1f} seconds of {limits.timeout:.6g} (timeout)")
        return None

    def end(self, status: Status, error: Json | None, message: AssistantMessage | None = None) -> None:
        """End the run, closing whatever is open.

        `message`: the open assistant message as far as it came, where a claimed model step leaves one.
        """
        record = self.record
        model_steps = [s for s in record.steps if s.kind == "model" and s.number in self.state.claimed]
        if model_steps and message is None:
            raise AssertionError("an open assistant message must be closed")
        waiting = any(s.tries for s in record.steps if s.number not in self.state.claimed)
        if message is not None:
            self.add_message(message, started=not waiting)
            self._end_turn()
        elif record.calls:
            self._cut_calls()
        for step in self.record.steps:
            self.close_step(step.number)
        if self.record.status is Status.QUEUED and status is not Status.ABORTED:
            self.set_status(Status.RUNNING)
        self.set_status(status)
        self.set(ended_at=self.now, error=error, steers=(), follow_ups=(), abort=None, active_since=None)
        self.emit(ev.agent_end(record.id, status, self.record.usage, error))

    def _cut_calls(self) -> None:
        """End the open turn's calls: started ones get their end, finished ones their message, the rest nothing."""
        claimed = {s.call for s in self.record.steps if s.number in self.state.claimed}
        for index, call in enumerate(self.record.calls):
            if call.state != "done" and (call.started or (index in claimed and self._start_events(call))):
                content = {"content": error_content("cut: the run has ended")["content"]}
                self.emit(ev.tool_execution_end(call.id, call.name, content, True))
            if call.child is not None:
                self._orphans.append(call.child)
        self._flush_results(skip_unfinished=True)
        self._end_turn()


def _over(what: str, how: str) -> Json:
    return {"code": f"limit_{what}", "message": f"the run has used {how}"}


def finish_step(draft: Draft, step: int, result: Json, *, executed: bool = True) -> None:
    """A tool step is done: `result` is `{content, isError, details?}`."""
    closed = draft.close_step(step)
    assert closed.call is not None
    call = draft.record.calls[closed.call]
    if executed or call.started:
        shown: Json = {key: result[key] for key in ("content", "details") if key in result}
        draft.emit(ev.tool_execution_end(call.id, call.name, shown, result["isError"]))
    draft.finish_call(closed.call, result)
