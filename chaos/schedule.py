"""The faults, when they happen and what they hit: drawn from a seed before anything runs.

The seed fixes this schedule and what the clients do. It does not fix the interleaving: where in its work a
process is hit is up to the machine, so a seed that found a bug is a good start, and not a replay.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

__all__ = ["MESSAGES", "MOVE", "PROCESSES", "Fault", "draw"]

PROCESSES = ("kill", "stop", "freeze")
"""SIGKILL; SIGSTOP for less than a lease; SIGSTOP that outlives the lease, then SIGCONT: a zombie."""
MOVE = ("move", "store")
"""In a cluster: a slot that is in use goes to another master. There `kill` and `stop` hit a master."""
MESSAGES = ("drop", "double", "delay")
"""What is done to Celery messages in the broker's queue."""

_FAULT_KINDS = (
    *[("kill", "worker")] * 3, ("stop", "worker"), *[("freeze", "worker")] * 2,
    *[("kill", "web")] * 2, ("stop", "web"),
    ("kill", "store"), ("stop", "store"),
    ("kill", "broker"), ("stop", "broker"),
    *[(kind, "queue") for kind in MESSAGES] * 2,
)  # fmt: skip
_MEAN_GAP_SECONDS = 0.6
_RESTART_SECONDS = 1.5


@dataclass(frozen=True)
class Fault:
    """`at` and `seconds` count from the start of the faults; `target` is `worker-1`, `web-2`, `store`, `queue` ….

    `seconds`: how long a process is down or a message is held. `count`: how many messages.
    """

    at: float
    kind: str
    target: str
    seconds: float
    count: int = 1


def draw(
    random: Random, seconds: float, lease: float, workers: int, webs: int, brokers: int, *, cluster: bool = False
) -> list[Fault]:
    """Draw the faults of `seconds` seconds. Each kind comes once in every shuffled round, so also in a short time.

    `brokers`: 1 where the broker is a server of its own, 0 where the store is the broker. `cluster`: the store is one.
    What was hit is left alone for a moment after it is restored.
    """
    kinds = [kind_and_group for kind_and_group in _FAULT_KINDS if brokers or kind_and_group[1] != "broker"]
    kinds += [MOVE] * (2 * cluster)
    groups = {"worker": workers, "web": webs}
    busy: dict[str, float] = {}
    faults: list[Fault] = []
    remaining: list[tuple[str, str]] = []
    at = 0.0
    while True:
        at += random.expovariate(1 / _MEAN_GAP_SECONDS)
        remaining = remaining or random.sample(kinds, len(kinds))
        kind, group = remaining.pop()
        duration = _duration(random, kind, group, lease)
        targets = [f"{group}-{n + 1}" for n in range(groups[group])] if group in groups else [group]
        target = random.choice([each for each in targets if busy.get(each, 0.0) <= at] or targets)
        if group != "queue":
            at = max(at, busy.get(target, 0.0))
            busy[target] = at + duration + _RESTART_SECONDS
        if at >= seconds:
            return faults
        faults.append(Fault(round(at, 3), kind, target, round(duration, 3), random.randint(1, 3)))


def _duration(random: Random, kind: str, group: str, lease: float) -> float:
    if kind == "freeze":
        return random.uniform(1.05, 1.6) * lease  # near the takeover, where two attempts may meet
    if kind == "delay":
        return random.uniform(0.2, 1.5) * lease
    if group in ("store", "broker"):
        return random.uniform(0.1, 1.5)
    return random.uniform(0.1, 0.8) * lease
