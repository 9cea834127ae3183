"""What becomes of a tool call when the model has made it.

Rules that this module alone knows:

1. A call that cannot be carried out is an error for the model; nobody is asked about it, and nothing is executed.
2. A call is asked about where its tool has a decision, unless the tool's condition says that this one needs none.
3. An answer that somebody had remembered counts for a later call of the tool, where the question is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentkit.agents import BoundAgent
from agentkit.core.messages import AssistantMessage, ToolCallBlock, tool_calls_of
from agentkit.core.record import Remembered
from agentkit.core.struct import digest
from agentkit.loop.calls import Question, RememberedAnswer
from agentkit.loop.draft import Draft
from agentkit.results import CheckedResult, error_result, invalid_arguments
from agentkit.tools import Tool

__all__ = ["Admission", "admissions", "admit", "counts_for", "has_cut_call", "remembered_for"]


@dataclass(frozen=True, slots=True)
class Admission:
    """What becomes of one call.

    `refusal`: the error result of a call that cannot be carried out. `needs_decision`: whether the decision that its
    tool declares is needed, and `reason`: what the tool's condition said. `remembered`: the answer that counts for it.
    """

    refusal: CheckedResult | None = None
    needs_decision: bool = True
    reason: str | None = None
    remembered: RememberedAnswer | None = None


def admissions(agent: BoundAgent, message: AssistantMessage) -> list[Admission]:
    """Say of each call of a message whether it can be carried out; conditions and earlier answers come to it later."""
    blocks, most = tool_calls_of(message), agent.bounds.max_calls_per_turn
    is_cut = has_cut_call(message)
    return [
        Admission(
            error_result(_CUT)
            if is_cut and block is blocks[-1]
            else (_too_many(most) if index >= most else _refusal(agent, agent.tool(block.name), block))
        )
        for index, block in enumerate(blocks)
    ]


def has_cut_call(message: AssistantMessage) -> bool:
    """Whether the limit of tokens cut the message off in the middle of a tool call, which is its last."""
    blocks = tool_calls_of(message)
    return message.stop_reason == "length" and bool(blocks) and blocks[-1].raw_arguments is not None


def remembered_for(tool: Tool, remembered: Sequence[Remembered]) -> Remembered | None:
    """Find the entry of an answer that may count for calls of a tool; None where there is none."""
    if not tool.remember or not remembered:
        return None
    schema = digest(tool.decision)
    return next((entry for entry in remembered if (entry.tool, entry.schema) == (tool.name, schema)), None)


def counts_for(tool: Tool, known: RememberedAnswer) -> bool:
    """Whether a remembered answer still counts: a decision of fewer principals than the tool needs now does not."""
    return known.answer.reject is not None or max(1, len(known.votes)) >= tool.approvals


def admit(draft: Draft, index: int, tool: Tool, admission: Admission) -> None:
    """Make a call wait for whom it needs; without anybody, it is ready to be executed."""
    if tool.decision is not None and admission.needs_decision:
        question = Question.of(tool, admission.reason)
        if admission.remembered is None:
            draft.pend(index, question)
            return
        draft.answer_unasked(index, question, admission.remembered)
        if admission.remembered.answer.reject is not None:
            return
    if tool.runs == "client":
        draft.pend_client(index, tool)


_CUT = (
    "not executed: the call was cut off, because the answer reached its limit of tokens (max tokens) before the "
    "arguments were complete. Make it again, shorter: with less text in its arguments, or as several calls"
)


def _too_many(most: int) -> CheckedResult:
    text = f"not executed: of one answer, at most {most} tool calls are carried out (AGENTKIT_MAX_CALLS_PER_TURN)"
    return error_result(f"{text}; make the others after their results")


def _refusal(agent: BoundAgent, tool: Tool | None, block: ToolCallBlock) -> CheckedResult | None:
    """Return the error for the model where its call cannot be carried out; None where it can."""
    if tool is None:
        known = ", ".join(sorted(t.name for t in agent.known_tools())) or "none"
        return error_result(f"there is no tool named {block.name!r}; the tools are: {known}")
    if block.raw_arguments is not None:
        return error_result("the arguments are not a JSON object; send them again as one")
    if problems := tool.input_problems(block.arguments):
        return invalid_arguments(problems, agent.redact)
    return None
