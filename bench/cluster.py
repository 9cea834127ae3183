"""What the store costs on a cluster of 1, 2 and 3 masters, beside one server: W (bench/work.py), without Celery.

    python -m bench.cluster [--runs 200] [--rounds 3]

CPU in ms for one W: of the process that executes it, of all servers, and of the busiest of them. By the last a cluster
is as fast as it can be, however many workers it has: a machine of two cores shows that, though not the speed itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import astuple, dataclass

from agentkit import AgentKit
from agentkit.queue.protocol import InlineQueue
from agentkit.settings import Settings
from agentkit.store.redis import RedisStore
from bench.figures import cpu_seconds
from bench.work import kit as work
from tests.servers import ClusterServers, ValkeyServer

_WARM = 20
_MASTERS = (1, 2, 3)


@dataclass(frozen=True)
class Spent:
    """CPU ms for one W."""

    client: float
    servers: float
    busiest: float


def run_w(url: str, pids: list[int], runs: int) -> Spent:
    """Execute W so often."""
    queue = InlineQueue()
    kit = AgentKit([work.agents[0].agent], settings=Settings(), store=RedisStore(url), queue=queue)

    def work_off() -> None:
        while queue.waiting:
            kit.execute(*queue.waiting.popleft())

    def once() -> None:
        run_id = kit.start("bench", "go").id
        work_off()
        kit.resume(run_id, {"approved": True})
        work_off()

    for _ in range(_WARM):
        once()
    all_pids = [os.getpid(), *pids]
    before = [cpu_seconds([pid]) for pid in all_pids]
    for _ in range(runs):
        once()
    client, *servers = ((cpu_seconds([pid]) - began) / runs * 1000 for pid, began in zip(all_pids, before, strict=True))
    return Spent(client, sum(servers), max(servers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="runs per measurement (default 200)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind; medians are shown")
    options = parser.parse_args()
    with ExitStack() as servers:
        single = servers.enter_context(ValkeyServer())
        kinds: dict[str, Callable[[], Spent]] = {
            "one server": lambda: run_w(single.url, [single.pid], options.runs),
        }
        for masters in _MASTERS:
            cluster = servers.enter_context(ClusterServers(masters=masters, replicas=0))
            kinds[f"a cluster of {masters}"] = lambda cluster=cluster: run_w(  # type: ignore[misc]
                cluster.url, [node.pid for node in cluster.nodes], options.runs
            )
        found: dict[str, list[Spent]] = {name: [] for name in kinds}
        for _ in range(options.rounds):
            for name, measure in kinds.items():
                found[name].append(measure())
    print(f"{'CPU ms for one W':20}{'client':>10}{'servers':>10}{'busiest':>10}{'W/s at most':>14}")
    for name, rounds in found.items():
        client, all_servers, busiest = (statistics.median(each) for each in zip(*map(astuple, rounds), strict=True))
        print(f"{name:20}{client:10.2f}{all_servers:10.2f}{busiest:10.2f}{1000 / busiest:14.0f}")


if __name__ == "__main__":
    main()
