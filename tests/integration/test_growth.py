"""What a step costs does not grow with the run: `bench/growth.py` measures the same with its time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import Any

import pytest
import redis

from agentkit import Agent, AgentKit, ScriptedModel, Settings, tool
from agentkit.core.messages import TextBlock, ToolResultMessage
from agentkit.core.struct import encode
from agentkit.runtime.steps import Following
from agentkit.store.memory import MemoryStore
from agentkit.store.redis import RedisStore
from agentkit.testing.store_changes import claimed, new_run
from bench.growth import Stepwise
from tests.apps import FakeQueue
from tests.counting import memory_of, python_calls_of
from tests.flaky_store import FlakyStore
from tests.turns import call

TURNS = 200
HASH_COMMANDS = ("hget", "hmget", "hset", "hincrby")
EARLY, LATE = range(20, 40), range(2 * TURNS - 20, 2 * TURNS)
"""Steps: each turn has two."""


@tool
def look_up(order_id: str) -> str:
    """Look an order up."""
    return f"order {order_id}: paid"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def traffic(client: redis.Redis) -> int:
    stats: Any = client.info("stats")
    return int(stats["total_net_input_bytes"]) + int(stats["total_net_output_bytes"])


def test_a_step_late_in_a_long_run_costs_the_store_what_an_early_one_does(redis_url: str, client: redis.Redis) -> None:
    turns = [[call("look_up", order_id=f"A{turn:04}")] for turn in range(TURNS)]
    agent = Agent("a", ScriptedModel([*turns, "Done."]), "", [look_up], max_turns=TURNS + 1)
    store, queue = FlakyStore(RedisStore(redis_url)), FakeQueue()
    kit = AgentKit([agent], settings=Settings(), store=store, queue=queue)
    handle = kit.start("a", "go")
    calls, sizes = [], []
    while queue.enqueued:
        before, counted = traffic(client), store.count.total()
        kit.execute(*queue.enqueued.pop(0))
        sizes.append(traffic(client) - before)
        calls.append(store.count.total() - counted)
    assert handle.run.status == "completed"
    # Medians: a step that this machine holds up for long writes what it has in more than one call.
    for costs in (calls, sizes):
        for kind in (0, 1):
            early, late = (median(costs[step] for step in steps[kind::2]) for steps in (EARLY, LATE))
            assert late < 1.1 * early
    store.close()


@pytest.mark.parametrize("steps_per_message", [1, 8])
@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_a_step_late_in_a_long_run_takes_its_worker_what_an_early_one_does(
    redis_url: str, kind: str, steps_per_message: int
) -> None:
    """What Python calls, and what memory it takes at once: a copy of the conversation would show there."""
    store = RedisStore(redis_url) if kind == "redis" else MemoryStore()
    turns, queue = 500, FakeQueue()
    agent = Agent("a", Stepwise(turns), "", [look_up], max_turns=turns + 1)
    kit = AgentKit([agent], settings=Settings(), store=store, queue=queue)
    handle = kit.start("a", "go")
    calls, memory = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
    following = Following()
    for number in range(2 * turns):
        goes_on = (number + 1) % steps_per_message > 0
        following = Following(lambda goes_on=goes_on: goes_on, following.claim)
        claim = following.claim
        due = (claim.lease.run_id, claim.lease.step) if claim else queue.enqueued.pop(0)
        step = partial(kit.execute, *due, queue="agentkit", following=following)
        when = {1: "early", 2 * turns // 40 - 1: "late"}.get(number // 40)
        if when is None:
            step()
        elif number // 2 % 2:
            calls[f"{when} {number % 2}"].append(python_calls_of(step))
        else:
            memory[f"{when} {number % 2}"].append(memory_of(step))
    kit.execute(*queue.enqueued.pop(0))
    assert handle.run.status == "completed"
    for kind_of_step in ("0", "1"):  # medians: other threads of the process take memory, too
        assert median(calls[f"late {kind_of_step}"]) < 1.05 * median(calls[f"early {kind_of_step}"])
        assert median(memory[f"late {kind_of_step}"]) < 1.1 * median(memory[f"early {kind_of_step}"])
    store.close()


def test_a_conversation_that_the_store_has_lost_is_read_anew(redis_url: str, client: redis.Redis) -> None:
    """A server may lose its last writes: what a process remembers of them never happened."""
    store, other = RedisStore(redis_url), RedisStore(redis_url)
    run_id = new_run(store)
    first = claimed(store, run_id)
    assert first.state.messages
    store.release(first.lease)
    [key] = client.keys("*:m")
    for text in ("another", "a third"):
        result = ToolResultMessage("c", "t", [TextBlock(text)], is_error=False, timestamp=1)
        client.lset(key, -1, encode(result))
        mine = claimed(store, run_id)
        assert mine.state.messages[-1] == result
        store.release(mine.lease)
        theirs = claimed(other, run_id)
        assert theirs.state.messages == mine.state.messages
        other.release(theirs.lease)
    store.close()
    other.close()


def test_a_step_reads_its_runs_hash_in_one_call_and_writes_it_in_one(redis_url: str, client: redis.Redis) -> None:
    agent = Agent("a", ScriptedModel([*([[call("look_up", order_id="A")]] * 20), "Done."]), "", [look_up])
    queue = FakeQueue()
    kit = AgentKit([agent], settings=Settings(), store=RedisStore(redis_url), queue=queue)
    handle = kit.start("a", "go")
    kit.execute(*queue.enqueued.pop(0))
    steps = 0
    client.config_resetstat()
    while handle.run.status == "running" and len(queue.enqueued):
        kit.execute(*queue.enqueued.pop(0))
        steps += 1
    stats: Any = client.info("commandstats")
    per_step = {name: stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] / steps for name in HASH_COMMANDS}
    # A step is a claim and a commit, a model's answer may be an append; the test asks for the run before each.
    assert max(per_step["hmget"], per_step["hset"]) <= 3
    assert per_step["hget"] <= 1
    assert per_step["hincrby"] == 0
