"""What applications test their agents with: `kit.testing(…)`, without Redis, Celery and providers.

docs/how-to/test-an-agent.md shows it.
"""

from __future__ import annotations

from agentkit.testing.models import AgentRequest, StandIn
from agentkit.testing.session import Testing, ToolCall

__all__ = ["AgentRequest", "StandIn", "Testing", "ToolCall"]
