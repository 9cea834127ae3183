"""Plays runs of W while faults are injected, waits until all runs have ended, and checks everything."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

from chaos.checks import check
from chaos.clients import Client
from chaos.report import Deadline, Report
from chaos.schedule import Fault, draw
from chaos.stage import Stage

__all__ = ["Options", "play"]

_PROGRESS_SECONDS = 5.0
_SETTLE_SECONDS = 90.0


@dataclass(frozen=True)
class Options:
    """`seconds`: how long faults happen; `runs`: how many are in flight at once, a new one for each that ended.

    `workers` and `webs` are those of each installation, of which there are `prefixes` on the same servers.
    """

    seed: str
    seconds: float
    folder: Path
    runs: int = 8
    workers: int = 3
    webs: int = 2
    lease: float = 2.0
    separate_broker: bool = False
    pool: str = "-P threads -c 8"
    prefixes: int = 1
    steps_per_message: int = 1
    cluster: bool = False


def play(options: Options, log_line: Callable[[str], None]) -> Report:
    """Start the processes, inject the faults, wait for all runs, check. Leaves no process behind.

    `log_line` gets progress and violations, a line each.
    """
    report = Report(log_line)
    faults = draw(
        Random(options.seed),
        options.seconds,
        options.lease,
        options.workers * options.prefixes,
        options.webs * options.prefixes,
        int(options.separate_broker),
        cluster=options.cluster,
    )
    stage = Stage(
        options.folder, report, workers=options.workers, webs=options.webs, lease=options.lease,
        separate_broker=options.separate_broker, pool=options.pool, prefixes=options.prefixes,
        steps_per_message=options.steps_per_message, cluster=options.cluster,
    )  # fmt: skip
    try:
        stage.start()
        _play(options, stage, report, faults, log_line)
        for problem in check(stage, report.runs):
            report.violated(problem)
    finally:
        stage.finishing.set()
        stage.end()
    return report


def _play(options: Options, stage: Stage, report: Report, faults: list[Fault], log_line: Callable[[str], None]) -> None:
    started_at = time.monotonic()
    numbers = itertools.count(1)
    deadline = Deadline(options.seconds + _SETTLE_SECONDS)

    def client() -> None:
        while not stage.finishing.is_set():
            number = next(numbers)
            urls = [f"http://127.0.0.1:{web.port}" for web in stage.webs_of(number)]
            Client(options.seed, number, urls, report, deadline).play()

    def log_progress() -> None:
        while not done.wait(_PROGRESS_SECONDS):
            faults_and_messages = f"{report.summary('fault ')}; {report.summary('message ')}"
            progress = f"{report.ended()} of {len(report.runs)} runs ended; {faults_and_messages}"
            log_line(f"{time.monotonic() - started_at:6.1f} s: {progress}; {len(report.violations)} violations")

    done = threading.Event()
    progress_thread = threading.Thread(target=log_progress, daemon=True)
    progress_thread.start()
    with ThreadPoolExecutor(options.runs) as clients, ThreadPoolExecutor(32) as fault_threads:
        playing = [clients.submit(client) for _ in range(options.runs)]
        doing: list[Future[None]] = []
        try:
            for fault in faults:
                _pass(stage, started_at + fault.at)
                doing.append(fault_threads.submit(stage.do, fault))
            _pass(stage, started_at + options.seconds)
            stage.finishing.set()  # faults restore what they took away, clients start no further run
            for hand in doing:
                hand.result()
            while not all(each.done() for each in playing):
                _pass(stage, time.monotonic() + 0.1)
        except BaseException:  # Ctrl-C and SIGTERM too: do not wait for the runs
            report.stopped = True
            stage.finishing.set()
            deadline.now()
            raise
        for each in playing:
            each.result()
    stage.watch()
    for process in stage.processes.values():
        process.wait_until_ready()
    done.set()
    progress_thread.join()
    report.count("seconds until all had ended", round(time.monotonic() - started_at - options.seconds))


def _pass(stage: Stage, until: float) -> None:
    """Wait until the monotonic time `until`, and watch the processes meanwhile."""
    while (left := until - time.monotonic()) > 0:
        stage.watch()
        threading.Event().wait(min(left, 0.2))
