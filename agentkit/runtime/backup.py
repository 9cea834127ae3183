"""Writes the runs of a store into a file; `restore.py` puts them into a store again.

A run is read at one moment, after the run that waits for it and before those of its sub-agents that it waits for: so
what a run waits for is in the file, as it was then or later. What was read of a run that has gone on since is not used.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from agentkit.core.record import RunRecord
from agentkit.errors import AgentKitError, StoreError, StoreUnavailableError, UnreadableRunError
from agentkit.store.backup import (
    VERSION,
    BackupStore,
    BoundKey,
    DamagedLineError,
    Ending,
    Line,
    Opening,
    StoredRun,
    StoredThreadHash,
    seal,
)
from agentkit.store.protocol import Store

__all__ = ["Export", "Say", "backup_store", "waits_for"]

_PAGE = 500
_TRIES = 5

Say = Callable[[str], None]
"""Takes a line for who watches."""


def backup_store(store: Store) -> BackupStore:
    """Return the store as what is backed up. Raises StoreError for one in memory."""
    if not isinstance(store, BackupStore):
        raise StoreError("this store is in memory, and ends with its process: there is nothing to back up or restore")
    return store


@dataclass
class Export:
    """One export. `keys`: fingerprints of the encryption keys. `say`: told of what is left out, and how far it is.

    `written`: how many runs the file has. `failed`: how many could not be written. `unread`: how many could not be
    read here, and stand in the file as they are stored.
    """

    store: Store
    out: BinaryIO
    version: str
    keys: Sequence[str] = ()
    say: Say = lambda line: None
    progress: Callable[[int], None] = lambda count: None
    written: int = 0
    failed: int = 0
    unread: int = 0
    _begun: dict[str, bool] = field(default_factory=dict)
    """The runs that are written, or about to be; False for those that are not there."""

    def write(self, run_ids: Iterable[str] | None) -> None:
        """Write these runs, those that they wait for, and what is bound to them; without any, all that there is.

        Raises StoreUnavailableError, and what writing the file raises.
        """
        store = backup_store(self.store)
        self._put(
            Opening(
                version=VERSION,
                exported_at=self.store.now(),
                agentkit=self.version,
                whole=run_ids is None,
                keys=tuple(self.keys),
            )
        )
        for run_id in self._all() if run_ids is None else run_ids:
            self._write(store, run_id)
        bindings: Iterable[BoundKey | StoredThreadHash] = itertools.chain(store.bound_keys(), store.threads())
        for bound in bindings:
            if self._begun.get(bound.run_id):
                self._put(bound)
        if run_ids is None:
            for recipient in store.refused_recipients():
                self._put(recipient)
            self._write_answers(store)
        self._put(Ending(version=VERSION, runs=self.written))

    def _all(self) -> Iterator[str]:
        """List all runs, the oldest first."""
        ids: list[str] = []
        while page := self.store.listing(ids[-1] if ids else None, _PAGE):
            ids += page
        return reversed(ids)

    def _write(self, store: BackupStore, run_id: str) -> bool:
        """Write a run, if it is there, and those that it waits for; whether it was."""
        if run_id in self._begun:
            return self._begun[run_id]
        self._begun[run_id] = True
        run: StoredRun | None = None
        try:
            run, record = self._read(store, run_id)
        except StoreUnavailableError:
            raise
        except AgentKitError as error:
            self.failed += 1
            self.say(f"{run_id}: {error.message}")
        if run is None:
            self._begun[run_id] = False
            return False
        if record is not None:
            run.agent, run.owner = record.agent, record.owner
            if record.owner is not None:
                run.quota = store.quota_of(record.owner, run_id)
        self._put(run)
        self.written += 1
        self.progress(self.written)
        return True

    def _read(self, store: BackupStore, run_id: str) -> tuple[StoredRun | None, RunRecord | None]:
        """Read a run after its parent, and before those that it waits for; all of them get written, or are lost."""
        run: StoredRun | None = None
        record: RunRecord | None = None
        for _ in range(_TRIES):
            run = store.read_run(run_id)
            if run is None:
                return None, None
            try:
                record = store.state_of(run).record
            except (UnreadableRunError, DamagedLineError) as error:
                self.unread += 1
                if isinstance(error, DamagedLineError):
                    self.say(error.message)
                return run, None
            parent = None if record.parent is None or record.terminal else record.parent.run_id
            if parent is not None and parent not in self._begun and self._write(store, parent):
                continue  # it may have gone on since it was read
            related = waits_for(record) if parent is None else [parent, *waits_for(record)]
            run.lost = [other for other in related if not self._write(store, other)]
            if not run.lost:
                break  # else they may have been deleted, and it may know by now
        return run, record

    def _write_answers(self, store: BackupStore) -> None:
        chain = store.answer_chain()
        if chain is None:
            return
        answers = store.stored_answers(chain.first - 1, _PAGE)
        if answers and answers[0].number != chain.first:
            # Trimmed between the two. Entries before a chain's first are left out when it is restored.
            chain = store.answer_chain() or chain
        self._put(chain)
        while answers:
            for answer in answers:
                self._put(answer)
            answers = store.stored_answers(answers[-1].number, _PAGE)

    def _put(self, line: Line) -> None:
        self.out.write(seal(line))


def waits_for(record: RunRecord) -> list[str]:
    """List the runs of sub-agents that a run waits for."""
    return [call.child for call in record.calls if call.state == "waiting" and call.child is not None]
