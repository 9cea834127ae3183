"""Brings what an older version has stored up to date, where reading it alone does not."""

from __future__ import annotations

import logging

from agentkit.core.record import RunState
from agentkit.store.protocol import Store

__all__ = ["index_owners"]

log = logging.getLogger(__name__)

_BATCH = 500


def index_owners(store: Store) -> None:
    """Put the runs of an older version into their owners' lists, once. Harmless when several workers do it at once.

    Until it is done, an owner's runs are listed by reading those of all.
    """
    if store.has_owner_lists():
        return
    cursor: str | None = None
    count = 0
    while ids := store.listing(cursor, _BATCH):
        for run_id, state in zip(ids, store.loads(ids), strict=True):
            if isinstance(state, RunState) and state.record.owner is not None:
                store.index(run_id, state.record.owner)
                count += 1
        cursor = ids[-1]
    store.set_owner_lists()
    log.info("the runs of an older version, %d, are in their owners' lists now", count)
