"""Tools of each kind that agentkit knows, for agents of tests. A tool that a test looks into is made in that test."""

from __future__ import annotations

from typing import Any

from agentkit import tool
from agentkit.core.messages import Json
from agentkit.tools import Tool

__all__ = ["APPROVAL", "YES", "locate", "look", "pay", "photo", "refund", "refund_with"]

APPROVAL: Json = {"type": "object", "properties": {"approved": {"type": "boolean"}}, "required": ["approved"]}
YES: Json = {"approved": True}


def refund_with(**options: Any) -> Tool:
    """Make a tool that waits for a decision, `APPROVAL` unless `options` (as `tool` takes them) name another."""

    @tool(**{"name": "refund", "decision": APPROVAL, **options})
    def refund(cents: int = 0, decision: Any = None) -> str:
        """Refund some cents."""
        return f"refunded {cents}" if decision["approved"] else "declined"

    return refund


refund = refund_with()


@tool
def look(what: str = "") -> str:
    """Look something up: a tool that needs nobody and may be executed twice."""
    return f"seen {what}"


@tool(effects="once")
def pay(cents: int = 0) -> str:
    """Pay some cents: a tool that must not be executed twice."""
    return f"paid {cents}"


@tool(runs="client")
def locate() -> str:
    """Where the client is."""
    return ""


@tool(runs="client", decision=APPROVAL)
def photo(decision: Any = None) -> str:
    """Take a photo at the client, if that is allowed."""
    return ""
