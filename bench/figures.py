"""What the benchmarks share: CPU of processes, percentiles, and a goal that is met or not.

A goal is about the ratio of two figures of the same round, so that a slow moment of the machine meets both; shown is
the median over the rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

__all__ = ["Goal", "cpu_seconds", "percentile", "show_goals"]


def cpu_seconds(pids: Iterable[int]) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


@dataclass(frozen=True)
class Goal:
    """`field` of `ours` / `field` of `rival` is to be at most, or where `at_least` at least, `ratio`.

    `below`: what `field` of `ours` is to stay below besides.
    """

    title: str
    field: str
    ours: str
    rival: str
    ratio: float
    at_least: bool = False
    below: float | None = None


def show_goals(goals: Iterable[Goal], rounds: Mapping[str, Sequence[Any]]) -> None:
    """Print each goal whose figures were measured: the ratio of each round, their median, and whether that meets it."""
    for goal in goals:
        ours, theirs = ([getattr(one, goal.field) for one in rounds.get(name, ())] for name in (goal.ours, goal.rival))
        if not ours or not theirs:
            continue
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        ratio = statistics.median(ratios)
        met = ratio >= goal.ratio if goal.at_least else ratio <= goal.ratio
        aim = f"at {'least' if goal.at_least else 'most'} {goal.ratio:g}"
        if goal.below is not None:
            met = met and statistics.median(ours) < goal.below
            aim += f" and below {goal.below:g}"
        shown = ", ".join(f"{each:.2f}" for each in ratios)
        print(f"{'met    ' if met else 'NOT MET'}  {goal.title}: {ratio:.2f} (goal: {aim}; rounds {shown})")
