"""Counts what a process does, and reports it to the store about once a second, where all processes' counts add up.

    add, observe ─► this process's memory ─► report (one script a second) ─► the store's totals ─► /metrics

Counting costs no call of the store: what is counted waits in memory, and a process that is killed takes that with it,
the last second at the most. One that ends reports before. A report whose reply was lost is made again under the same
number, so that nothing counts twice; while the store is away, it waits.

What a process has at the moment (how many event streams it serves) it reports as levels, which fade where it says no
more. This module knows which metrics there are, not what they mean.
"""

from __future__ import annotations

import atexit
import bisect
import logging
import os
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping

from agentkit.core.forks import ForkSafeLock
from agentkit.core.ids import random_id
from agentkit.core.metrics import METRICS, SECONDS_BOUNDS, Metric
from agentkit.core.struct import decode, dumps
from agentkit.errors import StoreError, StoreUnavailableError
from agentkit.runtime.timer import Timer
from agentkit.store.protocol import Store

__all__ = ["SUM", "Metrics", "Series", "read_counts"]

log = logging.getLogger(__name__)

_PERIOD_SECONDS = 1.0
_LEVELS_TTL_SECONDS = 10.0
_LEVELS_AGAIN_SECONDS = 3.0
"""How often levels that have not changed are reported again: the death of a process shows within their time to live."""

_BOUNDS = (*map(repr, SECONDS_BOUNDS), "+Inf")
SUM = "sum"
"""The last part of the series that has the sum of a histogram's values."""

Series = tuple[str, ...]
"""A metric's name and the values of its labels; for a histogram also the upper bound of a bucket, or "sum"."""


class Metrics:
    """The metrics of one process and one store. Thread-safe; what fails here is logged and harms nothing.

    `period`: seconds between two reports; None where they are made on demand alone.
    """

    def __init__(self, store: Store, period: float | None = _PERIOD_SECONDS) -> None:
        self._store = store
        self._period = period
        self._process = random_id()
        self._pid = os.getpid()
        self._timer = Timer()
        self._lock = ForkSafeLock()
        self._report_lock = ForkSafeLock()
        self._counts: defaultdict[Series, float] = defaultdict(float)
        self._levels: dict[str, Callable[[], float]] = {}
        self._number = 0
        self._unsent: Mapping[Series, float] = {}
        """Of the last report, where it is not known whether it was added."""
        self._last_levels: Mapping[str, float] = {}
        self._levels_at = 0.0
        self._is_ticking = False
        self._is_away = False
        _all.add(self)

    def add(self, metric: Metric, *labels: str, amount: float = 1) -> None:
        """Add to a counter; `labels` in the order of their names."""
        if not amount:
            return
        with self._lock:
            self._counts[metric.name, *labels] += amount
        self._wake()

    def observe(self, metric: Metric, *labels: str, value: float) -> None:
        """Add a value to a histogram."""
        with self._lock:
            self._counts[metric.name, *labels, _BOUNDS[bisect.bisect_left(SECONDS_BOUNDS, value)]] += 1
            self._counts[metric.name, *labels, SUM] += value
        self._wake()

    def show_level(self, metric: Metric, level: Callable[[], float]) -> None:
        """Report from now on what `level` returns: how much of something this process has at the moment."""
        if self._levels.get(metric.name) is not level:
            self._levels[metric.name] = level
        self._wake()

    def report(self) -> None:
        """Report what was counted since the last time, and the levels. Raises nothing; what fails waits."""
        with self._report_lock:
            try:
                if self._unsent:
                    self._send()
                with self._lock:
                    self._unsent, self._counts = {k: n for k, n in self._counts.items() if n > 0}, defaultdict(float)
                levels = {name: level for name, read in self._levels.items() if (level := read()) > 0}
                if self._unsent or self._has_news(levels):
                    self._number += 1
                    self._last_levels, self._levels_at = levels, time.monotonic()
                    self._send()
                self._is_away = False
            except StoreUnavailableError as error:
                if not self._is_away:
                    log.warning("what this process counts for /metrics waits for the store: %s", error)
                self._is_away = True
            except Exception as error:  # counting must not harm what is counted
                lost, self._unsent = len(self._unsent), {}
                known = isinstance(error, StoreError)
                log.error("%d counts of this process are lost: %s", lost, error, exc_info=None if known else error)

    def close(self) -> None:
        """Report what is left, and begin no further report by itself."""
        self._period = None
        self.report()

    def _has_news(self, levels: Mapping[str, float]) -> bool:
        is_old = time.monotonic() - self._levels_at >= _LEVELS_AGAIN_SECONDS
        return levels != self._last_levels or (bool(levels) and is_old)

    def _send(self) -> None:
        counts = {dumps(series): amount for series, amount in self._unsent.items()}
        self._store.report(self._process, self._number, counts, self._last_levels, round(_LEVELS_TTL_SECONDS * 1000))
        self._unsent = {}

    # -- by itself

    def _wake(self) -> None:
        period = self._period
        if period is not None and not self._is_ticking and self._begin():
            self._tick_later(period)

    def _begin(self) -> bool:
        """Begin to tick; False where another thread has."""
        with self._lock:
            was_ticking, self._is_ticking = self._is_ticking, True
            return not was_ticking

    def _tick_later(self, seconds: float) -> None:
        found = weakref.ref(self)  # the timer keeps nothing alive that is not used any more

        def tick() -> None:
            metrics = found()
            if metrics is not None:
                metrics._tick()

        self._timer.call_later(seconds, tick)

    def _tick(self) -> None:
        """Report, and go on as long as there may be something to report: a level changes without being added to."""
        self.report()
        period = self._period
        with self._lock:
            self._is_ticking = period is not None and bool(self._counts or self._unsent or self._levels)
        if self._is_ticking and period is not None:
            self._tick_later(period)


def read_counts(counts: Mapping[str, float]) -> dict[Metric, dict[tuple[str, ...], float]]:
    """Read the counts of the store's totals: by metric, and by the values of its labels, of a histogram as in `Series`.

    What this version does not know is left out: a newer worker may have counted it.
    """
    known = {metric.name: metric for metric in METRICS if metric.type in ("counter", "histogram")}
    found: dict[Metric, dict[tuple[str, ...], float]] = {metric: {} for metric in known.values()}
    for key, amount in counts.items():
        name, *labels = decode(key.encode(), list[str])
        metric = known.get(name)
        if metric is not None and len(labels) == len(metric.labels) + (metric.type == "histogram"):
            found[metric][tuple(labels)] = amount
    return found


_all: weakref.WeakSet[Metrics] = weakref.WeakSet()


@atexit.register
def _report_all() -> None:
    """Report what the process has counted in its last second; not what the one that it was forked from had."""
    for metrics in list(_all):
        if metrics._pid == os.getpid() and metrics._period is not None and not metrics._is_away:
            metrics.close()
