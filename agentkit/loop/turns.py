"""The transitions of a run that works: it begins, the model answers, tools are executed.

Rules that this module alone knows:

1. What happens to an answer that was cut off twice, and to the calls of sub-agents beyond what a run may start.
2. Where a message from outside goes: into the turn that is due, or beside it until the next; and how many may.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec.structs import replace

from agentkit.agents import BoundAgent
from agentkit.core.bounds import Bounds
from agentkit.core.calls import Call, Inquiry, ItemAnswer
from agentkit.core.events import AgentStart, MessageDiscard, MessageStart, RunError, stored_at
from agentkit.core.ids import new_id
from agentkit.core.messages import (
    AssistantMessage,
    ContentBlock,
    Json,
    Message,
    QueuedMessage,
    ToolResultMessage,
    UserMessage,
    add_usage,
    content_bytes,
    tool_calls_of,
)
from agentkit.core.record import Change, Origin, ParentCall, RunRecord, RunState, Status, Step, WholeRecordNeededError
from agentkit.errors import PayloadTooLargeError, RunNotPausedError
from agentkit.loop.admission import Admission, admit, has_cut_call
from agentkit.loop.calls import IN_DOUBT_SCHEMA, Question, error_message, item_of, result_message
from agentkit.loop.draft import Draft
from agentkit.loop.flow import advance, finish_turn, open_turn, settle
from agentkit.loop.limits import child_limits
from agentkit.results import InputRequired
from agentkit.tools import Tool

__all__ = [
    "add_message",
    "ask_client",
    "ask_input",
    "begin_run",
    "doubt",
    "finish_model",
    "finish_tool",
    "next_turn",
    "park",
    "postpone",
]


def begin_run(
    agent: BoundAgent,
    run_id: str,
    content: str | list[ContentBlock] | None,
    *,
    history: list[Message] | None = None,
    metadata: Json,
    limits: Json,
    now: int,
    parent: ParentCall | None = None,
    owner: str | None = None,
    origin: Origin | None = None,
) -> Change:
    """Make a run, with its first model step due.

    It begins with a `history`, the `content` of a user message, or both; where that is left out, the history ends with
    what a model answers. `parent`: the call that the run answers, if it is a sub-agent's. `owner`: the principal that
    starts it. `origin`: the run whose history it is. Returns a change without a record before it.
    """
    record = RunRecord(
        id=run_id,
        agent=agent.name,
        model=agent.model_name,
        metadata=metadata,
        limits=limits,
        parent=parent,
        owner=owner,
        origin=origin,
        created_at=now,
        active_since=now,
    )
    draft = Draft(RunState(record, version=0, last_seq=0), now, is_new=True)
    messages = history or []
    draft.emit(AgentStart(run_id=run_id, agent=agent.name, messages=[stored_at(0, len(messages))] if messages else []))
    draft.adopt_history(messages)
    if content is not None:
        draft.add_message(UserMessage(content=content, timestamp=now))
    open_turn(draft, agent)
    return draft.change()


def finish_model(
    state: RunState,
    agent: BoundAgent,
    step: int,
    message: AssistantMessage,
    admissions: Sequence[Admission],
    now: int,
    *,
    cut_before: bool = False,
) -> Change:
    """End a model step with the whole assistant message.

    Its tool calls are executed or asked for as their `admissions` say; without any call, the run goes on with what was
    sent to it, or ends. The run fails where a call was cut off by the limit of tokens and one of the answer before was
    too: `cut_before`. Raises LeaseLostError where the step is not open.
    """
    draft = Draft(state, now)
    draft.close_step(step)
    draft.set(usage=add_usage(state.record.usage, message.usage))
    draft.add_message(message, started=True)
    blocks = tool_calls_of(message)
    draft.calls = {i: Call(block.id, block.name, block.arguments, "ready") for i, block in enumerate(blocks)}
    if cut_before and has_cut_call(message):
        for index, call in draft.calls.items():
            draft.finish_call(index, error_message(call, "not executed: the run has failed", now))
        settle(draft, agent, RunError("provider_error", _CUT_AGAIN))
        return draft.change()
    children: list[tuple[int, Tool, Admission]] = []
    for index, (call, admission) in enumerate(zip(list(draft.calls.values()), admissions, strict=True)):
        tool = agent.tool(call.name)
        if admission.refusal is not None:
            draft.finish_call(index, result_message(call, admission.refusal, now))
        elif tool is not None and tool.agent is not None:
            children.append((index, tool, admission))
        elif tool is not None:
            admit(draft, index, tool, admission)
    _begin_children(draft, agent, children)
    settle(draft, agent)
    return draft.change()


_CUT_AGAIN = (
    "the model's tool call was cut off by the limit of tokens of one answer (max tokens), twice in a row: "
    "raise max_output_tokens, or have the model write less into a call"
)


def _begin_children(draft: Draft, agent: BoundAgent, calls: list[tuple[int, Tool, Admission]]) -> None:
    """Give the sub-agents' calls of a turn the ids of their runs and a share of what the run has left.

    Calls beyond the number of runs that a run may start, and all where too little is left, get an error result.
    """
    most = agent.bounds.max_child_runs
    left = max(0, most - draft.record.child_runs)
    admitted, refused = calls[:left], calls[left:]
    shares = child_limits(draft.record, agent, len(admitted)) if admitted else {}
    refusal = f"not executed: a run may start at most {most} runs of sub-agents (AGENTKIT_MAX_CHILD_RUNS)"
    if isinstance(shares, str):
        admitted, refused, refusal = [], calls, shares
    for index, _, _ in refused:
        draft.finish_call(index, error_message(draft.calls[index], refusal, draft.now))
    for index, tool, admission in admitted:
        draft.set_call(index, child=new_id(draft.now), child_limits=shares or None)
        admit(draft, index, tool, admission)
    draft.set(child_runs=draft.record.child_runs + len(admitted))


def finish_tool(
    state: RunState, agent: BoundAgent, step: int, result: ToolResultMessage, now: int, *, executed: bool
) -> Change:
    """End a tool step with the result of its call.

    `result` becomes a message, as it is, when the calls before it have theirs. `executed`: its execution start is in
    the log. Raises LeaseLostError where the step is not open.
    """
    draft = Draft(state, now)
    draft.finish_step(step, result, executed=executed)
    settle(draft, agent)
    return draft.change()


def next_turn(state: RunState, agent: BoundAgent, step: int, now: int) -> Change | None:
    """End the turn, whose calls all have results by then, and begin the next.

    `state`: it was read with one call alone. `step`: that of this call. The store has the results, and makes messages
    of them before the change. Returns None where something else follows than a turn, or it takes the whole record to
    say what does.
    """
    record, others = state.record, state.record.others
    assert others is not None
    if others.count < others.steps or others.waiting or others.working:
        return None
    ended = replace(record, messages=record.turn_from + 2 + others.count)
    draft = Draft(RunState(ended, state.version, state.last_seq), now)
    draft.close_step(step)
    try:
        finish_turn(draft, agent)
    except WholeRecordNeededError:
        return None
    draft.set(others=None, first_call=0)
    return draft.change()


def postpone(state: RunState, agent: BoundAgent, step: int, retry: Step, at: int, reason: str, now: int) -> Change:
    """End a model step whose call failed, and open one that calls the model again at `at` (ms).

    What was streamed is void, and nobody holds the run meanwhile. `agent`: with the model to call. `retry`: its
    `choice`, `tries` and `since` are those of the new step. Raises LeaseLostError where the step is not open.
    """
    draft = Draft(state, now)
    draft.close_step(step)
    draft.emit(MessageDiscard(reason=reason))
    first_events = (MessageStart(message=agent.empty_message(at)),)
    draft.open_step("model", first_events, at=at, choice=retry.choice, tries=retry.tries, since=retry.since)
    return draft.change()


def doubt(state: RunState, agent: BoundAgent, step: int, now: int) -> Change:
    """End a tool step whose worker died while a tool of effects "once" was executing: a person says what happened.

    Raises LeaseLostError where the step is not open.
    """
    draft = Draft(state, now)
    index = draft.close_tool_step(step)
    draft.set_call(index, started=True)
    draft.pend(index, Question("in_doubt", IN_DOUBT_SCHEMA))
    settle(draft, agent)
    return draft.change()


def ask_input(
    state: RunState, agent: BoundAgent, step: int, required: InputRequired, timeout: float | None, now: int
) -> Change:
    """End a tool step whose tool asks somebody before it goes on: the call waits for the answer.

    `timeout`: seconds that are left for it, None for no end; then the call is rejected. Raises LeaseLostError where the
    step is not open.
    """
    draft = Draft(state, now)
    index = draft.close_tool_step(step)
    call = draft.calls[index]
    asked = call.inquiry
    inquiry = (
        Inquiry(required.memo, 1, call.answer)
        if asked is None
        else Inquiry(required.memo, asked.rounds + 1, asked.before)
    )
    draft.set_call(index, started=True, inquiry=inquiry, answer=None)
    draft.pend(index, Question("decision", required.schema, timeout, "reject", required.message))
    settle(draft, agent)
    return draft.change()


def ask_client(state: RunState, agent: BoundAgent, step: int, now: int) -> Change:
    """End a tool step whose tool is the client's to execute: the call waits for it.

    Raises LeaseLostError where the step is not open.
    """
    draft = Draft(state, now)
    index = draft.close_tool_step(step)
    tool = agent.tool(draft.calls[index].name)
    assert tool is not None
    draft.set_call(index, started=True)
    draft.pend_client(index, tool)
    settle(draft, agent)
    return draft.change()


def park(state: RunState, step: int, now: int, reason: str) -> Change:
    """End a tool step whose worker lacks the tool of an answered call: its item is pending anew.

    It is asked with as much time as it had, for what its answer came to is not the fault of who asks. `reason` is in
    the log. Raises LeaseLostError where the step is not open.
    """
    draft = Draft(state, now)
    index = draft.close_tool_step(step)
    call = draft.calls[index]
    item = item_of(call)
    # Of a call in doubt, only the verdict is asked for again: the decision before it stays.
    kept = replace(call.answer, verdict=None) if item.kind == "in_doubt" and call.answer else None
    timeout = None if item.expires_at is None else (item.expires_at - item.created_at) / 1000
    # Records of before on_expire was kept have none here: then nothing executes unasked.
    on_expire = "reject" if call.on_expire is None else call.on_expire
    draft.set_call(index, started=True, answer=None if kept == ItemAnswer() else kept)
    draft.pend(index, Question(item.kind, item.schema, timeout, on_expire, reason, item.approvals, item.remember))
    advance(draft, True, reason)
    return draft.change()


def add_message(
    state: RunState,
    content: str | list[ContentBlock],
    when: Literal["steer", "followUp"],
    now: int,
    *,
    by: str | None = None,
    bounds: Bounds | None = None,
) -> Change:
    """Take a user message from outside into a run that has not ended: at the next turn, or when it would end.

    `by`: who sends it. `bounds`: how many may wait; None for the defaults. Raises RunNotPausedError where the run has
    ended, and PayloadTooLargeError where too many wait already, or too much.
    """
    record = state.record
    if record.terminal:
        raise RunNotPausedError(f"the run has ended ({record.status}): start another with its messages")
    size = content_bytes(content)
    draft = Draft(state, now)
    _check_room(draft, size, bounds or Bounds())
    if when == "steer" and _turn_is_due(state):
        draft.add_message(UserMessage(content=content, timestamp=now), by=by)  # the call that is due will see it
        draft.set(turn_from=draft.message_count, joined=record.joined + 1, joined_bytes=record.joined_bytes + size)
    else:
        draft.set_queued((*draft.queued, QueuedMessage(content, when, by)))
    return draft.change()


def _check_room(draft: Draft, size: int, bounds: Bounds) -> None:
    """Raise PayloadTooLargeError where a message of `size` bytes more is too much for what waits in a run.

    A message that has joined the turn that is due waits as well, for its model call.
    """
    record = draft.record
    joined, joined_bytes = (record.joined, record.joined_bytes) if _turn_is_due(draft.state) else (0, 0)
    count = len(draft.queued) + joined
    if count >= bounds.max_queued_messages:
        raise PayloadTooLargeError(
            f"{count} messages wait in the run already, as many as may (AGENTKIT_MAX_QUEUED_MESSAGES): send this one "
            "when the model has seen some of them"
        )
    waiting = sum(content_bytes(each.message) for each in draft.queued) + joined_bytes
    if waiting + size > bounds.max_queued_bytes:
        raise PayloadTooLargeError(
            f"with this message of {size} bytes, {waiting + size} bytes would wait in the run, of the "
            f"{bounds.max_queued_bytes} that may (AGENTKIT_MAX_QUEUED_BYTES)"
        )


def _turn_is_due(state: RunState) -> bool:
    """Whether a turn is due of which nothing is in the log yet."""
    if state.record.status is Status.PAUSED:
        return False
    first = next((step for step in state.record.steps if step.kind == "model"), None)
    return first is not None and first.number not in state.claimed and not first.tries
