"""An application of one agent that looks four things up and then answers: 9 steps, none of which waits for anybody."""

from __future__ import annotations

import os

from agentkit import Agent, AgentKit, ScriptedModel, ToolContext, tool
from tests.acceptance.ledger import Ledger
from tests.turns import call

__all__ = ["LOOKUPS", "STEPS", "agent", "kit"]

LOOKUPS = 4
STEPS = 2 * LOOKUPS + 1


@tool
def look_up(order_id: str, ctx: ToolContext) -> str:
    """Look an order up."""
    Ledger(os.environ["ACCEPTANCE_LEDGER"]).add(run=ctx.run_id, tool="look_up", order=order_id)
    return f"{order_id} was delivered"


_MODEL = ScriptedModel([*([call("look_up", order_id=f"A-{n}")] for n in range(LOOKUPS)), "All are there."])
agent = Agent("clerk", _MODEL, tools=[look_up])
kit = AgentKit([agent])
