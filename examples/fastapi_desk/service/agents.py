"""The service's agent: its tools, who may do what with its runs, and the kit that every process imports."""

from __future__ import annotations

import os
from typing import Any

from agentkit import Agent, AgentKit, Run, ScriptedModel, ToolContext, ToolError, tool
from agentkit.tasks import install
from service import script
from service.db import Customer, Session, User, give_credit
from service.tasks import celery_app, write_letter

__all__ = ["kit"]

APPROVAL = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "note": {"type": "string", "maxLength": 200}},
    "required": ["approved"],
    "additionalProperties": False,
}


@tool
def get_customer(customer_id: str) -> dict[str, Any]:
    """Look up one customer: name, complaint, and balance in cents."""
    with Session() as session:
        customer = session.get(Customer, customer_id)
        if customer is None:
            raise ToolError(f"there is no customer {customer_id}")
        return {"name": customer.name, "complaint": customer.complaint, "balance_cents": customer.balance_cents}


@tool(decision=APPROVAL)
def credit(customer_id: str, cents: int, ctx: ToolContext, decision: dict[str, Any]) -> str:
    """Credit a customer, in cents. A supervisor approves it first."""
    if not decision["approved"]:
        return f"not approved: {decision.get('note') or 'no reason was given'}"
    # The key is the same in each attempt of this call: executed again after a crash, it credits once and writes once.
    if not give_credit(ctx.idempotency_key, customer_id, cents, ctx.decided_by or ""):
        raise ToolError(f"{cents} cents cannot be credited to customer {customer_id}")
    write_letter.delay(ctx.idempotency_key)
    return f"credited {cents} cents to customer {customer_id}"


def authenticate(request: Any) -> str | None:
    """Return who is logged in: what Starlette's SessionMiddleware has found in the cookie."""
    user: str | None = request.environ["asgi.scope"]["session"].get("user")
    return user


def may(principal: str, action: str, run: Run, item: dict[str, Any] | None) -> bool:
    """Clerks start runs and see to their own; supervisors see all, and they alone answer."""
    with Session() as session:
        user = session.get(User, principal)
    if user is None:
        return False
    if user.role == "supervisor":
        return action != "start"
    return run.owner == principal and action in ("start", "read", "message", "abort")


support = Agent(
    "support",
    model="openai:gpt-5.4-mini" if os.environ.get("OPENAI_API_KEY") else ScriptedModel(script.support, chunk_size=8),
    instructions="You are the customer service. Look a customer up, then propose a credit of 1 to 20 dollars.",
    tools=[get_customer, credit],
)
kit = AgentKit([support], authenticate=authenticate, may=may)
install(celery_app, kit)
