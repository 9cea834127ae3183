"""Real models, asked for by name: `pytest -m live tests/live` with one of these set; nothing runs by default.

    AGENTKIT_LIVE_MODELS=ollama:qwen3:4b,openai:gpt-5.4-mini,anthropic:claude-haiku-4-5,google:gemini-3.8-flash

Beside it what the vendors need: OLLAMA_HOST, OPENAI_API_KEY or OPENAI_BASE_URL, ANTHROPIC_API_KEY, GEMINI_API_KEY.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from agentkit import Agent, AgentKit, RetryPolicy, tool
from agentkit.core.messages import text_of
from tests.event_rules import check_log
from tests.tools import APPROVAL

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

MODELS = [name for name in os.environ.get("AGENTKIT_LIVE_MODELS", "").split(",") if name]
if not MODELS:
    MODELS = [pytest.param("", marks=pytest.mark.skip(reason="AGENTKIT_LIVE_MODELS names no model"))]  # type: ignore[list-item]


@tool
def stock(item: str) -> dict[str, Any]:
    """How many pieces of an item are in stock."""
    return {"item": item, "pieces": 4711}


@tool(decision=APPROVAL)
def order(item: str, pieces: int, decision: dict[str, Any]) -> str:
    """Order pieces of an item from the supplier."""
    return f"ordered {pieces} of {item}, order number 90210" if decision["approved"] else "not approved"


def kit_for(model: str) -> AgentKit:
    words = (
        "You run a shop. Use the tools for every fact and every order. Answer in one short sentence with the numbers."
    )
    return AgentKit([Agent("shop", model, words, [stock, order], retry=RetryPolicy())])


@pytest.mark.parametrize("model", MODELS)
def test_a_tool_round_trip(model: str) -> None:
    kit = kit_for(model)
    run = kit.run("shop", "How many pieces of the item 'blue kettle' are in stock?")
    assert run.status == "completed", run.error
    assert run.messages is not None
    assert "4711" in text_of(run.messages[-1]).replace(",", "").replace(".", "")
    assert run.usage["totalTokens"] > 0
    check_log(list(kit.handle(run.id).events()), run.messages, run.status)


@pytest.mark.parametrize("model", MODELS)
def test_a_pause_and_a_resume(model: str) -> None:
    kit = kit_for(model)
    run = kit.run(
        "shop", "Order 3 pieces of the item 'blue kettle' from the supplier now, and tell me the order number."
    )
    assert run.status == "paused", run.error
    assert run.pending[0]["toolName"] == "order"
    run = kit.resume(run.id, {"approved": True}).run
    assert run.status == "completed", run.error
    assert run.messages is not None
    assert "90210" in text_of(run.messages[-1])
    check_log(list(kit.handle(run.id).events()), run.messages, run.status)
