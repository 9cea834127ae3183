"""Measure what the inbox and its count cost beside few and beside many runs.

`python -m bench.inbox [--runs 30000]` starts a Valkey of its own and prints the median of each call in milliseconds,
and the ratio, twice: where every run waits for an answer, and where 30 do and all others have ended. It exits with 1
where a ratio is over 1.5. Not judged is the count where the application's `may` is asked for each run that waits: it
reads 1,000 at the most.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any

from agentkit import Agent, AgentKit, ScriptedModel, Settings
from agentkit.core.record import Status
from agentkit.store.redis import RedisStore
from agentkit.web import create_app
from tests import inbox
from tests.apps import FakeQueue
from tests.servers import ValkeyServer

FEW = 30
MOST = 1.5
TIMES = 200
HOOKS: dict[str, dict[str, Any]] = {
    "open": {},
    "owner": {"authenticate": lambda request: "ann"},
    "may": {"authenticate": lambda request: "boss", "may": lambda principal, action, run: True},
}
PATHS = (
    "/decisions?limit=20",
    "/decisions?limit=20&tool=t&kind=decision",
    "/decisions/count",
    "/decisions/count?agent=a",
)


def add(store: RedisStore, count: int, *, waiting: bool) -> None:
    """Add runs of ann that wait for a decision, or have ended."""
    for _ in range(count):
        inbox.add(store, "ann", count=int(waiting), status=Status.PAUSED if waiting else Status.COMPLETED)


class Installation:
    """A store of its own with some runs, and a web process for each kind of rights."""

    def __init__(self, url: str) -> None:
        self.store = RedisStore(url)
        self.clients = {}
        for name, hooks in HOOKS.items():
            agents = [Agent("a", ScriptedModel(["x"]))]
            kit = AgentKit(agents, settings=Settings(), store=self.store, queue=FakeQueue(), **hooks)
            self.clients[name] = create_app(kit).test_client()

    def seconds(self, name: str, path: str) -> float:
        """Make a call, and return how long it took."""
        began = time.perf_counter()
        assert self.clients[name].get(path).status_code == 200
        return time.perf_counter() - began


def measure(many: int, *, all_wait: bool) -> float:
    """Print the table of one case, and return its worst ratio.

    Both installations are asked in turns, so that what else the machine does weighs on both alike.
    """
    with ValkeyServer() as one, ValkeyServer() as two:
        few, large = Installation(one.url), Installation(two.url)
        for installation in (few, large):
            add(installation.store, FEW, waiting=True)
        add(large.store, many - FEW, waiting=all_wait)
        worst = 0.0
        print(f"{'all wait' if all_wait else f'{FEW} wait':<50} {FEW:>8} runs {many:>8} runs  ratio")
        for name in HOOKS:
            for path in PATHS:
                took = [(few.seconds(name, path), large.seconds(name, path)) for _ in range(TIMES)]
                before, after = (statistics.median(column) * 1000 for column in zip(*took, strict=True))
                is_bounded = name == "may" and "count" in path and all_wait
                worst = worst if is_bounded else max(worst, after / before)
                print(f"{name:<6} {path:<43} {before:>10.2f} ms {after:>10.2f} ms {after / before:>6.2f}")
        few.store.close()
        large.store.close()
        return worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30_000)
    many = parser.parse_args().runs
    worst = max(measure(many, all_wait=True), measure(many, all_wait=False))
    print(f"the worst ratio is {worst:.2f}, and may be {MOST}")
    return int(worst > MOST)


if __name__ == "__main__":
    sys.exit(main())
