"""What durability costs: W through agentkit beside a bare Celery chain of as many no-op hops.

    make bench     or     python -m bench.steps [--runs 200] [--rounds 3]

All use one Valkey server and one worker (`-P threads -c 32`), one after the other in each round. The chain runs with
Celery's own settings, against which the goal is, and with agentkit's. CPU is that of client, worker and server; each
worker is a process of its own. W is described in bench/work.py.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil
import redis

from tests.servers import ValkeyServer
from tests.waiting import wait_until

GOAL = 1.5
PLAIN, TUNED, OURS = "bare Celery chain", "the same with agentkit's settings", "agentkit"


@dataclass
class Result:
    cpu_ms: float
    per_second: float
    hop_ms: float


class Worker:
    def __init__(self, app: str, url: str, **settings: str) -> None:
        env = {**os.environ, "AGENTKIT_REDIS_URL": url, "AGENTKIT_APP": "bench.work:kit", **settings}
        command = [sys.executable, "-m", "celery", "-A", app, "worker", "-P", "threads", "-c", "32", "-l", "warning"]
        self.process = subprocess.Popen([*command, "--without-gossip", "--without-mingle"], env=env)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def cpu_seconds(pids: list[int]) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def measure(one: Callable[[int], None], runs: int, at_once: int, pids: list[int], hops: int) -> Result:
    spent: list[float] = []

    def timed(number: int) -> None:
        began = time.perf_counter()
        one(number)
        spent.append(time.perf_counter() - began)

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, range(at_once)))  # warm
        cpu, began = cpu_seconds(pids), time.perf_counter()
        list(pool.map(timed, range(runs)))
        took = time.perf_counter() - began
        cpu = cpu_seconds(pids) - cpu
    return Result(cpu / runs * 1000, runs / took, statistics.median(spent) / hops * 1000)


def bench_chain(url: str, server: int, runs: int, at_once: int, celery: str) -> Result:
    from bench.work import HOPS, app

    client = redis.Redis.from_url(url)
    worker = Worker("bench.work:app", url, BENCH_CELERY=celery)

    def one(number: int) -> None:
        app.send_task("bench.hop", args=(f"done:{number}", HOPS), ignore_result=True, retry=False)
        client.blpop([f"done:{number}"], timeout=60)

    try:
        one(-1)
        return measure(one, runs, at_once, [worker.process.pid, server, os.getpid()], HOPS)
    finally:
        worker.stop()


def bench_agentkit(url: str, server: int, runs: int, at_once: int) -> Result:
    from bench.work import HOPS, kit

    worker = Worker("agentkit.tasks", url)

    def one(_number: int) -> None:
        handle = kit.start("bench", "go")
        handle.wait(60)
        ended = kit.resume(handle.id, {"approved": True}).wait(60)
        assert ended.status == "completed", ended.error

    try:
        wait_until(lambda: kit.store.workers(), timeout=30, what="the worker")
        return measure(one, runs, at_once, [worker.process.pid, server, os.getpid()], HOPS)
    finally:
        worker.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="runs per measurement (default 200)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind; medians are shown")
    options = parser.parse_args()
    with ValkeyServer() as server:
        os.environ["AGENTKIT_REDIS_URL"] = server.url
        print(f"{'':42}{'CPU ms per run':>16}{'runs/s':>10}{'p50 hop ms':>12}")
        for at_once in (1, 64):
            runs = options.runs if at_once > 1 else max(20, options.runs // 4)
            results: dict[str, list[Result]] = {PLAIN: [], TUNED: [], OURS: []}
            for _ in range(options.rounds):
                results[PLAIN].append(bench_chain(server.url, server.pid, runs, at_once, "plain"))
                results[TUNED].append(bench_chain(server.url, server.pid, runs, at_once, "tuned"))
                results[OURS].append(bench_agentkit(server.url, server.pid, runs, at_once))
            for name, rounds in results.items():
                row = [statistics.median(getattr(r, field) for r in rounds) for field in Result.__annotations__]
                print(f"{f'{name}, {at_once} at once':42}{row[0]:>16.1f}{row[1]:>10.1f}{row[2]:>12.2f}")
            for rival, goal in ((PLAIN, f"goal: at most {GOAL}; "), (TUNED, "")):
                ratios = [a.cpu_ms / c.cpu_ms for c, a in zip(results[rival], results[OURS], strict=True)]
                shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
                print(f"  CPU of agentkit / {rival}: {statistics.median(ratios):.2f} ({goal}rounds {shown})")


if __name__ == "__main__":
    main()
