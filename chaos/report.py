"""What was done, seen and violated, reported by many threads."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Answer", "Deadline", "Played", "Report"]


@dataclass(frozen=True)
class Answer:
    """An answer to a pending item, and the response that it got."""

    decision_id: str
    value: dict[str, Any]
    status: int
    code: str | None


@dataclass
class Played:
    """One accepted run, as its client saw it."""

    number: int
    run_id: str
    events: list[dict[str, Any]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    ended: bool = False


class Deadline:
    """When clients give up: after some seconds, or at once where the driver is stopped."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def now(self) -> None:
        self._at = 0.0

    def passed(self) -> bool:
        return time.monotonic() >= self._at


class Report:
    """Counts, violations and runs. `log_line` gets each violation at once."""

    def __init__(self, log_line: Callable[[str], None]) -> None:
        self._lock = threading.Lock()
        self._log_line = log_line
        self.stopped = False  # by Ctrl-C or SIGTERM: what clients cannot do after it is no violation
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.runs: list[Played] = []

    def count(self, what: str, by: int = 1) -> None:
        with self._lock:
            self.counts[what] += by

    def violated(self, what: str) -> None:
        if self.stopped:
            return
        with self._lock:
            self.violations.append(what)
        self._log_line(f"VIOLATED: {what}")

    def accepted(self, run: Played) -> None:
        with self._lock:
            self.runs.append(run)

    def ended(self) -> int:
        with self._lock:
            return sum(run.ended for run in self.runs)

    def summary(self, prefix: str) -> str:
        """Return the counts whose names begin with `prefix`, in one line."""
        with self._lock:
            found = sorted((what.removeprefix(prefix), n) for what, n in self.counts.items() if what.startswith(prefix))
        return ", ".join(f"{what} {n}" for what, n in found) or "none"
