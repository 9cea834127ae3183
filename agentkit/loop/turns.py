"""The transitions of a run that works: it begins, the model answers, tools are executed."""

from __future__ import annotations

from typing import cast

from agentkit.agents import BoundAgent
from agentkit.core import events as ev
from agentkit.core.ids import new_id
from agentkit.core.messages import (
    AssistantMessage,
    Block,
    Json,
    Message,
    ToolCallBlock,
    add_usage,
    tool_calls_of,
    user_message,
)
from agentkit.core.record import Call, Change, RunRecord, RunState, Status, Step
from agentkit.errors import RunNotPausedError
from agentkit.loop.draft import IN_DOUBT_SCHEMA, Draft, error_content, finish_step
from agentkit.tools import Tool, invalid_arguments

__all__ = ["add_message", "begin_run", "doubt", "finish_model", "finish_tool", "park", "postpone"]


def begin_run(
    agent: BoundAgent,
    run_id: str,
    given: str | list[Block] | list[Message],
    *,
    is_history: bool,
    metadata: Json,
    limits: Json,
    now: int,
    parent: Json | None = None,
    owner: str | None = None,
) -> Change:
    """A new run. `given`: the first user message's content, or a history that ends with a user message.

    `parent`: `{runId, toolCallId, depth}` of the call that the run answers, if it is a sub-agent's. `owner`: the
    principal that started it.
    """
    record = RunRecord(
        id=run_id,
        agent=agent.name,
        model=agent.model_name,
        metadata=metadata,
        limits=limits,
        parent=parent,
        owner=owner,
        created_at=now,
        active_since=now,
    )
    draft = Draft(RunState(record, version=0, last_seq=0), now)
    history: list[Message] = given if is_history else []  # type: ignore[assignment]  # told apart by is_history
    draft.emit(ev.agent_start(run_id, agent.name, history))
    draft.adopt_history(history)
    if not is_history:
        draft.add_message(user_message(given, now))  # type: ignore[arg-type]  # told apart by is_history
    draft.open_turn(agent)
    return draft.change()


def finish_model(state: RunState, agent: BoundAgent, step: int, message: AssistantMessage, now: int) -> Change:
    """The model has answered."""
    draft = Draft(state, now)
    draft.close_step(step)
    draft.set(usage=add_usage(state.record.usage, message["usage"]))
    draft.add_message(message, started=True)
    calls = tool_calls_of(message)
    draft.set(calls=tuple(Call(c["id"], c["name"], c["arguments"], "ready") for c in calls))
    for index, call in enumerate(calls):
        _admit(draft, agent, index, call)
    draft.settle(agent)
    return draft.change()


def _admit(draft: Draft, agent: BoundAgent, index: int, call: ToolCallBlock) -> None:
    """Decide what becomes of a tool call: executed, asked for, or an error that the model is told."""
    tool = agent.tool(call["name"])
    if tool is None:
        known = ", ".join(sorted(t.name for t in agent.agent.tools)) or "none"
        draft.finish_call(index, error_content(f"there is no tool named {call['name']!r}; the tools are: {known}"))
    elif "rawArguments" in call:
        draft.finish_call(index, error_content("the arguments are not a JSON object; send them again as one"))
    elif problems := tool.input_problems(call["arguments"]):
        told = invalid_arguments(problems)
        draft.finish_call(index, {"content": told.content, "isError": told.is_error})
    else:
        _ask(draft, index, tool)


def _ask(draft: Draft, index: int, tool: Tool) -> None:
    """Make an admitted call wait for whom it needs."""
    if tool.agent is not None:
        draft.set_call(index, child=new_id())
    if tool.decision is not None:
        draft.pend(index, "decision", tool.decision, timeout=tool.decision_timeout, on_expire=tool.on_expire)
    elif tool.runs == "client":
        draft.pend_client(index, tool)


def finish_tool(
    state: RunState,
    agent: BoundAgent,
    step: int,
    result: Json,
    now: int,
    *,
    executed: bool,
) -> Change:
    """A tool call has its result: `{content, isError, details?}`. `executed`: its execution start is in the log."""
    draft = Draft(state, now)
    finish_step(draft, step, result, executed=executed)
    draft.settle(agent)
    return draft.change()


def postpone(state: RunState, agent: BoundAgent, step: int, waiting: Step, at: int, reason: str, now: int) -> Change:
    """The model is to be called again at `at`: what it streamed is void, and nobody holds the run meanwhile.

    `agent`: with the model to call. `waiting`: the tries so far.
    """
    draft = Draft(state, now)
    draft.close_step(step)
    draft.emit(ev.message_discard(reason))
    opens = (ev.message_start(agent.empty_message(at)),)
    draft.open_step("model", opens, at=at, choice=waiting.choice, tries=waiting.tries, since=waiting.since)
    return draft.change()


def doubt(state: RunState, agent: BoundAgent, step: int, now: int) -> Change:
    """A worker died while a tool of effects "once" was executing: a person must say what happened."""
    draft = Draft(state, now)
    closed = draft.close_step(step)
    assert closed.call is not None
    draft.set_call(closed.call, started=True)
    draft.pend(closed.call, "in_doubt", IN_DOUBT_SCHEMA)
    draft.settle(agent)
    return draft.change()


def ask_client(state: RunState, agent: BoundAgent, step: int, now: int) -> Change:
    """The call's tool is the client's to execute: the call waits for it, and its step is done."""
    draft = Draft(state, now)
    closed = draft.close_step(step)
    assert closed.call is not None
    draft.set_call(closed.call, started=True)
    draft.pend_client(closed.call, cast(Tool, agent.tool(state.record.calls[closed.call].name)))
    draft.settle(agent)
    return draft.change()


def park(state: RunState, step: int, now: int, reason: str) -> Change:
    """The worker lacks the tool of an answered call: the run goes back to paused and its log says why.

    The question is asked anew, with as much time as it had: what its answer came to is not the asker's fault.
    """
    draft = Draft(state, now)
    closed = draft.close_step(step)
    assert closed.call is not None
    call = state.record.calls[closed.call]
    item = cast(Json, call.item)
    # Of a call in doubt, only the verdict is asked for again: the decision before it stays.
    answer = {key: value for key, value in (call.answer or {}).items() if key != "verdict"}
    kept = answer if item["kind"] == "in_doubt" and answer else None
    timeout = (item["expiresAt"] - item["createdAt"]) / 1000 if "expiresAt" in item else None
    # Records of before on_expire was kept have none here: then nothing executes unasked.
    on_expire = "reject" if call.on_expire is None else call.on_expire
    draft.set_call(closed.call, started=True, answer=kept)
    draft.pend(closed.call, item["kind"], item["schema"], timeout=timeout, on_expire=on_expire, reason=reason)
    draft.advance(True, reason)
    return draft.change()


def add_message(state: RunState, content: str | list[Block], when: str, now: int) -> Change:
    """A message from outside into a run that has not ended. `when`: "steer" or "followUp"."""
    record = state.record
    if record.terminal:
        raise RunNotPausedError(f"the run has ended ({record.status}): start another with its messages")
    draft = Draft(state, now)
    model_steps = [step for step in record.steps if step.kind == "model"]
    if when == "followUp":
        draft.set(follow_ups=(*record.follow_ups, {"content": content}))
    elif _unbegun(state, model_steps):
        draft.add_message(user_message(content, now))  # the call that is due will see it
        draft.set(turn_from=draft.record.messages)
    else:
        draft.set(steers=(*record.steers, {"content": content}))
    return draft.change()


def _unbegun(state: RunState, model_steps: list[Step]) -> bool:
    """Whether a turn is due of which nothing is in the log yet."""
    if not model_steps or state.record.status is Status.PAUSED:
        return False
    return model_steps[0].number not in state.claimed and not model_steps[0].tries
