"""The application that chaos drives: W, whose tools record in a ledger what they execute.

W: seven turns of the scripted model, six tool calls (three idempotent, two of effects "once", one that needs a
decision), and an answer in 20 deltas. Everything takes a moment, so that a kill may hit it.
"""

from __future__ import annotations

import os
import time
from typing import Any

from agentkit import Agent, AgentKit, ScriptedModel, ToolContext, tool
from tests.acceptance.ledger import Ledger

__all__ = ["ANSWER", "CALLS", "kit"]

APPROVAL = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "note": {"type": "string"}},
    "required": ["approved"],
}
TOOL_SECONDS = 0.05
CHARGE_SECONDS = 0.3  # long enough that kills often leave it in doubt
DELTA_SECONDS = 0.03
ANSWER = "0123456789" * 20
CALLS = ("look_up", "charge", "look_up", "charge", "look_up", "refund")
"""The tools of W, in the order of its turns."""


def _execute(ctx: ToolContext, seconds: float, **more: Any) -> None:
    """Record the execution, before anything else, and take `seconds`."""
    key = ctx.idempotency_key
    Ledger(os.environ["CHAOS_LEDGER"]).add(key=key, run=ctx.run_id, attempt=ctx.attempt, at=_now_ms(), **more)
    time.sleep(seconds)


def _now_ms() -> int:
    return int(time.time() * 1000)


@tool
def look_up(order_id: str, ctx: ToolContext) -> str:
    """Look an order up, which may be done again."""
    _execute(ctx, TOOL_SECONDS, tool="look_up")
    return f"order {order_id}: paid"


@tool(effects="once")
def charge(cents: int, ctx: ToolContext) -> str:
    """Charge a card, which must not be done again without a verdict."""
    _execute(ctx, CHARGE_SECONDS, tool="charge")
    return f"charged {cents}"


@tool(decision=APPROVAL)
def refund(order_id: str, ctx: ToolContext, decision: dict[str, Any]) -> str:
    """Refund an order, as decided."""
    _execute(ctx, TOOL_SECONDS, tool="refund", decision=decision)
    return f"order {order_id}: {decision}"


_ARGUMENTS: dict[str, dict[str, Any]] = {
    "look_up": {"order_id": "A-1"},
    "charge": {"cents": 900},
    "refund": {"order_id": "A-1"},
}
_MODEL = ScriptedModel(
    [*([{"type": "toolCall", "name": name, "arguments": _ARGUMENTS[name]}] for name in CALLS), ANSWER],
    chunk_size=10,
    delay=DELTA_SECONDS,
)
kit = AgentKit([Agent("chaos", _MODEL, "You are the agent of a chaos test.", [look_up, charge, refund])])


@kit.on("decision.pending", "run.paused", "run.completed", "run.failed", "run.aborted")
def note(event: dict[str, Any]) -> None:
    """Record a notification."""
    Ledger(os.environ["CHAOS_NOTIFICATIONS"]).add(run=event["data"]["runId"], event=event)
