"""Counts what tool calls that end side by side cost: commits, and how many of them the store refused."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from agentkit import Agent, AgentKit, ScriptedModel, Settings, tool
from agentkit.store.redis import RedisStore
from tests.apps import FakeQueue
from tests.flaky_store import FlakyStore

__all__ = ["commits_and_conflicts"]


def commits_and_conflicts(url: str, calls: int) -> tuple[int, int]:
    """Execute a turn of so many calls, all at once; how often a commit was asked for, and how often refused."""
    together = threading.Barrier(calls)

    @tool
    def work(number: int) -> str:
        """Wait for all others."""
        together.wait(30)
        return f"{number} is done"

    turn = [{"type": "toolCall", "name": "work", "arguments": {"number": number}} for number in range(calls)]
    store, queue = FlakyStore(RedisStore(url)), FakeQueue()
    agent = Agent("bench", ScriptedModel([turn, "All is done."]), "You are a benchmark.", [work])
    kit = AgentKit([agent], settings=Settings(max_calls_per_turn=calls), store=store, queue=queue)
    kit.start("bench", "go")
    kit.execute(*queue.enqueued.pop())
    due, queue.enqueued[:] = list(queue.enqueued), []
    store.count.clear()
    with ThreadPoolExecutor(calls) as pool:
        list(pool.map(lambda step: kit.execute(*step), due))
    store.close()
    return store.count["commit"] + store.count["commit_call"], store.count["conflicts"]
