"""The application of the rolling upgrade. The agentkit of the archive imports it, too, and it writes down which did."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import agentkit
from agentkit import Agent, AgentKit, ToolContext, tool
from tests.acceptance.ledger import Ledger

__all__ = ["kit"]

CODE = Path(agentkit.__file__).parents[1].name
APPROVAL = {"type": "object", "properties": {"approved": {"type": "boolean"}}, "required": ["approved"]}


def _record(name: str, ctx: ToolContext) -> Ledger:
    ledger = Ledger(os.environ["ACCEPTANCE_LEDGER"])
    ledger.add(tool=name, run=ctx.run_id, key=ctx.idempotency_key, attempt=ctx.attempt, code=CODE)
    return ledger


@tool(decision=APPROVAL)
def refund(order_id: str, ctx: ToolContext, decision: dict[str, Any]) -> str:
    """Refund an order."""
    _record("refund", ctx)
    return f"refunded {order_id}" if decision["approved"] else "not approved"


@tool
def look_up(order_id: str, ctx: ToolContext) -> str:
    """Look an order up."""
    _record("look_up", ctx)
    return f"{order_id} was delivered"


@tool(effects="once")
def hold(ctx: ToolContext) -> str:
    """Hold for longer than its worker lives, which must not happen twice."""
    ledger, ends = _record("hold", ctx), time.monotonic() + 120
    while not ledger.entries(let_go=ctx.run_id) and time.monotonic() < ends:
        threading.Event().wait(0.1)
    return "held"


support = Agent("support", model="openai:test-model", tools=[refund, look_up, hold])
kit = AgentKit([Agent("boss", model="openai:test-model", tools=[support.as_tool()]), support])
