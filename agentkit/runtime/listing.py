"""Pages of runs, newest first, by owner, agent, status and time: a page costs what it shows, not how many there are.

A text, an error code and metadata are sought in the runs that these leave, which are read for it, `MAX_READ` at the
most for a page. An error code leaves those of the one status that it can belong to.

The store's lists may hold runs that do not belong there (store/lists.py): each is read and compared before it is shown.
A run that has left the status of a list a while ago is taken out here, by whoever comes across it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agentkit.core.ids import after_ids_of
from agentkit.core.messages import Json
from agentkit.core.record import ABORTED_CODES, RunState, Status, StatusList, status_list
from agentkit.core.run import Run
from agentkit.core.struct import dumps
from agentkit.store.protocol import Store

__all__ = ["MAX_READ", "Filter", "page"]

MAX_READ = 1000
"""How many runs one page reads at the most."""
_BATCH = 100
_MAX_REMOVED = 100
"""How many runs a page takes out of a list at the most."""
_SETTLED_MS = 60_000
"""How long a run has had its status before it is taken out of another's list: no change that it may be under way to."""
_SKEW_MS = 60_000
"""By how much the order of the ids may differ from that of the times at which the runs were created."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which runs are wanted; None: any. `where` is asked last, of the runs that have all the rest.

    `since`: created then (ms) or later; `until`: then or before. `text`: part of the id or of `metadata.title`,
    whatever the case. `error`: the code of the error with which it ended. `metadata`: values by key; one that is not a
    string is compared as its JSON.
    """

    owner: str | None = None
    agent: str | None = None
    status: str | None = None
    since: int | None = None
    text: str | None = None
    where: Callable[[Run], bool] = lambda run: True
    until: int | None = None
    error: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def status_list(self) -> StatusList | None:
        """The list that holds the runs of the wanted status, or of the only one that the wanted error can have."""
        if self.status is not None:
            return status_list(Status(self.status))
        return None if self.error is None else "aborted" if self.error in ABORTED_CODES else "failed"

    def first_cursor(self, cursor: str | None) -> str | None:
        """Return the cursor from which on there are wanted runs: those that are too new are not read."""
        if self.until is None:
            return cursor
        newest = after_ids_of(self.until + _SKEW_MS)
        return newest if cursor is None else min(cursor, newest)

    def admits(self, state: RunState) -> Run | None:
        """Return the run, without its messages, if it is wanted."""
        record = state.record
        if self.status not in (None, str(record.status)) or self.agent not in (None, record.agent):
            return None
        if self.owner not in (None, record.owner) or record.created_at < (self.since or 0):
            return None
        if (
            self.text is not None
            and self.text.casefold() not in f"{record.id}\n{record.metadata.get('title')}".casefold()
        ):
            return None
        if self.until is not None and record.created_at > self.until:
            return None
        if self.error is not None and (record.error is None or record.error.code != self.error):
            return None
        if not _has(record.metadata, self.metadata):
            return None
        run = Run.of(state, None)
        return run if self.where(run) else None

    def is_before(self, state: RunState) -> bool:
        """Whether all runs that are listed after this one are too old."""
        return self.since is not None and state.record.created_at < self.since - _SKEW_MS


def _has(metadata: Json, wanted: Mapping[str, str]) -> bool:
    """Whether metadata have the wanted values."""
    return all(key in metadata and _text(metadata[key]) == value for key, value in wanted.items())


def _text(value: object) -> str:
    return value if isinstance(value, str) else dumps(value)


def page(store: Store, wanted: Filter, limit: int, cursor: str | None) -> tuple[list[Run], str | None]:
    """Read up to `limit` runs older than `cursor`, newest first, and the cursor of the next page if there is more.

    It reads `MAX_READ` runs at the most: where few of many are wanted, it may be short, or empty, and there is more all
    the same.
    """
    if wanted.status is not None and wanted.status not in list(Status):
        return [], None
    owner, agent, status = wanted.owner, wanted.agent, wanted.status_list
    if (owner is not None or agent is not None or status is not None) and not store.has_lists():
        owner = agent = status = None
    cursor = wanted.first_cursor(cursor)
    found: list[Run] = []
    read = removed = 0
    while read < MAX_READ:
        batch = min(_BATCH, MAX_READ - read) if read else min(_BATCH, limit + 1)  # the first is often all of the page
        ids = store.listing(cursor, batch, owner, agent=agent, status=status)
        for state in store.loads(ids):
            if not isinstance(state, RunState):
                continue  # gone, or about to be made; or a newer worker's, which lists it there
            if wanted.is_before(state):
                return found, None
            if status is not None and removed < _MAX_REMOVED:
                removed += _remove_stale(store, state, status)
            run = wanted.admits(state)
            if run is None:
                continue
            found.append(run)
            if len(found) > limit:
                return found[:limit], found[limit - 1].id
        if len(ids) < batch:
            return found, None
        read += batch
        cursor = ids[-1]
    return found, cursor


def _remove_stale(store: Store, state: RunState, listed: StatusList) -> bool:
    """Take a run out of the list of a status that it left a while ago; whether it was.

    It is read again after that, and put back where it has just come back to that status.
    """
    record = state.record
    if listed == record.status_list or store.now() - record.updated_at < _SETTLED_MS:
        return False
    store.unindex(record.id, [listed], record.owner)
    [now] = store.loads([record.id])
    if isinstance(now, RunState) and now.record.status_list == listed:
        store.index(record.id, record.owner, agent=record.agent, status=listed)
    return True
