"""The application of bench/tokens.py: one agent that asks the local server of bench/token_server.py."""

from __future__ import annotations

from agentkit import Agent, AgentKit

kit = AgentKit([Agent("tokens", "openai:bench", "You are a benchmark.")])
