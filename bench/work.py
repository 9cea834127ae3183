"""The work W that agentkit's benchmarks do, as an application.

W: six tool calls, the last of which needs a decision, and seven model turns of the scripted model, the last
answering in 20 deltas. That is 13 steps. What it is measured against is in bench/rivals.
"""

from __future__ import annotations

from typing import Any

from agentkit import Agent, AgentKit, ScriptedModel, tool

HOPS = 13
APPROVAL = {"type": "object", "properties": {"approved": {"type": "boolean"}}, "required": ["approved"]}


@tool
def look_up(order_id: str) -> str:
    """Look an order up."""
    return f"order {order_id}: paid"


@tool(decision=APPROVAL)
def refund(order_id: str, cents: int, decision: dict[str, Any]) -> str:
    """Refund an order."""
    return f"refunded {cents} of {order_id}: {decision['approved']}"


def _call(name: str, **arguments: Any) -> list[dict[str, Any]]:
    return [{"type": "toolCall", "name": name, "arguments": arguments}]


_ANSWER = "0123456789" * 20
_MODEL = ScriptedModel(
    [*(_call("look_up", order_id=f"A-{n}") for n in range(5)), _call("refund", order_id="A-1", cents=900), _ANSWER],
    chunk_size=10,
)
kit = AgentKit([Agent("bench", _MODEL, "You are a benchmark.", [look_up, refund])])
