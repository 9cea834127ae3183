"""Brings what an older version has stored up to date, where reading it alone does not."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from agentkit.core.inbox import listed_items, own_items
from agentkit.core.record import SCHEMA_VERSION, RunRecord, RunState, StatusList
from agentkit.store.protocol import Store

__all__ = ["index_items", "index_items_of_older", "index_runs"]

log = logging.getLogger(__name__)

_BATCH = 500
_WITH_ITEMS: tuple[StatusList, ...] = ("paused", "active")
"""The lists of the runs that may wait for somebody."""


def index_runs(store: Store) -> None:
    """Put the runs of an older version into their lists, once. Harmless when several workers do it at once.

    Until it is done, all lists are made by reading the runs of all.
    """
    if store.has_lists():
        return
    count = 0
    for record in _records(store, None):
        store.index(record.id, record.owner, agent=record.agent, status=record.status_list)
        count += 1
    store.set_has_lists()
    log.info("the runs of an older version, %d, are in their lists now", count)


def index_items(store: Store) -> None:
    """Put the pending items of runs of an older version into the inbox, once. Harmless as `index_runs`, and after it.

    An item that is answered meanwhile is taken out by whoever reads it, or by the next check of its run.
    """
    if store.has_items():
        return
    count = _list_items(store, SCHEMA_VERSION)
    store.set_has_items()
    log.info("the pending items of an older version's runs, %d, are in the inbox now", count)


def index_items_of_older(store: Store) -> None:
    """Put the pending items of runs whose record an older version has written into the inbox, whatever is there.

    For runs that an older worker made wait after `index_items`: where its recovery checks them, it lets go of them, and
    no newer one does. Harmless as `index_items`.
    """
    _list_items(store, SCHEMA_VERSION - 1)


def _list_items(store: Store, newest: int) -> int:
    """List the pending items of runs whose schemaVersion is `newest` or older; how many there are."""
    count = 0
    for status in _WITH_ITEMS:
        for record in _records(store, status):
            if record.schema_version <= newest:
                items = listed_items(record, own_items(record).values())
                store.list_items(items)
                count += len(items)
    return count


def _records(store: Store, status: StatusList | None) -> Iterator[RunRecord]:
    cursor: str | None = None
    while ids := store.listing(cursor, _BATCH, status=status):
        for state in store.loads(ids):
            if isinstance(state, RunState):
                yield state.record
        cursor = ids[-1]
