"""The change in the making: the small moves that all transitions share.

Rules that this module alone knows:

1. An event refers to messages that stand in the run's list of messages; it holds no copy of them.
2. A transition costs time in proportion to the number of calls of the open turn, not to its square, and none in
   proportion to the conversation. So calls and steps are no tuples here, and a move changes what it names alone.
3. A call, and a queued message, that the transition leaves alone stays the very same object: the store writes those
   that do not. Queued messages are taken from anywhere and come at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from agentkit.core.calls import Call, ItemAnswer
from agentkit.core.events import (
    Event,
    MessageEnd,
    MessageStart,
    Outcome,
    PendingItem,
    ToolDecisionResolved,
    Vote,
    stored_at,
)
from agentkit.core.messages import Message, QueuedMessage, ToolResultMessage
from agentkit.core.record import (
    TRANSITIONS,
    Change,
    Remembered,
    Resolution,
    RunRecord,
    RunState,
    Status,
    Step,
    StepKind,
    WholeRecordNeededError,
)
from agentkit.core.struct import digest
from agentkit.errors import LeaseLostError
from agentkit.loop.calls import Question, RememberedAnswer, call_end, item_of, new_item, pending_event
from agentkit.tools import Tool

__all__ = ["Draft"]


class Draft:
    """One transition's work in progress; `change()` is its outcome, and its end.

    `calls` are those of the open turn by their indexes, and `steps` the open ones by their numbers. Both stand here and
    not in `record`, which changes as the draft goes and holds the rest. Where the record was read with one call
    alone, `others` is what is known of the rest, and a draft may change that call and what belongs to the run; results
    become messages in the store.
    """

    def __init__(self, state: RunState, now: int, *, is_new: bool = False) -> None:
        self.state = state
        self.now = now
        self.record: RunRecord = replace(state.record, calls=(), steps=())
        self.calls: dict[int, Call] = dict(state.record.indexed_calls)
        self.others = state.record.others
        self.steps: dict[int, Step] = {step.number: step for step in state.record.steps}
        self.on_claim: tuple[Event, ...] = ()
        self.orphans: list[str] = []
        self._before = None if is_new else state.record
        self._next_step = state.record.next_step
        self._messages: list[Message] = []
        self._events: list[Event] = []
        self._opened: list[Step] = []
        self._closed: list[int] = []
        self._resolutions: list[Resolution] = []
        self._on_first_claim: dict[int, tuple[Event, ...]] = {}

    def change(self) -> Change:
        """Make the change of what was drafted."""
        return Change(
            record=replace(
                self.record,
                messages=self.message_count,
                calls=tuple(self.calls.values()),
                steps=tuple(self.steps.values()),
                next_step=self._next_step,
                updated_at=self.now,
            ),
            before=self._before,
            messages=tuple(self._messages),
            events=tuple(self._events),
            opened=tuple(self._opened),
            closed=tuple(self._closed),
            resolutions=tuple(self._resolutions),
            on_claim=self.on_claim,
            orphans=tuple(self.orphans),
            on_first_claim=self._on_first_claim,
        )

    # -- small moves

    @property
    def message_count(self) -> int:
        """How many messages the run has, those of this draft among them."""
        return self.state.record.messages + len(self._messages)

    @property
    def pending(self) -> list[PendingItem]:
        """The pending items, in the order of their calls; those of all calls must have been read."""
        self.require_whole()
        return [item for call in self.calls.values() for item in call.items]

    @property
    def waits(self) -> bool:
        """Whether an item is pending, of this run or of a sub-agent's."""
        if self.others is not None and self.others.waiting:
            return True
        return any(call.waits for call in self.calls.values())

    def require_whole(self) -> None:
        """Raise WholeRecordNeededError where not all calls of the turn were read."""
        if self.others is not None:
            raise WholeRecordNeededError

    def set(self, **values: Any) -> None:
        """Set fields of the record; not its calls, its steps or its number of messages."""
        self.record = replace(self.record, **values)

    def set_status(self, status: Status) -> None:
        """Go to a status. Raises AssertionError where TRANSITIONS does not allow it."""
        before = self.record.status
        if status is before:
            return
        if status not in TRANSITIONS[before]:
            raise AssertionError(f"run {self.record.id} cannot go from {before} to {status}")
        self.set(status=status)

    def emit(self, *events: Event) -> None:
        """Append events to the log."""
        self._events += events

    def add_message(self, message: Message, *, started: bool = False, by: str | None = None) -> None:
        """Append a message with its events; `started` where its message_start is in the log already.

        `by`: who sent it into the run.
        """
        reference = stored_at(self.message_count)
        if not started:
            self.emit(MessageStart(message=reference))
        self.emit(MessageEnd(message=reference, by=by))
        self._messages.append(message)

    def adopt_history(self, history: list[Message]) -> None:
        """Append messages that agent_start shows."""
        self._messages += history

    @property
    def queued(self) -> tuple[QueuedMessage, ...]:
        """The messages that wait. Raises WholeRecordNeededError where some do, and were not read."""
        if self.record.queued is None:
            raise WholeRecordNeededError
        return self.record.queued

    def set_queued(self, messages: Sequence[QueuedMessage]) -> None:
        """Have these messages wait, of which those that did stay the very same objects, in their order."""
        self.record = self.record.with_queued(messages)

    def open_step(
        self, kind: StepKind, on_first_claim: tuple[Event, ...] = (), call: int | None = None, **retry: Any
    ) -> None:
        """Open a step. `on_first_claim`: its first events. `retry`: the fields of a model step that waits."""
        step = Step(self._next_step, kind, call, **retry)
        self._next_step += 1
        self.steps[step.number] = step
        self._opened.append(step)
        if on_first_claim:
            self._on_first_claim[step.number] = on_first_claim

    def close_step(self, number: int) -> Step:
        """Close an open step and return it. Raises LeaseLostError where it is not open."""
        step = self.steps.pop(number, None)
        if step is None:
            raise LeaseLostError(f"step {number} of run {self.record.id} is done")
        self._closed.append(number)
        return step

    def close_tool_step(self, number: int) -> int:
        """Close a tool step and return the index of its call. Raises LeaseLostError where it is not open."""
        index = self.close_step(number).call
        assert index is not None
        return index

    def set_call(self, index: int, **values: Any) -> None:
        """Set fields of a call."""
        self.calls[index] = replace(self.calls[index], **values)

    def finish_call(self, index: int, result: ToolResultMessage) -> None:
        """Give a call its result; nothing else of it is needed any more."""
        call = self.calls[index]
        self.calls[index] = Call(call.id, call.name, {}, "done", result=result)

    def finish_step(self, step: int, result: ToolResultMessage, *, executed: bool) -> None:
        """Close a tool step with the result of its call. `executed`: its execution start is in the log."""
        index = self.close_tool_step(step)
        end = call_end(self.calls[index], result, executed)
        if end is not None:
            self.emit(end)
        self.finish_call(index, result)

    # -- pending items

    def pend(self, index: int, question: Question) -> None:
        """Make a call wait for an answer to a question, and write that into the log."""
        self._set_item(index, question)
        self.set_call(index, state="pending")
        self.emit(pending_event(self.record.id, item_of(self.calls[index])))

    def pend_client(self, index: int, tool: Tool) -> None:
        """Make a call wait for the client to execute its tool."""
        on_expire = "abort" if tool.on_expire == "abort" else "reject"  # a default decision is no result
        self.pend(index, Question("client_execute", {}, timeout=tool.decision_timeout, on_expire=on_expire))

    def answer_unasked(self, index: int, question: Question, known: RememberedAnswer) -> None:
        """Give a call the remembered answer to a question that nobody is asked, and write that into the log."""
        self._set_item(index, question)  # with which it is asked after all where a worker lacks the tool
        answer = known.answer
        self.set_call(index, answer=answer)
        self.resolve_item(
            index,
            "rejected" if answer.reject else "decided",
            answer,
            decision=None if answer.decision is UNSET else answer.decision,
            reason=answer.reject.reason if answer.reject else None,
            decided_by=known.decided_by,
            decided_at=known.decided_at,
            votes=known.votes,
            remembered=True,
        )

    def _set_item(self, index: int, question: Question) -> None:
        on_expire = None if question.timeout is None else question.on_expire
        item = new_item(self.calls[index], question, self.now)
        self.set_call(index, item=item, on_expire=on_expire, extensions=())

    def resolve_item(
        self,
        index: int,
        outcome: Outcome,
        answer: ItemAnswer | None,
        *,
        decision: Any = None,
        reason: str | None = None,
        decided_by: str | None = None,
        decided_at: int | None = None,
        votes: tuple[Vote, ...] = (),
        remember: bool = False,
        remembered: bool = False,
    ) -> None:
        """Consume the pending item of a call, and write that into the log.

        `answer`: what is kept to compare later answers with, None where nobody answered. `decided_at`: by default now.
        `votes`: by default those on the item. `remember`: it counts for later calls of the tool, too. `remembered`: it
        is an earlier one's.
        """
        item = item_of(self.calls[index])
        votes = votes or tuple(item.votes or ())
        decided_at = self.now if decided_at is None else decided_at
        self.set(answered=self.record.answered + 1)
        self.set_call(index, decided_by=decided_by, decided_at=decided_at)
        if item.kind == "decision":
            self.set_call(index, votes=votes)
        if remember:
            self._remember(item)
        self._resolutions.append(
            Resolution(
                item.decision_id,
                item.tool_call_id,
                outcome,
                answer,
                event=len(self._events),
                decided_at=decided_at,
                decided_by=decided_by,
                extensions=self.calls[index].extensions,
                votes=votes,
                remembered=remembered,
                item=item,
            )
        )
        self.emit(
            ToolDecisionResolved(
                tool_call_id=item.tool_call_id,
                decision_id=item.decision_id,
                outcome=outcome,
                decision=decision,
                reason=reason,
                input=answer.input if answer else None,
                decided_by=decided_by,
                votes=list(votes) or None,
                remember=remember,
                remembered=remembered,
            )
        )

    def _remember(self, item: PendingItem) -> None:
        """Have the answer to an item count for later calls; the last one to the same question does."""
        entry = Remembered(item.tool_name, digest(item.schema), item.decision_id)
        others = (e for e in self.record.remembered if (e.tool, e.schema) != (entry.tool, entry.schema))
        self.set(remembered=(*others, entry))
