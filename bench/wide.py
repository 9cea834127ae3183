"""Measure what each call of a wide turn costs: of 50 to 400 tool calls, of sub-agents, of approvals.

    python -m bench.wide [--threads 8] [--memory]

Everything happens in one process, on a Valkey server of its own or on the store in memory. A row is one run with one
turn; shown is what a call of it takes, and what of it goes to and from the store. Linear is where a column stays. What
is answered is answered over HTTP, whose replies list all that still waits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import redis

from agentkit import Agent, AgentKit, ScriptedModel, Settings, tool
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import Store
from agentkit.store.redis import RedisStore
from agentkit.web import create_app
from tests.apps import FakeQueue
from tests.servers import ValkeyServer

APPROVAL = {"type": "object", "properties": {"approved": {"type": "boolean"}}, "required": ["approved"]}
SIZES = {"tool calls": (50, 100, 200, 400), "sub-agents": (25, 50, 100), "approvals": (50, 100, 200)}


@tool
def look_up(order_id: str) -> str:
    """Look an order up."""
    return f"order {order_id}: paid"


@tool(decision=APPROVAL)
def refund(order_id: str, decision: dict[str, Any]) -> str:
    """Refund an order."""
    return f"refunded {order_id}: {decision['approved']}"


def _turn(name: str, size: int, argument: str) -> list[dict[str, Any]]:
    return [{"type": "toolCall", "name": name, "arguments": {argument: f"A-{n}"}} for n in range(size)]


def agents(kind: str, size: int) -> list[Agent]:
    """Make the agent whose first turn has `size` calls of this kind, and the sub-agent that it may need."""
    helper = Agent("helper", ScriptedModel(["It is done."], name="helper"))
    made, argument = {
        "tool calls": (look_up, "order_id"),
        "approvals": (refund, "order_id"),
        "sub-agents": (helper.as_tool(), "input"),
    }[kind]
    model = ScriptedModel([_turn(made.name, size, argument), "All is done."], name="wide")
    return [Agent("wide", model, "You are a benchmark.", [made]), helper]


@dataclass
class Cost:
    """Of one call: milliseconds, and kB to and from the store."""

    ms: float
    kilobytes: float


class Bench:
    """One kit on one store, whose steps `threads` threads execute."""

    def __init__(self, kind: str, size: int, store: Store, threads: int) -> None:
        self.queue = FakeQueue()
        settings = Settings(max_calls_per_turn=size, max_child_runs=size)
        self.kit = AgentKit(agents(kind, size), settings=settings, store=store, queue=self.queue)
        self.pool = ThreadPoolExecutor(threads)
        self.web = create_app(self.kit).test_client()

    def work(self) -> None:
        """Execute steps until none is due."""
        executing: set[Future[None]] = set()
        while executing or self.queue.enqueued:
            while self.queue.enqueued:
                executing.add(self.pool.submit(self.kit.execute, *self.queue.enqueued.pop(0)))
            done, executing = wait(executing, return_when=FIRST_COMPLETED)
            for each in done:
                each.result()

    def run(self) -> None:
        run_id = self.kit.start("wide", "go").id
        self.work()
        for item in self.kit.get(run_id).pending:
            body = {"decisionId": item["decisionId"], "decision": {"approved": True}}
            assert self.web.post(f"/runs/{run_id}/resume", json=body).status_code == 202
            self.work()
        assert self.kit.get(run_id).status == "completed"


def measure(kind: str, size: int, store: Store, threads: int, traffic: Callable[[], int]) -> Cost:
    bench = Bench(kind, size, store, threads)
    before, began = traffic(), time.perf_counter()
    bench.run()
    took = time.perf_counter() - began
    bench.pool.shutdown()
    return Cost(took / size * 1000, (traffic() - before) / size / 1000)


def _traffic(client: redis.Redis) -> int:
    """Count the bytes to and from the server so far."""
    stats = client.info("stats")
    return int(stats["total_net_input_bytes"]) + int(stats["total_net_output_bytes"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=8, help="how many steps are executed at once (default 8)")
    parser.add_argument("--memory", action="store_true", help="on the store in memory")
    options = parser.parse_args()
    with ValkeyServer() as server:
        client = redis.Redis.from_url(server.url)
        print(f"{'one turn of':<18}{'ms per call':>14}{'kB per call':>14}{'ms, of the first row':>24}")
        for kind, sizes in SIZES.items():
            first: float | None = None
            for size in sizes:
                store: Store = MemoryStore() if options.memory else RedisStore(server.url)
                cost = measure(kind, size, store, options.threads, lambda: 0 if options.memory else _traffic(client))
                store.close()
                first = first or cost.ms
                print(f"{size:>5} {kind:<12}{cost.ms:>14.2f}{cost.kilobytes:>14.1f}{cost.ms / first:>24.2f}")


if __name__ == "__main__":
    main()
