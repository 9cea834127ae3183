"""The limits of a run: what it has used, against what its agent and its caller allow."""

from __future__ import annotations

from agentkit.agents import BoundAgent
from agentkit.core.events import RunError
from agentkit.core.record import RunRecord

__all__ = ["over_limits", "over_turns"]


def over_limits(record: RunRecord, agent: BoundAgent, now: int) -> RunError | None:
    """Return why the run must end for its tokens, cost or time; None where it need not."""
    limits = agent.agent.limits.override(record.limits)
    usage = record.usage
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


def _over(what: str, how: str) -> RunError:
    return RunError(f"limit_{what}", f"the run has used {how}")
