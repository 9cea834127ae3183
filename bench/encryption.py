"""What encryption at rest costs: W (bench/work.py) with and without a codec, executed by one process without Celery.

    python -m bench.encryption [--runs 200] [--rounds 5]

CPU is that of the process and of its Valkey server. With Celery a run costs some 45 ms more or less the same
(`make bench`), so the difference is the figure that counts. A second table: one model step of a long conversation.
"""

from __future__ import annotations

import argparse
import os
import statistics

from agentkit import Agent, AgentKit, FernetCodec, ScriptedModel
from agentkit.queue.protocol import InlineQueue
from agentkit.settings import Settings
from agentkit.store.redis import RedisStore
from bench.steps import cpu_seconds
from bench.work import HOPS
from bench.work import kit as work
from tests.keys import new_key
from tests.servers import ValkeyServer


def new_kit(url: str, agent: Agent, codec: FernetCodec | None) -> tuple[AgentKit, InlineQueue]:
    queue = InlineQueue()
    return AgentKit([agent], settings=Settings(), store=RedisStore(url), queue=queue, codec=codec), queue


def work_off(kit: AgentKit, queue: InlineQueue) -> None:
    while queue.waiting:
        kit.execute(*queue.waiting.popleft())


def run_w(server: ValkeyServer, codec: FernetCodec | None, runs: int) -> float:
    """CPU ms of one W."""
    [bound] = work.agents
    kit, queue = new_kit(server.url, bound.agent, codec)
    pids = [os.getpid(), server.pid]
    for number in range(runs + 5):
        if number == 5:
            began = cpu_seconds(pids)
        run_id = kit.start("bench", "go").id
        work_off(kit, queue)
        kit.resume(run_id, {"approved": True})
        work_off(kit, queue)
    return (cpu_seconds(pids) - began) / runs * 1000


def run_long(server: ValkeyServer, codec: FernetCodec | None, steps: int, messages: int) -> float:
    """CPU ms of one model step that reads a conversation of so many messages of 500 characters."""
    kit, queue = new_kit(server.url, Agent("long", ScriptedModel(["ok"])), codec)
    history = [{"role": "user", "content": f"{n} {'x' * 500}", "timestamp": 1} for n in range(messages)]
    pids = [os.getpid(), server.pid]
    spent = 0.0
    for _ in range(steps):
        kit.start("long", messages=history)
        began = cpu_seconds(pids)
        work_off(kit, queue)
        spent += cpu_seconds(pids) - began
    return spent / steps * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="runs per measurement (default 200)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each kind; medians are shown")
    options = parser.parse_args()
    codec = FernetCodec([new_key()])
    with ValkeyServer() as server:
        for name, measure in (
            (f"W, {HOPS} steps", lambda c: run_w(server, c, options.runs)),
            ("a model step, 10 messages", lambda c: run_long(server, c, options.runs, 10)),
            ("a model step, 200 messages", lambda c: run_long(server, c, options.runs, 200)),
        ):
            plain, encrypted = [], []
            for _ in range(options.rounds):
                plain.append(measure(None))
                encrypted.append(measure(codec))
            a, b = statistics.median(plain), statistics.median(encrypted)
            print(f"{name:30}{a:8.2f} ms plain{b:8.2f} ms encrypted{b - a:8.2f} ms more")


if __name__ == "__main__":
    main()
