"""The desk's agents: their tools, who may do what with their runs, and the kit."""

from __future__ import annotations

import os
from typing import Any

from django.contrib.auth import get_user_model
from django.http import HttpRequest

from agentkit import Agent, AgentKit, Run, ScriptedModel, Settings, ToolContext, ToolError, tool
from agentkit.django import around_step
from tickets import script
from tickets.models import Reply, Ticket
from tickets.tasks import send_reply

__all__ = ["kit"]

APPROVAL = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "note": {"type": "string", "maxLength": 200}},
    "required": ["approved"],
    "additionalProperties": False,
}


@tool
def get_ticket(number: int) -> dict[str, Any]:
    """Look up one ticket: customer, subject, text, and whether it is open."""
    ticket = Ticket.objects.filter(pk=number).values("customer", "subject", "text", "is_open").first()
    if ticket is None:
        raise ToolError(f"there is no ticket {number}")
    return ticket


@tool(decision=APPROVAL)
def reply(number: int, text: str, ctx: ToolContext, decision: dict[str, Any]) -> str:
    """Send the customer a reply and close the ticket. Somebody of the staff approves it first."""
    if not decision["approved"]:
        return f"not approved: {decision.get('note') or 'no reason was given'}"
    if not Ticket.objects.filter(pk=number).exists():
        raise ToolError(f"there is no ticket {number}")
    # The key is the same in each attempt of this call: executed again after a crash, it replies once and mails once.
    Reply.write(ctx.idempotency_key, number, text, ctx.decided_by or "")
    send_reply.delay(ctx.idempotency_key)
    return f"replied to ticket {number} and closed it"


@tool
def count_tickets() -> str:
    """Count the open tickets."""
    return f"{Ticket.objects.filter(is_open=True).count()} tickets are open"


def authenticate(request: HttpRequest) -> str | None:
    """Return who is logged in, by Django's session."""
    return request.user.get_username() if request.user.is_authenticated else None


def may(principal: str, action: str, run: Run, item: dict[str, Any] | None) -> bool:
    """Everybody starts runs and sees to their own; the staff sees all, and it alone answers."""
    if get_user_model().objects.filter(username=principal, is_active=True, is_staff=True).exists():
        return True
    return run.owner == principal and action in ("start", "read", "message", "abort")


def _model(turns: Any) -> Any:
    return "openai:gpt-5.4-mini" if os.environ.get("OPENAI_API_KEY") else ScriptedModel(turns, chunk_size=8)


kit = AgentKit(
    [
        Agent(
            "desk",
            model=_model(script.desk),
            instructions="You answer a shop's tickets. Look a ticket up, then reply to it, briefly and politely.",
            tools=[get_ticket, reply],
        ),
        Agent("digest", model=_model(script.digest), tools=[count_tickets]),
    ],
    authenticate=authenticate,
    may=may,
    around_step=around_step,  # closes what Django opened: a worker's threads have no request that would end
    settings=Settings.from_env({"AGENTKIT_LOGIN_URL": "/login/", **os.environ}),  # where the chat page sends strangers
)
