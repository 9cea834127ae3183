"""An application in which several people must decide alike, each named by a cookie. For tests of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Request

from agentkit import Agent, AgentKit, ScriptedModel, tool
from tests.tools import APPROVAL
from tests.turns import call

__all__ = ["kit"]


@tool(decision=APPROVAL, approvals=2)
def spend(cents: int, decision: Mapping[str, Any]) -> str:
    """Spend the company's money."""
    return f"spent {cents}" if decision["approved"] else "not spent"


@tool(decision=APPROVAL, remember=True)
def send(to: str, decision: Mapping[str, Any]) -> str:
    """Send a letter."""
    return f"sent to {to}" if decision["approved"] else "not sent"


def by_cookie(request: Request) -> str | None:
    return request.cookies.get("user")


kit = AgentKit(
    [
        Agent("treasurer", ScriptedModel([[call("spend", cents=900)], "That was it."]), tools=[spend]),
        Agent(
            "secretary",
            ScriptedModel([[call("send", to="Ada")], [call("send", to="Bob")], "Both are sent."]),
            tools=[send],
        ),
    ],
    authenticate=by_cookie,
    may=lambda principal, action, run: True,
)
