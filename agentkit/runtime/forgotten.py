"""Puts runs back into the due index that it has lost.

A failover loses what was not replicated yet. On one server that is the end of one order of writes: with an entry of the
index, which is written first, goes the change that it was written for. In a cluster a run and its entry are on two
masters, and the entry may be lost alone.

So after an outage the lists of runs are walked through. What is left of the walk is an entry of the due index itself,
which names where it has come to: one worker at a time takes it, another goes on where that one dies, and no restart
loses it.
"""

from __future__ import annotations

import logging
import time
from typing import cast

from agentkit.core.record import RunRecord, RunState, StatusList
from agentkit.runtime.commit import Committer
from agentkit.store.protocol import DueRun, Store

__all__ = ["begin_walk", "is_walk", "walk_on"]

log = logging.getLogger(__name__)

_BATCH = 200
_WALK_SECONDS = 0.5
"""How long a worker walks before it writes down where it is, and sees to other runs."""
_TOGETHER_MS = 3000
"""How long a walk waits to begin: workers notice the end of an outage one after the other, and one walk does."""
_WALK = "\0walk"
"""What the ids of such entries begin with, and those of runs do not; then come a list's status and its last run."""
_NEXT: dict[StatusList, StatusList | None] = {"active": "paused", "paused": None}
"""The lists that are walked through, each with the one that follows."""


def begin_walk(store: Store) -> None:
    """Have all runs looked for in the due index that go on, or wait for a time. Harmless repeated."""
    store.schedule(_entry("active"), store.now() + _TOGETHER_MS)


def is_walk(run: DueRun) -> bool:
    """Whether an entry of the due index is no run's but a walk's."""
    return run.run_id.startswith(_WALK)


def walk_on(committer: Committer, run: DueRun) -> None:
    """Look for the next runs of a walk in the due index, and have those checked that it does not have."""
    store, until = committer.store, time.monotonic() + _WALK_SECONDS
    _, _, name, cursor = run.run_id.split("\0", 3)
    status: StatusList | None = cast(StatusList, name)
    count = 0
    while status is not None:
        ids = store.listing(cursor or None, _BATCH, status=status)
        count += _schedule_missing(committer, ids)
        status, cursor = (status, ids[-1]) if ids else (_NEXT[status], "")
        if time.monotonic() >= until:
            break
    if count:
        log.warning("%d runs were not in the due index after an outage of the store, and are checked now", count)
    if status is not None:
        store.schedule(_entry(status, cursor), store.now())
    store.reschedule(run, None)


def _entry(status: StatusList, cursor: str = "") -> str:
    return f"{_WALK}\0{status}\0{cursor}"


def _schedule_missing(committer: Committer, ids: list[str]) -> int:
    store, count = committer.store, 0
    for state in store.loads(store.unscheduled(ids)) if ids else ():
        if isinstance(state, RunState) and _is_due_sometime(committer, state.record):
            store.schedule(state.record.id, store.now())
            count += 1
    return count


def _is_due_sometime(committer: Committer, record: RunRecord) -> bool:
    """Whether something is to happen to a run by itself: nothing is where it has ended, or waits for people alone."""
    if record.terminal:
        return False
    return record.status_list == "active" or bool(record.steps or committer.item_checks(record))
