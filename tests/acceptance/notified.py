"""An application that notifies people. Its handlers write into the ledger what they were called with."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from agentkit import Agent, AgentKit, ScriptedModel
from tests.acceptance.ledger import Ledger
from tests.tools import refund_with
from tests.turns import call

__all__ = ["kit"]

ledger = Ledger(os.environ["ACCEPTANCE_LEDGER"])


def _asking(name: str, **options: Any) -> Agent:
    model = ScriptedModel([[call("refund", cents=5)], "done"], name=name)
    return Agent(name, model, tools=[refund_with(**options)])


kit = AgentKit([_asking("desk", decision_timeout=600), _asking("hurried", decision_timeout=4)], remind_before=2.5)


@kit.on("decision.pending", "decision.expiring", "run.paused", "run.completed", "run.failed", "run.aborted")
def tell(event: Any) -> None:
    """Write every event down."""
    ledger.add(handler="tell", id=event["id"], type=event["type"], run=event["data"]["runId"], event=event)


@kit.on("run.completed")
async def notify_later(event: Any) -> None:
    """Raise the first time, and write the event down."""
    await asyncio.sleep(0.01)
    first = not ledger.entries(handler="notify_later", id=event["id"])
    ledger.add(handler="notify_later", id=event["id"], run=event["data"]["runId"])
    if first:
        raise ConnectionError("the mail server is away")


@kit.on("run.completed")
def fatal(event: Any) -> None:
    """Kill the worker the first time, where the run's title says so."""
    if event["data"].get("title") != "fatal":
        return
    first = not ledger.entries(handler="fatal", id=event["id"])
    ledger.add(handler="fatal", id=event["id"], run=event["data"]["runId"])
    if first:
        os.kill(os.getpid(), signal.SIGKILL)
