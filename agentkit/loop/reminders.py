"""The reminder of an item that is about to expire: noted in the call, so that it comes once for each time of expiry."""

from __future__ import annotations

from collections.abc import Iterator

from agentkit.core.record import Change, RunRecord, RunState
from agentkit.loop.draft import Draft

__all__ = ["next_reminder", "remind"]


def remind(state: RunState, before_ms: int, now: int) -> Change | None:
    """Note that people are reminded of the items that expire within `before_ms`; None where there are none.

    An item whose time was moved is one to be reminded of again. What is being aborted waits for nobody.
    """
    due = [
        (index, expires_at)
        for index, expires_at in _unreminded(state.record)
        if expires_at - before_ms <= now < expires_at
    ]
    if not due or state.record.abort is not None:
        return None
    draft = Draft(state, now)
    for index, expires_at in due:
        draft.set_call(index, reminded=expires_at)
    return draft.change()


def next_reminder(record: RunRecord, before_ms: int) -> int | None:
    """Find when people are next to be reminded of one of a run's own items (ms); None if of none."""
    return min((expires_at - before_ms for _, expires_at in _unreminded(record)), default=None)


def _unreminded(record: RunRecord) -> Iterator[tuple[int, int]]:
    """List the calls whose pending item expires at a time that nobody was reminded of: (index, expiry in ms)."""
    for index, call in record.indexed_calls:
        expires_at = call.item.expires_at if call.state == "pending" and call.item else None
        if expires_at is not None and expires_at != call.reminded:
            yield index, expires_at
