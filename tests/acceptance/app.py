"""The application of the acceptance tests. Its tools write into the ledger what they execute."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any

from agentkit import Agent, AgentKit, RetryPolicy, Run, ToolContext, register_model, tool
from agentkit.core.messages import Message
from tests.acceptance import forms
from tests.acceptance.ledger import Ledger
from tests.tools import APPROVAL
from tests.waiting import wait_until

__all__ = ["kit"]


def _record(name: str, ctx: ToolContext) -> bool:
    """Write an execution down; whether it is the first of its call, by the key that all its attempts share."""
    ledger = Ledger(os.environ["ACCEPTANCE_LEDGER"])
    first = not ledger.entries(key=ctx.idempotency_key)
    ledger.add(tool=name, run=ctx.run_id, key=ctx.idempotency_key, attempt=ctx.attempt)
    return first


@tool(decision=APPROVAL)
def refund(order_id: str, cents: int, ctx: ToolContext, decision: dict[str, Any]) -> str:
    """Refund an order."""
    _record("refund", ctx)
    return f"refunded {cents} for {order_id}" if decision["approved"] else "not approved"


@tool
def look_up(order_id: str, ctx: ToolContext) -> str:
    """Look an order up."""
    _record("look_up", ctx)
    return f"{order_id} was delivered"


@tool
async def survey(ctx: ToolContext) -> str:
    """Ask around. The first execution of a call never comes to an end."""
    if _record("survey", ctx):
        await asyncio.sleep(3600)
    return "all are happy"


@tool(effects="once")
async def charge(cents: int, ctx: ToolContext) -> str:
    """Charge a card. The first execution of a call never comes to an end."""
    if _record("charge", ctx):
        await asyncio.sleep(3600)
    return f"charged {cents}"


@tool(decision=APPROVAL, decision_timeout=2)
def ask(ctx: ToolContext, decision: dict[str, Any]) -> str:
    """Ask, and take silence for a refusal."""
    _record("ask", ctx)
    return "asked"


@tool(decision=APPROVAL, decision_timeout=2, on_expire={"approved": False})
def presume(ctx: ToolContext, decision: dict[str, Any]) -> str:
    """Ask, and take silence for a no."""
    _record("presume", ctx)
    return f"presumed {decision['approved']}"


@tool(decision=APPROVAL, decision_timeout=2, on_expire="abort")
def insist(ctx: ToolContext, decision: dict[str, Any]) -> str:
    """Ask, and end the run where nobody answers."""
    _record("insist", ctx)
    return "insisted"


@tool(runs="client", decision=APPROVAL)
def photo() -> str:
    """Take a photo at the client, if that is allowed."""
    return ""


FILING = {
    "type": "object",
    "properties": {
        "shelf": {"type": "string", "pattern": r"^[A-Z]\-\d$"},  # no pattern of a browser's, which refuses the `\-`
        "marks": {"type": "array", "items": {"type": "string"}},
        "note": {},
    },
    "required": ["shelf", "note"],
}


STAMP = {
    "type": "object",
    "properties": {"code": {"type": "string", "pattern": "^(?:a+)+$"}},  # takes a browser years where it does not match
    "required": ["code"],
}


@tool(decision=STAMP)
def stamp(ctx: ToolContext, decision: dict[str, Any]) -> str:
    """Stamp what a person says."""
    _record("stamp", ctx)
    return f"stamped {decision['code']}"


@tool(decision=FILING)
def file(ctx: ToolContext, decision: dict[str, Any]) -> str:
    """File what was said where a person says."""
    _record("file", ctx)
    return f"{decision['shelf']}: {decision['marks']}, {decision['note']}"


@tool
def wait(ctx: ToolContext) -> str:
    """Wait until the run is aborted."""
    _record("wait", ctx)
    while not ctx.aborted:
        threading.Event().wait(0.02)
    _record("wait noticed", ctx)
    return "over"


@tool
def meet(ctx: ToolContext) -> str:
    """Wait for another call of this turn to be executed at the same time."""
    _record("meet", ctx)
    ledger = Ledger(os.environ["ACCEPTANCE_LEDGER"])
    wait_until(lambda: len(ledger.entries(run=ctx.run_id, tool="meet")) >= 2, what="the other call")
    return "met"


@tool(effects="once")
def pay(cents: int, ctx: ToolContext) -> str:
    """Pay, which must not happen twice."""
    _record("pay", ctx)
    return f"paid {cents}"


@tool(effects="once")
def hold(ctx: ToolContext) -> str:
    """Hold until the ledger says to let go, which must not happen twice."""
    _record("hold", ctx)
    ledger = Ledger(os.environ["ACCEPTANCE_LEDGER"])
    wait_until(lambda: ledger.entries(let_go=ctx.run_id), timeout=30, what="the word to let go")
    return "held"


@tool(decision=APPROVAL, decision_timeout=600)
def approve(ctx: ToolContext, decision: dict[str, Any]) -> str:
    """Ask, with a time limit that nobody reaches."""
    _record("approve", ctx)
    return f"approved: {decision['approved']}"


@tool
def fatal(ctx: ToolContext) -> str:
    """Kill the worker that executes it, each time."""
    _record("fatal", ctx)
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def _fatal_context(messages: list[Message], run: Run) -> list[Message]:
    Ledger(os.environ["ACCEPTANCE_LEDGER"]).add(context=run.id)
    os.kill(os.getpid(), signal.SIGKILL)
    return messages


register_model("openai:seeing-model", images=True, documents=True)
support = Agent("support", model="openai:test-model", instructions="Be brief.", tools=[refund, look_up])
kit = AgentKit(
    [
        Agent("boss", model="openai:test-model", tools=[support.as_tool()]),
        Agent("desk", model="openai:test-model", tools=[ask, presume, insist, photo, file, stamp, wait, meet, look_up]),
        # Their models are theirs alone: a 429 pauses a model for all.
        Agent("retrying", model="openai:busy-model", retry=RetryPolicy(attempts=3, base=0.1, cap=0.2, deadline=60)),
        Agent("patient", model="openai:full-model", retry=RetryPolicy(attempts=3, base=0.1, cap=0.2, deadline=60)),
        Agent("unhurried", model="openai:booked-model", retry=RetryPolicy(attempts=3, base=0.1, cap=0.2, deadline=60)),
        support,
        Agent("office", model="openai:test-model", tools=[survey, charge]),
        Agent("till", model="openai:test-model", tools=[look_up, pay, approve, fatal, hold]),
        Agent("seer", model="openai:seeing-model"),
        Agent("clerk", model="openai:test-model", tools=forms.TOOLS),
        Agent("haunted", model="openai:test-model", transform_context=_fatal_context),
    ]
)
