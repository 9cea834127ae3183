"""Measure what a page of runs costs a principal that has few, beside few and beside many of others.

`python -m bench.listing [--runs 20000]` starts a Valkey of its own and prints the median of each page in milliseconds,
and the ratio. It exits with 1 where a ratio is 2 or more.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace

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
TIMES = 200


def add(store: RedisStore, count: int) -> None:
    """Add completed runs of ann."""
    for _ in range(count):
        run_id = new_id()
        store.index(run_id, "ann", agent="a", status=status_list(Status.COMPLETED))
        change = first_change(run_id, owner="ann")
        store.create(replace(change, record=replace(change.record, status=Status.COMPLETED)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20_000)
    many = parser.parse_args().runs
    with ValkeyServer() as server:
        store = RedisStore(server.url)
        kit = AgentKit(
            [Agent("a", ScriptedModel(["x"]))],
            settings=Settings(),
            store=store,
            queue=FakeQueue(),
            authenticate=lambda request: request.headers["X-Name"],
        )
        web = create_app(kit).test_client()

        def median(page: str, name: str) -> float:
            took = []
            for _ in range(TIMES):
                began = time.perf_counter()
                assert web.get(f"/runs{page}", headers={"X-Name": name}).status_code == 200
                took.append(time.perf_counter() - began)
            return statistics.median(took) * 1000

        pages = [(name, page) for name in ("bob", "ann") for page in PAGES]
        add(store, FEW)
        few = [median(page, name) for name, page in pages]
        add(store, many - FEW)
        worst = 0.0
        print(f"{'page':<34} {FEW:>10} runs {many:>10} runs   ratio")
        for (name, page), before in zip(pages, few, strict=True):
            after = median(page, name)
            worst = max(worst, after / before)
            print(f"{name} {page:<30} {before:>12.2f} ms {after:>12.2f} ms {after / before:>7.2f}")
        store.close()
    return int(worst >= 2)


if __name__ == "__main__":
    sys.exit(main())
