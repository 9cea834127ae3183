"""The work W that agentkit's benchmarks do, as an application, and the bare Celery chain beside it.

W: six tool calls, the last of which needs a decision, and seven model turns of the scripted model, the last
answering in 20 deltas. That is 13 steps, each a Celery task; the chain is 13 no-op tasks, each of which
enqueues the next, with the same pool and broker: once with Celery's own settings, once with agentkit's, which leave
out what no message of agentkit needs (`BENCH_CELERY=tuned`).
"""

from __future__ import annotations

import os
from typing import Any

import redis
from celery import Celery

from agentkit import Agent, AgentKit, ScriptedModel, tool
from agentkit.queue.application import celery_app
from agentkit.settings import Settings

HOPS = 13
APPROVAL = {"type": "object", "properties": {"approved": {"type": "boolean"}}, "required": ["approved"]}


@tool
def look_up(order_id: str) -> str:
    """Look an order up."""
    return f"order {order_id}: paid"


@tool(decision=APPROVAL)
def refund(order_id: str, cents: int, decision: dict[str, Any]) -> str:
    """Refund an order."""
    return f"refunded {cents} of {order_id}: {decision['approved']}"


def _call(name: str, **arguments: Any) -> list[dict[str, Any]]:
    return [{"type": "toolCall", "name": name, "arguments": arguments}]


_ANSWER = "0123456789" * 20
_MODEL = ScriptedModel(
    [*(_call("look_up", order_id=f"A-{n}") for n in range(5)), _call("refund", order_id="A-1", cents=900), _ANSWER],
    chunk_size=10,
)
kit = AgentKit([Agent("bench", _MODEL, "You are a benchmark.", [look_up, refund])])

_URL = os.environ.get("AGENTKIT_REDIS_URL", "redis://127.0.0.1:6379/0")
app = (
    celery_app(Settings(redis_url=_URL)) if os.environ.get("BENCH_CELERY") == "tuned" else Celery("bench", broker=_URL)
)
app.conf.task_default_queue = Settings().queue
_done = redis.Redis.from_url(_URL)


@app.task(name="bench.hop")
def hop(chain: str, left: int) -> None:
    """One no-op hop; the last one notifies the client."""
    if left > 1:
        app.send_task("bench.hop", args=(chain, left - 1), ignore_result=True, retry=False)
    else:
        _done.rpush(chain, b"1")
