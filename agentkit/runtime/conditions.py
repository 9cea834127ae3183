"""Asks whether calls that a model made need a decision (`decision_when`), and finds answers that were remembered.

A condition is asked once, before the commit of the answer that holds the call, and what it says is part of that
commit: nothing that happens to the run later asks it again. Whatever keeps it from saying False has the call wait.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import logging
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from agentkit.core.messages import AssistantMessage, Json, tool_calls_of
from agentkit.loop import Admission, RememberedAnswer, admissions, counts_for, remembered_for
from agentkit.runtime.failpoints import failpoint
from agentkit.runtime.step_context import StepContext
from agentkit.runtime.tool_threads import run_in_tool_thread
from agentkit.tools import DecisionWhen, Tool, ToolContext

__all__ = ["admit_calls"]

log = logging.getLogger(__name__)


def admit_calls(context: StepContext, message: AssistantMessage) -> list[Admission]:
    """Say what becomes of each tool call of an answer. Where the run is to end meanwhile, what was not asked waits."""
    found = admissions(context.agent, message)
    for index, block in enumerate(tool_calls_of(message)):
        tool = context.agent.tool(block.name)
        if tool is None or tool.decision is None or found[index].refusal is not None:
            continue
        if tool.decision_when is not None:
            found[index] = _ask(
                context, tool, tool.decision_when, block.arguments, context.tool_context(block.id, index)
            )
        if found[index].needs_decision:
            found[index] = dataclasses.replace(found[index], remembered=_remembered(context, tool))
    return found


def _ask(context: StepContext, tool: Tool, decision_when: DecisionWhen, args: Json, ctx: ToolContext) -> Admission:
    """Ask a tool's condition, in a thread of tools, so that an abort of the run need not wait for it."""
    outcome: list[Callable[[], Any]] = []
    done, woken = threading.Event(), threading.Event()

    def ask() -> None:
        try:
            value = decision_when(copy.deepcopy(args), ctx)
            outcome.append(lambda: value)
        except BaseException as error:  # SystemExit, too: here it ends nothing
            outcome.append(_raiser(error))
        done.set()
        woken.set()

    failpoint("before decision_when")
    if context.inline is not None:
        ask()
    else:
        cancel = context.held.cancel
        run_in_tool_thread(f"decision_when-{tool.name}", ask)
        forget = cancel.on_cancel(woken.set)
        woken.wait()
        forget()
        if cancel.reason == "stop":  # else the answer, which is there, would be paid for again
            done.wait()
    failpoint("after decision_when")
    if not outcome:
        return Admission(reason="decision_when was not asked to its end")
    return _admission(context, tool, outcome[0])


def _admission(context: StepContext, tool: Tool, get: Callable[[], Any]) -> Admission:
    """Read what a condition said: only False lets the call be executed without a decision."""
    what = (
        f"decision_when of tool {tool.name} of run {context.held.lease.run_id}, step {context.held.lease.step}, failed"
    )
    try:
        value = get()
    except BaseException as error:
        if context.inline is not None:
            context.inline.on_tool_error(error)
        text = context.texts.of(error)
        log.error("%s, and the call waits: %s", what, text, exc_info=error, extra=context.info(tool.name).log_fields())
        return Admission(reason=f"decision_when failed: {text}")
    if value is False:
        return Admission(needs_decision=False)
    if inspect.iscoroutine(value):
        value.close()
    if value is True:
        return Admission(reason="decision_when says that this call needs the decision")
    return Admission(reason=f"decision_when returned neither True nor False, but a {type(value).__name__}")


def _remembered(context: StepContext, tool: Tool) -> RememberedAnswer | None:
    """Find the answer that counts for a call of a tool that needs a decision; None where somebody is to be asked."""
    record = context.held.state.record
    entry = remembered_for(tool, record.remembered)
    if entry is None:
        return None
    store = context.committer.step_store
    known = store.resolution(record.id, decision_id=entry.decision_id, tool_call_id=None)
    if known is None or known.answer is None:
        return None
    # The arguments that were edited for one call are no other's.
    answer = msgspec.structs.replace(known.answer, input=None)
    found = RememberedAnswer(answer, known.decided_by, known.decided_at, known.votes)
    return found if counts_for(tool, found) else None


def _raiser(error: BaseException) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail
