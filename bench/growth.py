"""Measure what a step costs late in a long run beside what the tenth did: in the store, the worker and the web process.

    make bench-growth     or     python -m bench.growth [--turns 3000] [--calls 500] [--rounds 3]

A run of so many turns with a tool call each, and a turn of so many calls, are executed here, on a Valkey server of its
own. At several places another run begins, and its steps from the tenth on are executed in turn with those of the long
one, so that a slow moment of the machine, and what a process has in its caches, meets both. Shown are medians of what
the late ones cost, and of the rounds' ratios, of which each has a goal: of a step, of opening a stream at the end of
the log, and of the page of a replay, as a web process does. A model step hands the whole conversation to its provider,
whose own work on it is not measured: the model here looks at nothing but its length. `bench/listing.py` has lists of
runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import redis

from agentkit import Agent, AgentKit, ScriptedModel, Settings, tool
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import Usage
from agentkit.providers.protocol import Finish, ModelRequest, Part, TextDelta, ToolCallDelta
from agentkit.store.redis import RedisStore
from tests.apps import FakeQueue
from tests.servers import ValkeyServer

GOAL = 1.2
TENTH = 10
PAIRS = 50
"""Of how many steps from a place on the medians are taken."""
PAGE = 50
"""Events of a replay's page."""


@tool
def look_up(order_id: str) -> str:
    """Look an order up."""
    return f"order {order_id}: paid"


class Stepwise:
    """A model that calls `look_up` once in each of its first `turns` turns."""

    name = api = "stepwise"
    model = "m"

    def __init__(self, turns: int) -> None:
        self._turns = turns

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        turn = len(request.messages) // 2
        if turn < self._turns:
            yield ToolCallDelta(0, f"call_{turn}", "look_up", f'{{"order_id": "A-{turn}"}}')
            yield Finish("toolUse", Usage.of(input=10, output=10))
        else:
            yield TextDelta("All is done.")
            yield Finish("stop", Usage.of(input=10, output=10))


@dataclass
class Cost:
    """Calls of the store, bytes to and from it, the µs that its server worked, and CPU ms of this process."""

    calls: float
    bytes: float
    server_us: float
    cpu_ms: float


class Meter:
    """Measures one act at a time."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def measure(self, act: Callable[[], object]) -> Cost:
        self._client.config_resetstat()
        began = time.process_time()
        act()
        cpu = time.process_time() - began
        stats: Any = self._client.info("stats")
        commands: Any = self._client.info("commandstats")
        # What a script calls is in its own time, and its own calls are no round trips: they are not counted twice.
        outer = [each for name, each in commands.items() if name in ("cmdstat_evalsha", "cmdstat_exec")]
        traffic = stats["total_net_input_bytes"] + stats["total_net_output_bytes"]
        calls, used = (sum(each[name] for each in outer) for name in ("calls", "usec"))
        return Cost(calls, traffic, used, cpu * 1000)


class Execution:
    """A run whose steps are executed here, one by one."""

    def __init__(self, kit: AgentKit, queue: FakeQueue, agent: str) -> None:
        self._kit = kit
        self._queue = queue
        self.handle = kit.start(agent, "go")
        self._due: list[tuple[str, int]] = []
        self._take_due()

    def step(self) -> None:
        self._kit.execute(*self._due.pop(0))
        self._take_due()

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()

    def finish(self) -> None:
        while self._due:
            self.step()
        assert self.handle.run.status == "completed", self.handle.run.error

    def stream(self, before_end: int) -> Callable[[], None]:
        """Make what opens a stream so many events before the end of the log, and reads them, as a web process does."""
        after = self._kit.store.load(self.handle.id).last_seq - before_end
        return lambda: self.handle.open(after).close()

    def _take_due(self) -> None:
        self._due += self._queue.enqueued
        self._queue.enqueued.clear()


Pairs = list[tuple[Cost, Cost]]
"""What something cost late, and from the tenth on."""


def long_run(start: Callable[[str], Execution], meter: Meter, places: list[int]) -> dict[str, list[Pairs]]:
    """Execute a long run; what its model steps, its tool steps and its streams cost, from each of the turns on."""
    kinds = ("model step", "tool step", "stream", "replay")
    costs: dict[str, list[Pairs]] = {kind: [[] for _ in places] for kind in kinds}
    long, turn = start("long"), 0
    for number, place in enumerate(places):
        long.steps(2 * (place - turn))  # a model step and a tool step in turn
        turn = place + PAIRS
        fresh = start("long")
        fresh.steps(2 * TENTH)
        for each in range(PAIRS):
            for kind in kinds[:2]:
                costs[kind][number].append(pair(meter, long.step, fresh.step, each))
            for kind, events in (("stream", 0), ("replay", PAGE)):
                costs[kind][number].append(pair(meter, long.stream(events), fresh.stream(events), each))
    long.finish()
    return costs


def wide_turn(start: Callable[[str], Execution], meter: Meter, places: list[int]) -> list[Pairs]:
    """Execute a turn of many calls; what those from each place on cost."""
    wide, call, costs = start("wide"), 0, []
    wide.step()
    for place in places:
        wide.steps(place - call)
        call = place + PAIRS
        fresh = start("wide")
        fresh.steps(1 + TENTH)
        costs.append([pair(meter, wide.step, fresh.step, each) for each in range(PAIRS)])
    wide.finish()
    return costs


def pair(meter: Meter, late: Callable[[], None], early: Callable[[], None], number: int) -> tuple[Cost, Cost]:
    """Measure both, each first as often as the other."""
    if number % 2:
        return meter.measure(late), meter.measure(early)
    cost = meter.measure(early)
    return meter.measure(late), cost


def median(costs: Iterable[Cost]) -> Cost:
    known = list(costs)
    return Cost(*(statistics.median(getattr(cost, f.name) for cost in known) for f in fields(Cost)))


def ratio(pairs: Pairs) -> Cost:
    late, early = (median(costs) for costs in zip(*pairs, strict=True))
    return Cost(*(getattr(late, f.name) / (getattr(early, f.name) or 1) for f in fields(Cost)))


def show(title: str, places: list[int], rounds: list[list[Pairs]]) -> None:
    """`rounds`: of each round, what it cost from each of the places on."""
    for number, place in enumerate(places):
        cost = median(late for costs in rounds for late, _ in costs[number])
        ratios = median(ratio(costs[number]) for costs in rounds)
        figures = "".join(f"{getattr(cost, f.name):>12,.2f}{getattr(ratios, f.name):>7.2f}" for f in fields(Cost))
        verdict = "met" if max(getattr(ratios, f.name) for f in fields(Cost)) <= GOAL else "NOT MET"
        print(f"{f'{title} {place:,}':<24}{figures}  {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3000, help="of the long run (default 3000)")
    parser.add_argument("--calls", type=int, default=500, help="of the wide turn (default 500)")
    parser.add_argument("--rounds", type=int, default=3, help="long runs, and wide turns (default 3)")
    options = parser.parse_args()
    turns, calls = options.turns, options.calls
    turn = [{"type": "toolCall", "name": "look_up", "arguments": {"order_id": f"A-{n}"}} for n in range(calls)]
    agents = [
        Agent("long", Stepwise(turns), "", [look_up], max_turns=turns + 1),
        Agent("wide", ScriptedModel([turn, "All is done."], name="wide"), "", [look_up]),
    ]
    with ValkeyServer() as server:
        store, queue = RedisStore(server.url), FakeQueue()
        kit = AgentKit(agents, settings=Settings(max_calls_per_turn=calls), store=store, queue=queue)
        meter, start = Meter(redis.Redis.from_url(server.url)), partial(Execution, kit, queue)
        print(f"{'':<24}" + "".join(f"{name:>12}  ratio" for name in ("calls", "bytes", "server µs", "CPU ms")))
        places = [turns // 3, turns - PAIRS]
        long = [long_run(start, meter, places) for _ in range(options.rounds)]
        for kind in long[0]:
            show(f"{kind}, turn", places, [costs[kind] for costs in long])
        places = [calls // 2, calls - PAIRS - 1]
        show("tool step, call", places, [wide_turn(start, meter, places) for _ in range(options.rounds)])
        kit.close()


if __name__ == "__main__":
    main()
