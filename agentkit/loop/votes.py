"""Items that several principals must answer alike (`@tool(approvals=N)`).

Rules that this module alone knows:

1. Who may answer one: a principal that is named, and is not the run's owner unless the tool allows that.
2. All votes give the same decision with the same edited arguments. A principal has one vote.
3. What they have in common is remembered where each of them wants it.
"""

from __future__ import annotations

from msgspec.structs import replace

from agentkit.core.calls import ItemAnswer
from agentkit.core.events import PendingItem, Proposal, ToolDecisionVote, Vote
from agentkit.core.struct import canonical
from agentkit.errors import DecisionConflictError, ForbiddenError
from agentkit.tools import Tool

__all__ = ["add_vote", "check_voter", "late_reason", "vote_event"]


def check_voter(item: PendingItem, principal: str | None, owner: str | None, tool: Tool) -> str | None:
    """Return who votes on an item, None where it needs no votes. Raises ForbiddenError where this principal may not.

    `owner`: of the run. `tool`: the one that is to be executed, as the application knows it now.
    """
    if item.approvals is None:
        return None
    needs = f"{item.tool_name!r} needs the same decision of {item.approvals} principals"
    if principal is None:
        raise ForbiddenError(f"{needs}, and nobody is named who gives this one")
    if principal == owner and not tool.owner_may_approve:
        raise ForbiddenError(f"{needs}, and {principal!r} started the run: others must decide")
    return principal


def add_vote(item: PendingItem, principal: str, answer: ItemAnswer, remember: bool, now: int) -> PendingItem | None:
    """Return the item with a vote more; None where the principal has voted already.

    `answer`: a decision. Raises DecisionConflictError where it is not the one that the others gave.
    """
    votes = item.votes or []
    before = _proposed(item)
    if before is not None and canonical(before) != canonical(answer):
        raise DecisionConflictError(
            f"{' and '.join(vote.decided_by for vote in votes)} gave another decision for {item.tool_name!r}: give the "
            "same one, with the same input, or reject"
        )
    if any(vote.decided_by == principal for vote in votes):
        return None
    wanted = remember and (item.proposal is None or item.proposal.remember)
    proposal = Proposal(answer.decision, answer.input, wanted)
    return replace(item, votes=[*votes, Vote(principal, now)], proposal=proposal)


def vote_event(item: PendingItem) -> ToolDecisionVote | None:
    """Make the event of the last vote on an item; None where it was the last that is needed."""
    votes, proposal = item.votes or [], item.proposal
    if proposal is None or item.approvals is None or len(votes) >= item.approvals:
        return None
    return ToolDecisionVote(
        tool_call_id=item.tool_call_id,
        decision_id=item.decision_id,
        decided_by=votes[-1].decided_by,
        votes=len(votes),
        approvals=item.approvals,
        decision=proposal.decision,
        input=proposal.input,
        remember=proposal.remember,
    )


def late_reason(item: PendingItem, what: str = "") -> str:
    """Say that an item was not answered in time, with `what` it is, after a space."""
    answered = "nobody" if not item.votes else f"only {len(item.votes)} of {item.approvals} principals"
    return f"{answered} answered{what} in time"


def _proposed(item: PendingItem) -> ItemAnswer | None:
    return None if item.proposal is None else ItemAnswer(decision=item.proposal.decision, input=item.proposal.input)
