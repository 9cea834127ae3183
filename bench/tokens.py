"""What a streamed token costs: many answers at once, read, stored and published, beside others that read them.

    make bench-tokens     or     python -m bench.tokens [--answers 100] [--rounds 3]

A local server (bench/token_server.py) streams each answer at 50 deltas a second. agentkit reads them in one worker
process of threads, writes them into the log of a Valkey server and publishes them; its CPU is that of the worker and
of the server. LangGraph reads them by langchain-openai in one process, with checkpoints in Postgres, and its CPU is
that of both. The `openai` package and httpx read the same answers and do nothing else. Lateness is the time from a
delta's sending to its arrival at the reader, or, for agentkit, at a watcher in another process. LangGraph is left out
where its environment is not installed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from agentkit import AgentKit, RunHandle
from bench import rivals
from bench.celery_worker import CeleryWorker
from bench.figures import Goal, cpu_seconds, percentile, show_goals
from bench.rivals.token_readers import stamps_of
from tests.servers import ValkeyServer, free_port
from tests.waiting import wait_until

TOKENS = 600
WATCHED, UNWATCHED, OPENAI, HTTPX = "agentkit, watched", "agentkit, nobody watching", "openai alone", "httpx alone"
LANGGRAPH = "LangGraph, Postgres"
GOALS = [
    Goal(f"CPU of {WATCHED} / {OPENAI}", "cpu_ms", WATCHED, OPENAI, 0.5),
    Goal(f"CPU of {UNWATCHED} / {OPENAI}", "cpu_ms", UNWATCHED, OPENAI, 0.35),
    Goal(f"CPU of {WATCHED} / {LANGGRAPH}", "cpu_ms", WATCHED, LANGGRAPH, 0.25),
    Goal(f"lateness p99 at a watcher / {HTTPX}", "late_p99", WATCHED, HTTPX, 4, below=100),
]


@dataclass
class Result:
    """`cpu_ms`: per 1,000 tokens. Lateness in ms."""

    cpu_ms: float
    late_p50: float
    late_p99: float


def result(cpu: float, answers: int, late: list[float]) -> Result:
    return Result(cpu * 1e6 / (answers * TOKENS), percentile(late, 0.5), percentile(late, 0.99))


@contextmanager
def token_server() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.token_server", str(port)])
    try:
        wait_until(lambda: _listens(port), timeout=10, what="the token server")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def bench_reader(kind: str, url: str, answers: int) -> Result:
    command = [sys.executable, "-m", "bench.rivals.token_readers", kind, url, str(answers)]
    read = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return result(read["cpu_seconds"], answers, read["late"])


def bench_langgraph(answers: int) -> Result:
    from bench.rivals.langgraph import LangGraph
    from bench.rivals.postgres import PostgresServer

    with PostgresServer() as postgres, LangGraph("tokens", postgres, processes=1) as worker:
        worker.wait(worker.start(), "done")  # warm up
        cpu = cpu_seconds(worker.pids())
        runs = [worker.start() for _ in range(answers)]
        late = [each for run in runs for each in worker.wait(run, "done")["late"]]
        assert len(late) == answers * TOKENS
        return result(cpu_seconds(worker.pids()) - cpu, answers, late)


def bench_agentkit(store: ValkeyServer, answers: int, watched: bool) -> Result:
    from bench.token_kit import kit

    with CeleryWorker("agentkit.tasks", threads=answers) as worker:
        wait_until(lambda: kit.store.workers(), timeout=30, what="the worker")
        kit.start("tokens", "warm up").wait(60)
        cpu = cpu_seconds([worker.pid, store.pid])
        runs: list[RunHandle] = []
        late: list[float] = []
        if watched:
            asyncio.run(_start_and_watch(kit, answers, runs, late))
        else:
            runs += [kit.start("tokens", "go") for _ in range(answers)]
        for run in runs:
            ended = run.wait(120)
            assert ended.status == "completed", ended.error
            assert ended.usage["output"] == TOKENS
        cpu = cpu_seconds([worker.pid, store.pid]) - cpu
    wait_until(lambda: not kit.store.workers(), timeout=30, what="the worker to be forgotten")
    return result(cpu, answers, late)


async def _start_and_watch(kit: AgentKit, answers: int, runs: list[RunHandle], late: list[float]) -> None:
    """Start the runs one after the other, and watch each from its start on."""

    async def watch(run: RunHandle) -> None:
        async for event in run.aevents():
            if event["type"] == "message_update":
                update = event["assistantMessageEvent"]
                if update["type"] == "text_delta":
                    late.extend(stamps_of(update["delta"], time.monotonic_ns() / 1000))

    async with asyncio.TaskGroup() as watchers:
        for _ in range(answers):
            run = await asyncio.to_thread(kit.start, "tokens", "go")
            runs.append(run)
            watchers.create_task(watch(run))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=100, help="answers at once (default 100)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind; medians are shown")
    options = parser.parse_args()
    answers = options.answers
    with token_server() as url, ValkeyServer(options={"appendonly": "yes", "appendfsync": "everysec"}) as store:
        os.environ.update(
            AGENTKIT_REDIS_URL=store.url,
            AGENTKIT_APP="bench.token_kit:kit",
            OPENAI_BASE_URL=url,
            OPENAI_API_KEY="none",
            BENCH_TOKENS=str(TOKENS),
        )
        kinds = {
            WATCHED: lambda: bench_agentkit(store, answers, watched=True),
            UNWATCHED: lambda: bench_agentkit(store, answers, watched=False),
            OPENAI: lambda: bench_reader("openai", url, answers),
            HTTPX: lambda: bench_reader("httpx", url, answers),
        }
        if rivals.missing():
            print(rivals.missing(), file=sys.stderr)
        else:
            kinds[LANGGRAPH] = lambda: bench_langgraph(answers)
        results: dict[str, list[Result]] = {name: [] for name in kinds}
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds} ...", file=sys.stderr)
            for name, kind in kinds.items():
                results[name].append(kind())
        from bench.token_kit import kit

        kit.close()
    print(f"{f'{answers} answers at once':32}{'CPU ms per 1,000 tokens':>26}{'late p50 ms':>14}{'p99 ms':>10}")
    for name, rounds in results.items():
        row = [statistics.median(getattr(one, field) for one in rounds) for field in Result.__annotations__]
        print(f"{name:32}{row[0]:>26.1f}{row[1]:>14.2f}{row[2]:>10.2f}")
    show_goals(GOALS, results)


if __name__ == "__main__":
    main()
