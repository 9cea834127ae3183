"""Plays runs of W against a stage in trouble, waits until all is over, and has everything checked."""

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

_TELL_SECONDS = 5.0
_SETTLE_SECONDS = 90.0


@dataclass(frozen=True)
class Options:
    """`seconds`: how long faults happen; `runs`: how many are in flight at once, a new one for each that ended."""

    seed: str
    seconds: float
    folder: Path
    runs: int = 8
    workers: int = 3
    webs: int = 2
    lease: float = 2.0
    own_broker: bool = False
    pool: str = "-P threads -c 8"


def play(options: Options, tell: Callable[[str], None]) -> Report:
    """Start everything, make trouble, end it, wait for all runs, check. Leaves no process behind."""
    report = Report(tell)
    faults = draw(
        Random(options.seed), options.seconds, options.lease, options.workers, options.webs, int(options.own_broker)
    )
    stage = Stage(
        options.folder, report, workers=options.workers, webs=options.webs, lease=options.lease,
        own_broker=options.own_broker, pool=options.pool,
    )  # fmt: skip
    try:
        stage.start()
        _play(options, stage, report, faults, tell)
        for problem in check(stage, report.runs):
            report.violated(problem)
    finally:
        stage.over.set()
        stage.end()
    return report


def _play(options: Options, stage: Stage, report: Report, faults: list[Fault], tell: Callable[[str], None]) -> None:
    began = time.monotonic()
    numbers = itertools.count(1)
    urls = [f"http://127.0.0.1:{web.port}" for web in stage.webs]
    deadline = Deadline(options.seconds + _SETTLE_SECONDS)

    def client() -> None:
        while not stage.over.is_set():
            Client(options.seed, next(numbers), urls, report, deadline).play()

    def tells() -> None:
        while not done.wait(_TELL_SECONDS):
            said = (
                f"{report.ended()} of {len(report.runs)} runs ended; {report.told('fault ')}; {report.told('message ')}"
            )
            tell(f"{time.monotonic() - began:6.1f} s: {said}; {len(report.violations)} violations")

    done = threading.Event()
    teller = threading.Thread(target=tells, daemon=True)
    teller.start()
    with ThreadPoolExecutor(options.runs) as clients, ThreadPoolExecutor(32) as hands:
        playing = [clients.submit(client) for _ in range(options.runs)]
        doing: list[Future[None]] = []
        try:
            for fault in faults:
                _pass(stage, began + fault.at)
                doing.append(hands.submit(stage.do, fault))
            _pass(stage, began + options.seconds)
            stage.over.set()  # faults put back what they took away, clients begin nothing new
            for hand in doing:
                hand.result()
            while not all(each.done() for each in playing):
                _pass(stage, time.monotonic() + 0.1)
        except BaseException:  # Ctrl-C and SIGTERM too: nobody waits for runs any more
            report.stopped = True
            stage.over.set()
            deadline.now()
            raise
        for each in playing:
            each.result()
    stage.watch()
    for process in stage.processes.values():
        process.wait_until_ready()
    done.set()
    teller.join()
    report.count("seconds until all had ended", round(time.monotonic() - began - options.seconds))


def _pass(stage: Stage, until: float) -> None:
    """Let time pass, with an eye on the processes."""
    while (left := until - time.monotonic()) > 0:
        stage.watch()
        threading.Event().wait(min(left, 0.2))
