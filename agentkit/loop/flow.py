"""The moves of the loop: turns begin and end, calls are executed, the run pauses, goes on and ends.

Rules that this module alone knows:

1. Tool results become messages in the order of the tool calls, whatever order they finished in.
2. A turn ends when all its calls have results; then comes the next turn, or the end.
3. A run pauses when nothing is left to execute but something is pending; it continues, once, when the
   last pending item is answered.
4. Whatever was started gets its end, also when the run is cut short.
5. What changes one call leaves the others alone as long as something else goes on or somebody else is waited for. So it
   can be said from that call alone, and from how many others there are of which kind.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentkit.agents import BoundAgent
from agentkit.core.calls import Call, OtherCalls
from agentkit.core.events import (
    AgentEnd,
    AgentPause,
    AgentResume,
    Event,
    MessageStart,
    RunError,
    ToolExecutionStart,
    TurnEnd,
    TurnStart,
    stored_at,
)
from agentkit.core.messages import AssistantMessage, QueuedMessage, UserMessage
from agentkit.core.record import Status
from agentkit.loop.calls import error_message, execution_end, settles
from agentkit.loop.draft import Draft
from agentkit.loop.limits import over_limits, over_turns

__all__ = [
    "advance",
    "continue_paused",
    "continue_without_step",
    "end",
    "finish_turn",
    "open_turn",
    "settle",
    "unpause",
]


def open_turn(draft: Draft, agent: BoundAgent, messages: Sequence[QueuedMessage] = ()) -> None:
    """Begin the next turn with these of the queued messages: its model call becomes due."""
    for each in messages:
        draft.add_message(UserMessage(content=each.message, timestamp=draft.now), by=each.by)
    if messages:
        taken = {id(each) for each in messages}
        draft.set_queued([each for each in draft.queued if id(each) not in taken])
    turn = draft.record.turn + 1
    draft.calls = {}
    draft.set(turn=turn, turn_from=draft.message_count, flushed=0, joined=0, joined_bytes=0)
    draft.open_step("model", (TurnStart(turn=turn), MessageStart(message=agent.empty_message(draft.now))))


def settle(draft: Draft, agent: BoundAgent, failure: RunError | None = None) -> None:
    """Go as far as the calls of the open turn allow; a paused run stays so.

    `failure`: what ends the run where all of its calls have results.
    """
    if draft.others is not None:
        if draft.record.status is not Status.PAUSED:
            if over_limits(draft.record, agent, draft.now) is not None:
                draft.require_whole()
            advance(draft, agent.agent.parallel_tool_calls)
        return
    _flush_results(draft)
    if draft.record.status is Status.PAUSED:
        return
    if draft.record.flushed == len(draft.calls):
        finish_turn(draft, agent, failure)
    elif (error := over_limits(draft.record, agent, draft.now)) is not None and not _executing(draft):
        end(draft, Status.FAILED, error)
    else:
        advance(draft, agent.agent.parallel_tool_calls)


def advance(draft: Draft, parallel: bool, reason: str | None = None) -> None:
    """Open the tool steps that may run now; pause where there is none and something is pending.

    `reason`: why the run pauses, where its log is to show that.
    """
    if draft.others is not None:
        _leave_others(draft, draft.others, parallel)
        return
    if not draft.waits:
        for index, call in draft.calls.items():
            if call.state == "answered":
                draft.set_call(index, state="ready")
    stepped = {step.call for step in draft.steps.values()}
    ready = [i for i, call in draft.calls.items() if call.state == "ready" and i not in stepped]
    if not parallel:
        ready = ready[: 0 if stepped else 1]
    for index in ready:
        draft.open_step("tool", _start_events(draft.calls[index]), index)
    if not draft.steps and not any(call.works for call in draft.calls.values()):
        _pause(draft, reason)


def _leave_others(draft: Draft, others: OtherCalls, parallel: bool) -> None:
    """Check that nothing follows for the calls that were not read (rule 5). Raises WholeRecordNeededError."""
    waited = others.waiting or any(call.waits for call in draft.state.record.calls)
    goes_on = others.steps or others.working or any(call.works for call in draft.calls.values())
    if not parallel or not goes_on or (waited and not draft.waits):
        draft.require_whole()


def _start_events(call: Call) -> tuple[Event, ...]:
    """Make what the first claim of a call's step announces: its execution, where one is to come."""
    if call.started or settles(call.answer):
        return ()
    return (ToolExecutionStart(tool_call_id=call.id, tool_name=call.name, args=call.args),)


def _executing(draft: Draft) -> bool:
    return any(step.kind == "tool" for step in draft.steps.values())


def _pause(draft: Draft, reason: str | None) -> None:
    spent = draft.now - (draft.record.active_since or draft.now)
    draft.set(active_ms=draft.record.active_ms + spent, active_since=None)
    draft.set_status(Status.PAUSED)
    draft.emit(AgentPause(run_id=draft.record.id, pending=draft.pending, reason=reason))


def unpause(draft: Draft, call_ids: list[str]) -> None:
    """Make the paused run queued; whoever claims its next step writes agent_resume."""
    draft.set_status(Status.QUEUED)
    draft.set(active_since=draft.now)
    draft.on_claim = (AgentResume(run_id=draft.record.id, tool_call_ids=call_ids),)


def continue_without_step(draft: Draft, call_ids: list[str]) -> None:
    """Make the paused run running, though no worker has a step of it: a sub-agent's run goes on."""
    unpause(draft, call_ids)
    draft.set_status(Status.RUNNING)
    draft.emit(*draft.on_claim)
    draft.on_claim = ()


def continue_paused(draft: Draft, call_ids: list[str]) -> None:
    """Continue a paused run of which nothing is pending any more: its answered calls, and `call_ids`."""
    draft.require_whole()
    answered = [call.id for call in draft.calls.values() if call.state == "answered"]
    if answered:
        unpause(draft, answered + call_ids)
    else:
        continue_without_step(draft, call_ids)


def _flush_results(draft: Draft, *, skip_unfinished: bool = False) -> None:
    """Make messages of the results that every call before them allows (rule 1)."""
    index = draft.record.flushed
    while index < len(draft.calls):
        result = draft.calls[index].result
        if result is not None:
            draft.add_message(result)
            draft.set_call(index, result=None)
        elif not skip_unfinished:
            break
        index += 1
    draft.set(flushed=index)


def finish_turn(draft: Draft, agent: BoundAgent, failure: RunError | None = None) -> None:
    """End the open turn, all of whose calls have their messages; then comes the next turn, or the end (rule 2)."""
    takes_steers = bool(draft.calls or draft.record.queued_steers)
    _end_turn(draft)
    error = failure or over_limits(draft.record, agent, draft.now)
    if error is not None:
        end(draft, Status.FAILED, error)
    elif not takes_steers and not draft.record.queued_follow_ups:
        end(draft, Status.COMPLETED, None)
    elif (error := over_turns(draft.record, agent)) is not None:
        end(draft, Status.FAILED, error)
    elif takes_steers and not draft.record.queued_steers:
        open_turn(draft, agent)
    elif takes_steers:
        open_turn(draft, agent, [each for each in draft.queued if each.when == "steer"])
    else:
        open_turn(draft, agent, [each for each in draft.queued if each.when == "followUp"][:1])


def _end_turn(draft: Draft) -> None:
    first = draft.record.turn_from
    results = draft.message_count - first - 1
    draft.emit(
        TurnEnd(
            turn=draft.record.turn,
            message=stored_at(first),
            tool_results=[stored_at(first + 1, results)] if results else [],
        )
    )
    draft.calls = {}
    draft.set(flushed=0, turn_from=draft.message_count)


def end(
    draft: Draft,
    status: Status,
    error: RunError | None,
    message: AssistantMessage | None = None,
    *,
    by: str | None = None,
) -> None:
    """End the run, closing whatever is open.

    `message`: the open assistant message as far as it came, where a claimed model step leaves one. `by`: who aborts it.
    """
    draft.require_whole()
    claimed = draft.state.claimed
    if message is None and any(s.kind == "model" and n in claimed for n, s in draft.steps.items()):
        raise AssertionError("an open assistant message must be closed")
    if message is not None:
        retrying = any(step.tries for number, step in draft.steps.items() if number not in claimed)
        draft.add_message(message, started=not retrying)
        _end_turn(draft)
    elif draft.calls:
        _cut_calls(draft)
    for number in list(draft.steps):
        draft.close_step(number)
    if draft.record.status is Status.QUEUED and status is not Status.ABORTED:
        draft.set_status(Status.RUNNING)
    draft.set_status(status)
    unsent = list(draft.queued) or None
    draft.set_queued(())
    draft.set(ended_at=draft.now, error=error, active_since=None, orphans=tuple(draft.orphans))
    run_id, usage = draft.record.id, draft.record.usage
    draft.emit(AgentEnd(run_id=run_id, status=str(status), usage=usage, error=error, by=by, unsent=unsent))


def _cut_calls(draft: Draft) -> None:
    """End the open turn's calls: started ones get their end, finished ones their message, the rest nothing."""
    claimed = {step.call for number, step in draft.steps.items() if number in draft.state.claimed}
    for index, call in draft.calls.items():
        if call.state == "done":
            continue
        if call.started or (index in claimed and _start_events(call)):
            draft.emit(execution_end(error_message(call, "cut: the run has ended", draft.now)))
        if call.child is not None:
            draft.orphans.append(call.child)
    _flush_results(draft, skip_unfinished=True)
    _end_turn(draft)
