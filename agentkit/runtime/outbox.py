"""What commits cause outside their runs: written in the commit, carried out after it, found again by recovery.

    commit (change and entries) ─► carry out ─► remove
                   └── crash ─► due index ─► recovery ─┘

Rules that this module alone knows:

1. An entry's act may be done more than once, and by two processes at a time: it must be idempotent by the entry's id.
2. While an outbox has entries, the due index has its run, whether that goes on, waits, has ended or is gone. A commit
   with a lease finds it there; another one schedules it before (`Committer`).
3. What cannot be carried out stays, and keeps nothing else from being done: no commit fails by it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from agentkit.core.outbox import OutboxEntry
from agentkit.core.record import Change
from agentkit.errors import AgentKitError, StoreUnavailableError
from agentkit.runtime.failpoints import failpoint
from agentkit.store.protocol import Store

__all__ = ["Act", "Outbox"]

log = logging.getLogger(__name__)


class Act(Protocol):
    """One kind of act outside a run."""

    kind: str
    """That of its entries."""

    def entries(self, change: Change) -> Iterable[OutboxEntry]:
        """Make the entries that a change is to be committed with. Called again, of a newer change, after a conflict."""
        ...

    def carry_out(self, run_id: str, entry: OutboxEntry, *, again: bool) -> int | None:
        """Do what an entry is for, idempotently by its id; None where all is done, so that the entry is removed.

        Else the time (ms) at which recovery is to call this again; the entry stays, and somebody else removes it.
        `again`: recovery calls. What it raises is logged, and the entry is tried again after a lease time.
        """
        ...


class Outbox:
    """The outboxes of all runs, for one process."""

    def __init__(self, store: Store, lease_seconds: float) -> None:
        self._store = store
        self._lease_ms = round(lease_seconds * 1000)
        self._acts: dict[str, Act] = {}

    def add(self, act: Act) -> None:
        """Have the changes of this process cause `act`, and carry it out here."""
        self._acts[act.kind] = act

    def fill(self, change: Change) -> Change:
        """Return the change with what it causes."""
        entries = [entry for act in self._acts.values() for entry in act.entries(change)]
        return replace(change, outbox=(*change.outbox, *entries)) if entries else change

    def carry_out(self, run_id: str, entries: Sequence[OutboxEntry]) -> None:
        """Carry out what a commit has just caused. Never raises: recovery makes up for what was not done."""
        failpoint("before outbox")
        try:
            self._carry_out(run_id, entries, again=False)
        except AgentKitError as error:
            log.warning("run %s: what its change causes elsewhere is left to recovery: %s", run_id, error)
        failpoint("after outbox")

    def recover(self, run_id: str) -> int | None:
        """Carry out what is due of a run's outbox; when to call this again (ms), None where nothing is left."""
        now = self._store.now()
        entries = self._store.outbox(run_id)
        due = [entry for entry in entries if entry.at <= now]
        checks = self._carry_out(run_id, due, again=True) if due else []
        checks += [entry.at for entry in entries if entry.at > now]
        return min(checks, default=None)

    def _carry_out(self, run_id: str, entries: Sequence[OutboxEntry], *, again: bool) -> list[int]:
        """Carry out entries and remove those that are done; the times at which to see to the others."""
        done: list[str] = []
        checks: list[int] = []
        try:
            for entry in entries:
                at = self._try(run_id, entry, again=again)
                if at is None:
                    done.append(entry.id)
                else:
                    checks.append(at)
        finally:
            if done:
                failpoint("before removal from outbox")
                self._store.remove_entries(run_id, done)
        return checks

    def _try(self, run_id: str, entry: OutboxEntry, *, again: bool) -> int | None:
        act = self._acts.get(entry.kind)
        later = self._store.now() + self._lease_ms
        if act is None:
            log.warning(
                "run %s: this process cannot carry out %r of its outbox, which waits for one that can: "
                "is a newer version being deployed?",
                run_id,
                entry.kind,
            )
            return later
        try:
            return act.carry_out(run_id, entry, again=again)
        except StoreUnavailableError:
            raise
        except Exception as error:  # whatever an act raises, the others are carried out
            known = isinstance(error, AgentKitError)
            log.error(
                "run %s: %s %s of its outbox failed, and is tried again after a lease time: %s",
                run_id,
                entry.kind,
                entry.id,
                error,
                exc_info=None if known else error,
            )
            return later
