"""An application whose models, owners and workers have to share. For tests of docs/how-to/fair-shares.md."""

from __future__ import annotations

from agentkit import Agent, AgentKit, Rate, RetryPolicy

__all__ = ["kit"]

kit = AgentKit(
    [
        Agent("narrow", model="openai:narrow-model"),
        Agent("free", model="openai:free-model"),
        Agent("retrying", model="openai:free-model", retry=RetryPolicy(attempts=2, base=0.01, cap=0.01)),
        Agent("urgent", model="openai:free-model", priority=9, queue="urgent"),
    ],
    rates=[Rate("openai:narrow-*", concurrent=2)],
)
