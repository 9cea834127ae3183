"""An application whose errors go to Sentry. Its transport writes each event into the file TRACKED_EVENTS names."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.transport import Transport

from agentkit import Agent, AgentKit, ProviderError, RetryPolicy, ScriptedModel, StepInfo, tool
from tests.turns import call

__all__ = ["kit"]


class FileTransport(Transport):
    """Keeps what would be sent."""

    def capture_envelope(self, envelope: Envelope) -> None:
        """Write the events of an envelope down."""
        with Path(os.environ["TRACKED_EVENTS"]).open("a") as file:
            for item in envelope.items:
                if (event := item.get_event()) is not None:
                    file.write(json.dumps(event, default=str) + "\n")


if "TRACKED_EVENTS" in os.environ:
    # Beside the default ones, logging among them; to find what else is installed would import half of it.
    sentry_sdk.init(
        dsn="https://key@127.0.0.1/1",
        transport=FileTransport,
        integrations=[CeleryIntegration()],
        auto_enabling_integrations=False,
    )


@tool
def explode(order: str) -> str:
    """Explode."""
    raise ValueError("no such order")


_left = {"busy": 1}


def _busy_once(messages: list[dict[str, Any]]) -> str:
    if _left["busy"]:
        _left["busy"] -= 1
        raise ProviderError("busy", retryable=True, status=529)
    return "at last"


def _refuse(messages: list[dict[str, Any]]) -> str:
    raise ProviderError("the vendor refuses", status=400)


@contextmanager
def _crash_first(step: StepInfo) -> Iterator[None]:
    if step.agent == "crashing" and step.attempt == 1:
        raise KeyError("a bug")
    yield


kit = AgentKit(
    [
        Agent("exploding", ScriptedModel([[call("explode", order="A-1")], "sorry"], name="a"), tools=[explode]),
        Agent("refused", ScriptedModel(_refuse, name="b")),
        Agent("busy", ScriptedModel(_busy_once, name="c"), retry=RetryPolicy(attempts=3, base=0.01)),
        Agent("crashing", ScriptedModel(["fine"], name="d")),
    ],
    around_step=_crash_first,
)
