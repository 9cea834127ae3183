"""Holds principals to their quotas: who may begin a run, which runs count as active, and what a day has cost.

    start ─► admit ─► create            commit (cost, end) ─► outbox ─► count, leave

Rules that this module alone knows:

1. A run counts from its start to its end, whether it is queued, executed or paused. Only runs that somebody starts
   count: those of sub-agents belong to the run that asked for them, whose usage has theirs.
2. A place is taken before the run is made, in one act with the check, and left by an entry of the run's outbox. One
   whose start died in between is found when a start is about to be refused for it.
3. What a run has cost is counted by the day (UTC, the store's clock) on which it was committed, once however often it
   is reported.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Iterable

from agentkit.core.options import check_plain_function
from agentkit.core.outbox import OutboxEntry
from agentkit.core.quotas import Quota, QuotaFunction
from agentkit.core.record import Change, RunRecord, RunState
from agentkit.errors import ConfigurationError, QuotaExceededError
from agentkit.store.protocol import Store

__all__ = ["Quotas", "check_quota_function"]

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
_NANO = 10**9
_UNMADE_MS = 60_000
"""How long after its place was taken a run that is not there counts as one that is about to be made."""
_REPAIR_SECONDS = 5.0
_BATCH = 100
_RETRY_SECONDS = 5
"""What a start is told to wait that was refused because of runs that may end at any time."""
_MOST_OWNERS = 1000


def check_quota_function(quota: QuotaFunction | None) -> QuotaFunction | None:
    """Check the `quota` of a kit. Raises ConfigurationError."""
    if quota is not None:
        check_plain_function("AgentKit", "quota", quota, "principal")
    return quota


class Quotas:
    """Of one process. It is an act of the outbox: what commits cause is that runs leave, and cost."""

    kind = "quota"

    def __init__(self, store: Store, quota: QuotaFunction) -> None:
        self._store = store
        self._quota = quota
        self._repaired: OrderedDict[str | None, float] = OrderedDict()

    def admit(self, owner: str | None, run_id: str) -> None:
        """Count a run that is about to be made as active. Raises QuotaExceededError, and nothing is counted."""
        quota = self._quota(owner)
        if quota is None:
            quota = Quota()
        if not isinstance(quota, Quota):
            raise ConfigurationError(f"quota must return a Quota or None, and returned {quota!r:.100}")
        cost = None if quota.cost_per_day is None else round(quota.cost_per_day * _NANO)
        now = self._store.now()
        day = now // DAY_MS
        admission = self._store.admit_run(owner or "", run_id, day, quota.active_runs, cost)
        if admission == "active_runs" and self._repair(owner):
            admission = self._store.admit_run(owner or "", run_id, day, quota.active_runs, cost)
        if admission == "active_runs":
            raise QuotaExceededError(
                f"the quota of {quota.active_runs} active runs, paused ones among them, is used up: "
                "start this one when another has ended",
                retry_after=_RETRY_SECONDS,
            )
        if admission == "cost_per_day":
            raise QuotaExceededError(
                f"the quota of {quota.cost_per_day:g} dollars a day is used up: start this run tomorrow (UTC)",
                retry_after=((day + 1) * DAY_MS - now) // 1000 + 1,
            )

    def leave(self, owner: str | None, run_id: str) -> None:
        """Count a run as active no more."""
        self._store.leave_run(owner or "", run_id)

    def entries(self, change: Change) -> Iterable[OutboxEntry]:
        """Make an entry where a change costs something, or ends the run."""
        record, before = change.record, change.before
        if record.parent is not None:
            return
        cost, cost_before = _cost(record), 0 if before is None else _cost(before)
        ended = record.terminal and (before is None or not before.terminal)
        if cost == cost_before and not ended:
            return
        data = {"owner": record.owner, "day": self._store.now() // DAY_MS, "cost": [cost_before, cost], "ended": ended}
        yield OutboxEntry(f"quota:{cost}:{'end' if ended else record.next_step}", self.kind, data)

    def carry_out(self, run_id: str, entry: OutboxEntry, *, again: bool) -> None:
        """Count what the run has cost, and have it leave where it has ended."""
        owner, (before, after) = entry.data["owner"] or "", entry.data["cost"]
        if after > before:
            self._store.count_cost(owner, run_id, entry.data["day"], before, after)
        if entry.data["ended"]:
            self._store.leave_run(owner, run_id)

    def _repair(self, owner: str | None) -> bool:
        """Have runs leave that have ended or were never made; whether there were any. Every few seconds at most."""
        now = time.monotonic()
        if self._repaired.get(owner, float("-inf")) + _REPAIR_SECONDS > now:
            return False
        self._repaired[owner] = now
        self._repaired.move_to_end(owner)
        if len(self._repaired) > _MOST_OWNERS:
            self._repaired.popitem(last=False)
        active, found = self._store.active_runs(owner or ""), 0
        unmade_before = self._store.now() - _UNMADE_MS
        for first in range(0, len(active), _BATCH):
            batch = active[first : first + _BATCH]
            states = self._store.loads([run_id for run_id, _ in batch])
            for (run_id, since), state in zip(batch, states, strict=True):
                ended = isinstance(state, RunState) and state.record.terminal
                if ended or (state is None and since < unmade_before):
                    self._store.leave_run(owner or "", run_id)
                    found += 1
        if found:
            log.info("%d runs counted as active that have ended or were never made", found)
        return found > 0


def _cost(record: RunRecord) -> int:
    """Return what a run has cost, in billionths of a dollar."""
    return round(record.spent.cost.total * _NANO)
