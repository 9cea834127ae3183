"""An application in which several people decide. Its tools and its condition write into the ledger what they do."""

from __future__ import annotations

import os
from typing import Any

from flask import Request

from agentkit import Agent, AgentKit, Run, ToolContext, tool
from agentkit.core.messages import Json
from tests.acceptance.ledger import Ledger
from tests.tools import APPROVAL

__all__ = ["kit"]


def ledger() -> Ledger:
    return Ledger(os.environ["ACCEPTANCE_LEDGER"])


def moody(args: Json, ctx: ToolContext) -> bool:
    """Say the opposite of the time before, so that it shows in a run how often it was asked; True at first."""
    asked = len(ledger().entries(condition=ctx.run_id, call=ctx.tool_call_id))
    verdict = asked % 2 == 0
    ledger().add(condition=ctx.run_id, call=ctx.tool_call_id, verdict=verdict)
    return verdict


@tool(decision=APPROVAL, decision_when=moody)
def refund(cents: int, ctx: ToolContext, decision: dict[str, Any] | None) -> str:
    """Refund some cents."""
    ledger().add(tool="refund", run=ctx.run_id, call=ctx.tool_call_id)
    return f"refunded {cents}: {'nobody was asked' if decision is None else ctx.decided_by}"


@tool(decision=APPROVAL, remember=True)
def credit(cents: int, ctx: ToolContext) -> str:
    """Credit some cents."""
    ledger().add(tool="credit", run=ctx.run_id, call=ctx.tool_call_id)
    return f"credited {cents}: {ctx.decided_by}"


@tool(decision=APPROVAL, approvals=3, effects="once")
def transfer(cents: int, ctx: ToolContext) -> str:
    """Transfer some cents."""
    ledger().add(tool="transfer", run=ctx.run_id, call=ctx.tool_call_id)
    return f"transferred {cents}: {' '.join(sorted(vote.decided_by for vote in ctx.votes))}"


def authenticate(request: Request) -> str:
    """The bearer token is the name; without one it is "olga"."""
    return request.headers.get("Authorization", "Bearer olga").removeprefix("Bearer ")


def may(principal: str, action: str, run: Run, item: Json | None) -> bool:
    """Let everybody do everything but start runs, which is for "olga", and resume them as "eve"."""
    return principal == "olga" if action == "start" else (principal, action) != ("eve", "resume")


kit = AgentKit(
    [Agent("bank", model="openai:test-model", tools=[refund, credit, transfer])], authenticate=authenticate, may=may
)
