"""The shop's agents: their tools, who may do what with their runs, and the kit of an application."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask, Request
from flask_login import current_user
from sqlalchemy import func, select

from agentkit import Agent, AgentKit, Run, ScriptedModel, StepInfo, ToolContext, ToolError, tool
from shop import script
from shop.models import Order, Refund, User, db, pay_back
from shop.tasks import send_receipt

__all__ = ["make_kit"]

APPROVAL = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "note": {"type": "string", "maxLength": 200}},
    "required": ["approved"],
    "additionalProperties": False,
}


@tool
def get_order(order_id: str) -> dict[str, Any]:
    """Look up one order: customer, item, price, and what was paid back (in cents)."""
    order = db.session.get(Order, order_id)
    if order is None:
        raise ToolError(f"there is no order {order_id}")
    return {
        "order_id": order.id,
        "customer": order.customer,
        "item": order.item,
        "cents": order.cents,
        "refundable_cents": order.cents - order.refunded_cents,
    }


@tool(decision=APPROVAL)
def refund(order_id: str, cents: int, ctx: ToolContext, decision: dict[str, Any]) -> str:
    """Pay money of an order back, in cents. A manager approves it first."""
    if not decision["approved"]:
        return f"not approved: {decision.get('note') or 'no reason was given'}"
    # The key is the same in each attempt of this call: executed again after a crash, it pays once and mails once.
    if not pay_back(ctx.idempotency_key, order_id, cents, ctx.decided_by or ""):
        raise ToolError(f"order {order_id} has not {cents} cents left to pay back")
    send_receipt.delay(ctx.idempotency_key)
    return f"paid back {cents} cents of order {order_id}"


@tool
def count_refunds() -> str:
    """Count the refunds, and add them up."""
    count, cents = db.session.execute(select(func.count(), func.coalesce(func.sum(Refund.cents), 0))).one()
    return f"{count} refunds of {cents} cents together"


def authenticate(request: Request) -> str | None:
    """Return who is logged in."""
    user_id: str | None = current_user.get_id()
    return user_id


def may(principal: str, action: str, run: Run, item: dict[str, Any] | None) -> bool:
    """Clerks start runs and see to their own; managers see all, and they alone answer refunds."""
    user = db.session.get(User, principal)
    if user is None:
        return False
    if user.role == "manager":
        return action != "start"
    is_own = user.role == "clerk" and run.owner == principal
    return is_own and action in ("start", "read", "message", "abort")


def make_kit(app: Flask) -> AgentKit:
    """Make the kit whose tools are executed in the application context of `app`."""

    @contextmanager
    def around_step(step: StepInfo) -> Iterator[None]:
        with app.app_context():  # at its end Flask-SQLAlchemy closes the session
            yield

    def model(turns: Any) -> Any:
        return "openai:gpt-5.4-mini" if os.environ.get("OPENAI_API_KEY") else ScriptedModel(turns, chunk_size=8)

    support = Agent(
        "support",
        model=model(script.support),
        instructions="You are the support desk of a shop. Look an order up before you say anything about it. Be brief.",
        tools=[get_order, refund],
    )
    reporter = Agent("reporter", model=model(script.reporter), tools=[count_refunds])
    return AgentKit([support, reporter], authenticate=authenticate, may=may, around_step=around_step)
