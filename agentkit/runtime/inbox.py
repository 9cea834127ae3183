"""The inbox: pages and counts of the pending items of all runs, oldest first; and its repair.

The lists of a store may hold items that are not pending (store/inbox.py): each is compared with its run before it is
shown. A page costs what it shows, and a count nothing more. Where the application's `may` is to be asked for each run,
both read `MAX_READ` items at the most: a page may then be short, and a count say that there may be more.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agentkit.core.inbox import InboxItem, ItemFilter, ListedItem, PendingCount, listed_items, own_items
from agentkit.core.record import RunRecord, RunState
from agentkit.core.run import Run
from agentkit.errors import UnreadableRunError
from agentkit.store.protocol import Store

__all__ = ["MAX_READ", "InboxFilter", "count", "page", "repair_items"]

MAX_READ = 1000
"""How many items one page, or one count, reads at the most."""
_BATCH = 100
_SETTLED_MS = 60_000
"""How old an item is before a reader takes it out of the lists: no change that is under way will make it pending."""


@dataclass(frozen=True, slots=True)
class InboxFilter:
    """Which items, or answers, are wanted.

    `may_read`: asked last, of the run of each; None where all that are selected may be read. Of a run that is gone it
    cannot be asked: then only its owner is the `reader` of its answers. `nothing`: none is wanted, whatever there is.
    """

    items: ItemFilter = field(default_factory=ItemFilter)
    may_read: Callable[[Run], bool] | None = None
    reader: str | None = None
    nothing: bool = False

    def admits(self, state: RunState | UnreadableRunError | None, owner: str | None) -> bool:
        """Whether the items of a run may be read. `state`: None where it is gone, `owner`: whose it is, or was."""
        if self.may_read is None:
            return True
        if state is None:
            return owner is not None and owner == self.reader
        return isinstance(state, RunState) and self.may_read(Run.of(state, None))


def page(store: Store, wanted: InboxFilter, limit: int, cursor: str | None) -> tuple[list[InboxItem], str | None]:
    """Read up to `limit` items after `cursor`, oldest first, and the cursor of the next page if there may be more."""
    found: list[InboxItem] = []
    read = 0
    while read < MAX_READ and not wanted.nothing:
        batch = min(_BATCH, MAX_READ - read) if read else min(_BATCH, limit + 1)  # the first is often all of the page
        listed = store.items(cursor, batch, wanted.items)
        for item in _readable(store, listed, wanted):
            if len(found) == limit:
                return found, found[-1].decision_id
            found.append(item)
        if len(listed) < batch:
            return found, None
        read += batch
        cursor = listed[-1].decision_id
    return found, None if wanted.nothing else cursor


def count(store: Store, wanted: InboxFilter) -> PendingCount:
    """Count the items, and find when the oldest was created.

    It is exact but for changes that are being made right now, and what a process that died in one has left, until
    recovery has checked its run. Where `may_read` is to be asked, it counts the oldest `MAX_READ` items at the most.
    """
    if wanted.nothing:
        return PendingCount(0, None)
    items, following = page(store, wanted, 1 if wanted.may_read is None else MAX_READ, None)
    oldest = items[0].created_at if items else None
    if wanted.may_read is not None:
        return PendingCount(len(items), oldest, None if following is None else True)
    return PendingCount(store.count_items(wanted.items)[0] if items else 0, oldest)


def _readable(store: Store, listed: Sequence[ListedItem], wanted: InboxFilter) -> list[InboxItem]:
    """Return those of the items that are pending and may be read, in their order."""
    ids = list(dict.fromkeys(item.run_id for item in listed))
    states = dict(zip(ids, store.loads(ids), strict=True))
    allowed = {run_id: state is not None and wanted.admits(state, None) for run_id, state in states.items()}
    found: list[InboxItem] = []
    stale: list[ListedItem] = []
    for entry in listed:
        state = states[entry.run_id]
        if isinstance(state, UnreadableRunError):
            continue  # a newer worker's, or one that needs another key: it lists it there
        item = None if state is None else own_items(state.record).get(entry.decision_id)
        if item is None:
            stale.append(entry)
        elif state is not None and state.record.abort is None and allowed[entry.run_id]:
            found.append(InboxItem.of(state.record, item))
    _remove(store, stale, _SETTLED_MS)
    return found


def _remove(store: Store, stale: Sequence[ListedItem], older_than_ms: int) -> bool:
    """Take out items that were not pending when their runs were read; whether some are too young for that.

    Their runs are read again after that, and what has become pending meanwhile is put back.
    """
    if not stale:
        return False
    now = store.now()
    old = [item for item in stale if now - _created_at(item) >= older_than_ms]
    if old:
        store.unlist_items(old)
        ids = list(dict.fromkeys(item.run_id for item in old))
        states = dict(zip(ids, store.loads(ids), strict=True))
        store.list_items([item for item in old if _is_pending(item, states[item.run_id])])
    return len(old) < len(stale)


def _is_pending(item: ListedItem, state: RunState | UnreadableRunError | None) -> bool:
    return isinstance(state, RunState) and item.decision_id in own_items(state.record)


def _created_at(item: ListedItem) -> int:
    """Read from an item's id when it was made (ms); 0 for one that is no UUIDv7."""
    try:
        return uuid.UUID(item.decision_id).int >> 80
    except ValueError:
        return 0


def repair_items(store: Store, record: RunRecord, older_than_ms: int) -> bool:
    """Have the inbox hold the items of a run that are pending, and no others; whether it is to be asked for again.

    That is where it holds an item that is not pending, and not older than `older_than_ms`: a change that is being made
    may be about to make it so. `record`: as it was read before.
    """
    known = {item.decision_id: item for item in store.items_of(record.id)}
    pending = own_items(record)
    missing = listed_items(record, [item for decision_id, item in pending.items() if decision_id not in known])
    in_flight = _remove(
        store,
        [item for decision_id, item in known.items() if decision_id not in pending],
        0 if record.terminal else older_than_ms,
    )
    if missing:
        store.list_items(missing)
        [state] = store.loads([record.id])
        _remove(store, [item for item in missing if not _is_pending(item, state)], 0)
    return in_flight
