"""The limits of a run: what it has used, against what its agent and its caller allow."""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from agentkit.agents import BoundAgent
from agentkit.core.events import RunError
from agentkit.core.messages import Json, Usage, add_usage
from agentkit.core.record import RunRecord, RunState

__all__ = ["child_limits", "over_limits", "over_turns", "with_discarded"]


def with_discarded(state: RunState, usage: Usage | None) -> RunState:
    """Return a state in which `usage` is counted among what failed tries used; None: there is nothing to count."""
    if usage is None:
        return state
    before = state.record.discarded
    discarded = usage if before is None else add_usage(before, usage)
    return replace(state, record=structs.replace(state.record, discarded=discarded))


def over_limits(record: RunRecord, agent: BoundAgent, now: int) -> RunError | None:
    """Return why the run must end for its tokens, cost or time; None where it need not."""
    limits = agent.agent.limits.override(record.limits)
    usage = record.spent
    if limits.max_tokens is not None and usage.total_tokens > limits.max_tokens:
        return _over("tokens", f"{usage.total_tokens} tokens of {limits.max_tokens} (maxTokens)")
    if limits.max_cost is not None and usage.cost.total > limits.max_cost:
        return _over("cost", f"{usage.cost.total:.6g} dollars of {limits.max_cost:.6g} (maxCost)")
    active = record.active_ms + now - (record.active_since or now)
    if limits.timeout is not None and active >= limits.timeout * 1000:
        return _over("time", f"{active / 1000:.1f} seconds of {limits.timeout:.6g} (timeout)")
    return None


def over_turns(record: RunRecord, agent: BoundAgent) -> RunError | None:
    """Return why the run may have no turn more; None where it may."""
    most = agent.agent.limits.override(record.limits).max_turns
    if most is None or record.turn < most:
        return None
    return RunError("limit_turns", f"the run has had its {most} turns (maxTurns)")


def child_limits(record: RunRecord, agent: BoundAgent, children: int) -> Json | str:
    """Share what a run has left among the sub-agents' runs of one turn, of which there are `children`.

    Tokens and dollars are divided, for what they use counts for the run; turns, which are each run's own, are not.
    Returns the limits of each by their wire names, or why there can be none. The time is left to when they start.
    """
    limits = agent.agent.limits.override(record.limits)
    shares: Json = {}
    if limits.max_turns is not None:
        shares["maxTurns"] = limits.max_turns - record.turn
    if limits.max_tokens is not None:
        shares["maxTokens"] = (limits.max_tokens - record.spent.total_tokens) // children
    if limits.max_cost is not None:
        shares["maxCost"] = (limits.max_cost - record.spent.cost.total) / children
    used_up = [name for name, share in shares.items() if share <= 0]
    if used_up:
        return (
            f"the run has too little left for the sub-agents of this turn ({', '.join(used_up)}): answer without them"
        )
    return shares


def _over(what: str, how: str) -> RunError:
    return RunError(f"limit_{what}", f"the run has used {how}")
