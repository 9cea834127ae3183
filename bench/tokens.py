"""What a streamed token costs: many answers at once, read, stored and published, beside clients that only read them.

    make bench-tokens     or     python -m bench.tokens [--answers 100] [--rounds 3]

A local server (bench/token_server.py) streams each answer at 50 deltas a second. agentkit reads them in one worker
process of threads, writes them into the log of a Valkey server and publishes them; its CPU is that of the worker and
of the server. Beside it, the `openai` package and httpx read the same answers and do nothing else. Lateness is the
time from a delta's sending to its arrival at the reader, or, for agentkit, at a watcher in another process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from agentkit import AgentKit
from bench.token_readers import stamps_of
from tests.servers import ValkeyServer, free_port
from tests.waiting import wait_until

TOKENS = 600
WATCHED, UNWATCHED, OPENAI, HTTPX = "agentkit, watched", "agentkit, nobody watching", "openai alone", "httpx alone"
GOALS = ((WATCHED, OPENAI, 0.5), (UNWATCHED, OPENAI, 0.35))
LATE_GOAL = 4.0


@dataclass
class Result:
    """`cpu_ms`: per 1,000 tokens. Lateness in ms."""

    cpu_ms: float
    late_p50: float
    late_p99: float


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def result(cpu_seconds: float, answers: int, late: list[float]) -> Result:
    return Result(cpu_seconds * 1e6 / (answers * TOKENS), percentile(late, 0.5), percentile(late, 0.99))


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
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def bench_reader(kind: str, url: str, answers: int) -> Result:
    done = subprocess.run(
        [sys.executable, "-m", "bench.token_readers", kind, url, str(answers)],
        capture_output=True,
        text=True,
        check=True,
    )
    read = json.loads(done.stdout)
    return result(read["cpu_seconds"], answers, read["late"])


def bench_agentkit(store: ValkeyServer, answers: int, watched: bool) -> Result:
    from bench.token_kit import kit

    env = {**os.environ, "AGENTKIT_APP": "bench.token_kit:kit"}
    command = [sys.executable, "-m", "celery", "-A", "agentkit.tasks", "worker", "-P", "threads", "-c", str(answers)]
    worker = subprocess.Popen(
        [*command, "-l", "error", "--without-gossip", "--without-mingle"], env=env, stdout=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: kit.store.workers(), timeout=30, what="the worker")
        kit.start("tokens", "warm up").wait(60)
        late: list[float] = []
        cpu = _cpu(worker.pid, store.pid)
        runs = [kit.start("tokens", "go").id for _ in range(answers)]
        threads = [threading.Thread(target=_watch, args=(kit, run, late)) for run in runs] if watched else []
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for run in runs:
            ended = kit.handle(run).wait(120)
            assert ended.status == "completed", ended.error
            assert ended.usage["output"] == TOKENS
        return result(_cpu(worker.pid, store.pid) - cpu, answers, late)
    finally:
        worker.terminate()
        worker.wait(30)


def _watch(kit: AgentKit, run: str, late: list[float]) -> None:
    for event in kit.handle(run).events():
        if event["type"] == "message_update":
            update = event["assistantMessageEvent"]
            if update["type"] == "text_delta":
                late.extend(stamps_of(update["delta"], time.monotonic_ns() / 1000))


def _cpu(*pids: int) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=100, help="answers at once (default 100)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind; medians are shown")
    options = parser.parse_args()
    results: dict[str, list[Result]] = {WATCHED: [], UNWATCHED: [], OPENAI: [], HTTPX: []}
    with token_server() as url, ValkeyServer() as store:
        os.environ.update(
            AGENTKIT_REDIS_URL=store.url, OPENAI_BASE_URL=url, OPENAI_API_KEY="none", BENCH_TOKENS=str(TOKENS)
        )
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds} ...", file=sys.stderr)
            results[WATCHED].append(bench_agentkit(store, options.answers, watched=True))
            results[UNWATCHED].append(bench_agentkit(store, options.answers, watched=False))
            results[OPENAI].append(bench_reader("openai", url, options.answers))
            results[HTTPX].append(bench_reader("httpx", url, options.answers))
    print(f"{f'{options.answers} answers at once':32}{'CPU ms per 1,000 tokens':>26}{'late p50 ms':>14}{'p99 ms':>10}")
    for name, rounds in results.items():
        row = [statistics.median(getattr(one, field) for one in rounds) for field in Result.__annotations__]
        print(f"{name:32}{row[0]:>26.1f}{row[1]:>14.2f}{row[2]:>10.2f}")
    for ours, rival, goal in GOALS:
        _ratio(f"CPU of {ours} / {rival}", results[ours], results[rival], "cpu_ms", goal)
    _ratio("lateness p99 at a watcher / httpx alone", results[WATCHED], results[HTTPX], "late_p99", LATE_GOAL)


def _ratio(name: str, ours: list[Result], theirs: list[Result], field: str, goal: float) -> None:
    ratios = [getattr(a, field) / getattr(b, field) for a, b in zip(ours, theirs, strict=True)]
    shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"  {name}: {statistics.median(ratios):.2f} (goal: at most {goal:g}; rounds {shown})")


if __name__ == "__main__":
    main()
