"""Measure what a page of runs costs beside few and beside many of them, for their owner and for one that has none.

    python -m bench.listing [--runs 50000] [--rounds 3]

Two Valkey servers of its own have 20 runs and so many; each page is asked for from one and the other in turn, so that a
slow moment of the machine meets both. Shown are the medians in milliseconds, and the median of the rounds' ratios,
whose goal is 1.2. It exits with 1 where a ratio is 2 or more.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace

from msgspec import structs

from agentkit import Agent, AgentKit, ScriptedModel, Settings
from agentkit.core.ids import new_id
from agentkit.core.record import Status, status_list
from agentkit.store.redis import RedisStore
from agentkit.testing.store_changes import first_change
from agentkit.web import create_app
from tests.apps import FakeQueue
from tests.servers import ValkeyServer

PAGES = ("?status=paused&limit=1", "?limit=1", "?agent=other&limit=1")
FEW = 20
GOAL = 1.2
TIMES = 200


class Installation:
    """A store with so many completed runs of ann, and the web application that lists them."""

    def __init__(self, url: str, runs: int) -> None:
        self.store = RedisStore(url)
        kit = AgentKit(
            [Agent("a", ScriptedModel(["x"]))],
            settings=Settings(),
            store=self.store,
            queue=FakeQueue(),
            authenticate=lambda request: request.headers["X-Name"],
        )
        self._web = create_app(kit).test_client()
        for _ in range(runs):
            run_id = new_id()
            self.store.index(run_id, "ann", agent="a", status=status_list(Status.COMPLETED))
            change = first_change(run_id, owner="ann")
            self.store.create(replace(change, record=structs.replace(change.record, status=Status.COMPLETED)))

    def milliseconds(self, page: str, name: str) -> float:
        began = time.perf_counter()
        assert self._web.get(f"/runs{page}", headers={"X-Name": name}).status_code == 200
        return (time.perf_counter() - began) * 1000


def medians(few: Installation, many: Installation, page: str, name: str) -> tuple[float, float]:
    took = [(few.milliseconds(page, name), many.milliseconds(page, name)) for _ in range(TIMES)]
    return statistics.median(a for a, _ in took), statistics.median(b for _, b in took)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with ValkeyServer() as server, ValkeyServer() as large:
        few, many = Installation(server.url, FEW), Installation(large.url, options.runs)
        worst = 0.0
        print(f"{'page':<34} {FEW:>10} runs {options.runs:>10} runs   ratio")
        for name in ("bob", "ann"):
            for page in PAGES:
                rounds = [medians(few, many, page, name) for _ in range(options.rounds)]
                before, after = (statistics.median(each) for each in zip(*rounds, strict=True))
                ratio = statistics.median(b / a for a, b in rounds)
                worst = max(worst, ratio)
                verdict = "met" if ratio <= GOAL else "NOT MET"
                print(f"{name} {page:<30} {before:>12.2f} ms {after:>12.2f} ms {ratio:>7.2f}  {verdict}")
        for each in (few, many):
            each.store.close()
    return int(worst >= 2)


if __name__ == "__main__":
    sys.exit(main())
