"""Brings what an older version has stored up to date, where reading it alone does not."""

from __future__ import annotations

import logging

from agentkit.core.record import RunState
from agentkit.store.protocol import Store

__all__ = ["index_runs"]

log = logging.getLogger(__name__)

_BATCH = 500


def index_runs(store: Store) -> None:
    """Put the runs of an older version into their lists, once. Harmless when several workers do it at once.

    Until it is done, all lists are made by reading the runs of all.
    """
    if store.has_lists():
        return
    cursor: str | None = None
    count = 0
    while ids := store.listing(cursor, _BATCH):
        for run_id, state in zip(ids, store.loads(ids), strict=True):
            if isinstance(state, RunState):
                record = state.record
                store.index(run_id, record.owner, agent=record.agent, status=record.status_list)
                count += 1
        cursor = ids[-1]
    store.set_has_lists()
    log.info("the runs of an older version, %d, are in their lists now", count)
