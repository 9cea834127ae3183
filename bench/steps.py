"""What durability costs: W through agentkit beside bare Celery chains, and beside LangGraph with Postgres.

    make bench     or     python -m bench.steps [--runs 200] [--rounds 3]

One after the other in each round, all on one machine: the chains and agentkit on one Valkey server whose append-only
file is synced each second, each with one worker (`-P threads -c 32`); LangGraph with two processes, on a Postgres that
promises as much. CPU is that of client, workers and servers. agentkit runs with one step for each message of the
broker, as is the default, with 32, and traced by OpenTelemetry. W is described in bench/work.py, the rivals in
bench/rivals; LangGraph is left out where its environment is not installed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import redis

from agentkit.settings import Settings
from bench import rivals
from bench.celery_worker import CeleryWorker
from bench.figures import Goal, cpu_seconds, show_goals
from bench.otlp_sink import otlp_sink
from bench.parallel import commits_and_conflicts
from tests.servers import ValkeyServer
from tests.waiting import wait_until

AT_ONCE = 32
CALLS = 16
PLAIN, LEAN = "bare Celery chain", "the same with agentkit's settings"
OURS, LONG, LANGGRAPH = "agentkit", "agentkit, 32 steps per message", "LangGraph, Postgres, 2 processes"
TRACED = "agentkit, traced by OpenTelemetry"
COLUMNS = {"cpu_ms": "CPU ms per run", "per_second": "runs/s", "hop_ms": "p50 ms per step"}
ALONE = [Goal("resume to first token, agentkit / LangGraph", "first_token_ms", OURS, LANGGRAPH, 0.8)]
LOADED = [Goal("runs/s, 32 steps per message / LangGraph", "per_second", LONG, LANGGRAPH, 3, at_least=True)]
ALWAYS = [
    Goal("CPU of agentkit / lean chain", "cpu_ms", OURS, LEAN, 1.4),
    Goal("CPU of agentkit, 32 steps per message / lean chain", "cpu_ms", LONG, LEAN, 0.8),
]


@dataclass
class Result:
    """Of one measurement. `first_token_ms`: from a resume to the first token, NaN where not measured."""

    cpu_ms: float
    per_second: float
    hop_ms: float
    first_token_ms: float


@dataclass
class System:
    """What is measured. `run` does W, or a chain, once; `pids` are the processes whose CPU counts.

    `first_token` plays W as far as its decision, gives that, and returns the seconds until the first token comes.
    """

    run: Callable[[int], object]
    pids: Callable[[], list[int]]
    first_token: Callable[[], float] | None = None


def measure(system: System, runs: int, at_once: int) -> Result:
    from bench.work import HOPS

    spent: list[float] = []

    def timed(number: int) -> None:
        began = time.perf_counter()
        system.run(number)
        spent.append(time.perf_counter() - began)

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(system.run, range(at_once)))  # warm
        cpu, began = cpu_seconds(system.pids()), time.perf_counter()
        list(pool.map(timed, range(runs)))
        took = time.perf_counter() - began
        cpu = cpu_seconds(system.pids()) - cpu
    first = float("nan")
    if at_once == 1 and system.first_token:
        first = statistics.median(system.first_token() for _ in range(runs))
    return Result(cpu / runs * 1000, runs / took, statistics.median(spent) / HOPS * 1000, first * 1000)


@contextmanager
def chain(server: ValkeyServer, celery: str) -> Iterator[System]:
    from bench.rivals.celery_chain import run_chain, worker

    with worker(celery) as process:
        run_chain(-1)
        yield System(run_chain, lambda: [process.pid, server.pid, os.getpid()])


@contextmanager
def agentkit(server: ValkeyServer, steps_per_message: int, **env: str) -> Iterator[System]:
    from bench.work import kit

    def run(_number: int) -> None:
        handle = kit.start("bench", "go")
        handle.wait(60)
        ended = kit.resume(handle.id, {"approved": True}).wait(60)
        assert ended.status == "completed", ended.error

    def first_token() -> float:
        handle = kit.start("bench", "go")
        handle.wait(60)
        began = time.perf_counter()
        resumed = kit.resume(handle.id, {"approved": True})
        for event in resumed.events(resumed.since):
            if event["type"] == "message_update":
                break
        took = time.perf_counter() - began
        resumed.wait(60)
        return took

    with CeleryWorker("agentkit.tasks", AGENTKIT_STEPS_PER_MESSAGE=str(steps_per_message), **env) as process:
        wait_until(lambda: kit.store.workers(), timeout=30, what="the worker")
        yield System(run, lambda: [process.pid, server.pid, os.getpid()], first_token)
    wait_until(lambda: not kit.store.workers(), timeout=30, what="the worker to be forgotten")


@contextmanager
def traced(server: ValkeyServer) -> Iterator[System]:
    """agentkit whose worker exports a span for each model call, tool call and run."""
    with otlp_sink() as url, agentkit(server, 1, AGENTKIT_OTEL="1", OTEL_EXPORTER_OTLP_ENDPOINT=url) as system:
        yield system
        with redis.Redis.from_url(server.url) as client:  # what is left of it, the next worker would not know
            wait_until(lambda: client.llen(Settings().queue) == 0, what="the ends of its runs to be exported")


@contextmanager
def langgraph() -> Iterator[System]:
    from bench.rivals.langgraph import LangGraph
    from bench.rivals.postgres import PostgresServer

    with PostgresServer() as postgres, LangGraph("steps", postgres, processes=2) as workers:

        def run(_number: int) -> float:
            number = workers.start()
            workers.wait(number, "paused")
            began = time.perf_counter()
            workers.resume(number)
            workers.wait(number, "token")
            took = time.perf_counter() - began
            workers.wait(number, "done")
            return took

        yield System(run, lambda: [*workers.pids(), os.getpid()], lambda: run(0))


def close_kit() -> None:
    from bench.work import kit

    kit.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="runs per measurement (default 200)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind; medians are shown")
    options = parser.parse_args()
    if rivals.missing():
        print(rivals.missing(), file=sys.stderr)
    with ValkeyServer(options={"appendonly": "yes", "appendfsync": "everysec"}) as server:
        os.environ.update(AGENTKIT_REDIS_URL=server.url, AGENTKIT_APP="bench.work:kit")
        kinds = {
            PLAIN: lambda: chain(server, "plain"),
            LEAN: lambda: chain(server, "tuned"),
            OURS: lambda: agentkit(server, 1),
            LONG: lambda: agentkit(server, 32),
            TRACED: lambda: traced(server),
        } | ({} if rivals.missing() else {LANGGRAPH: langgraph})
        for at_once, goals in ((1, [*ALWAYS, *ALONE]), (AT_ONCE, [*ALWAYS, *LOADED])):
            runs = options.runs if at_once > 1 else max(20, options.runs // 4)
            results: dict[str, list[Result]] = {name: [] for name in kinds}
            for _ in range(options.rounds):
                for name, kind in kinds.items():
                    with kind() as system:
                        results[name].append(measure(system, runs, at_once))
            print(f"{f'{at_once} at once':42}" + "".join(f"{title:>17}" for title in COLUMNS.values()))
            for name, rounds in results.items():
                row = [statistics.median(getattr(one, field) for one in rounds) for field in COLUMNS]
                print(f"{name:42}" + "".join(f"{figure:>17.2f}" for figure in row))
            if at_once == 1:
                first = {name: statistics.median(one.first_token_ms for one in results[name]) for name in kinds}
                shown = [f"{name} {ms:.1f}" for name, ms in first.items() if ms == ms]
                print("resume to first token, p50 ms: " + "; ".join(shown))
            show_goals(goals, results)
            cpu = {name: statistics.median(one.cpu_ms for one in results[name]) for name in (OURS, TRACED)}
            print(f"the price of tracing: {cpu[TRACED] / cpu[OURS]:.2f} times the CPU")
            print()
        commits, conflicts = commits_and_conflicts(server.url, CALLS)
        close_kit()
        verdict = "met    " if (commits, conflicts) == (CALLS, 0) else "NOT MET"
        print(f"{verdict}  {CALLS} parallel tool calls: {commits} commits, {conflicts} refused (goal: {CALLS} and 0)")


if __name__ == "__main__":
    main()
