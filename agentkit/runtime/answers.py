"""The record of answers: written by what commits cause, trimmed by age, read in pages.

    commit (answer and entry of its outbox) ─► append to the chain ─► remove from the outbox

An entry is appended once, whoever does it and how often: the store knows the items that are there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence

from agentkit.core.audit import AnsweredItem, AnswerEntry, ChainedAnswer, answers_of
from agentkit.core.inbox import title_of
from agentkit.core.outbox import OutboxEntry
from agentkit.core.record import Change, RunState
from agentkit.core.struct import convert, to_json
from agentkit.errors import UnreadableRunError
from agentkit.runtime.inbox import MAX_READ, InboxFilter
from agentkit.store.protocol import Store

__all__ = ["AnswerTrim", "RecordOfAnswers", "answers_page"]

log = logging.getLogger(__name__)

_BATCH = 100
_TRIM_SECONDS = 60.0
_TRIM_BATCH = 500


class RecordOfAnswers:
    """The act of the outbox that records answers. `audit_seconds`: how long they are kept, 0 for not at all."""

    kind = "answer"

    def __init__(self, store: Store, audit_seconds: int) -> None:
        self._store = store
        self._is_on = audit_seconds > 0

    def entries(self, change: Change) -> Iterable[OutboxEntry]:
        """Make an entry for each item that the change settles."""
        if self._is_on:
            for answer in answers_of(change):
                yield OutboxEntry(f"answer:{answer.decision_id}", self.kind, to_json(answer))

    def carry_out(self, run_id: str, entry: OutboxEntry, *, again: bool) -> None:
        """Append the answer to the chain."""
        if self._is_on:
            self._store.record_answer(convert(entry.data, AnswerEntry))
            if again:
                log.info("run %s: recovery recorded the answer %s", run_id, entry.data["decisionId"])


class AnswerTrim:
    """Removes old answers from the record, every minute or more often, for a worker. `audit_seconds`: their age."""

    def __init__(self, store: Store, audit_seconds: int) -> None:
        self._store = store
        self._keep_ms = audit_seconds * 1000
        self._period = min(_TRIM_SECONDS, audit_seconds or _TRIM_SECONDS)
        self._next = 0.0

    def run(self) -> None:
        """Remove what is too old, if it is time for that."""
        if time.monotonic() < self._next:
            return
        before, count = self._store.now() - self._keep_ms, 0
        while (removed := self._store.trim_answers(before, _TRIM_BATCH)) > 0:
            count += removed
        if count:
            log.info("%d answers were older than AGENTKIT_AUDIT_SECONDS, and are not in the record any more", count)
        self._next = time.monotonic() + self._period


def answers_page(
    store: Store, wanted: InboxFilter, limit: int, cursor: str | None
) -> tuple[list[AnsweredItem], str | None]:
    """Read up to `limit` answers before `cursor`, newest first, and the cursor of the next page if there may be more.

    It reads `MAX_READ` entries at the most.
    """
    found: list[AnsweredItem] = []
    read = last = 0
    before = None if cursor is None else int(cursor)
    while read < MAX_READ and not wanted.nothing:
        batch = min(_BATCH, MAX_READ - read) if read else min(_BATCH, limit + 1)
        entries = store.answers(before, batch, wanted.items)
        for entry, item in _readable(store, entries, wanted):
            if len(found) == limit:
                return found, str(last)
            found.append(item)
            last = entry.number
        if len(entries) < batch:
            return found, None
        read += batch
        before = entries[-1].number
    return found, None if wanted.nothing else str(before)


def _readable(
    store: Store, entries: Sequence[ChainedAnswer], wanted: InboxFilter
) -> list[tuple[ChainedAnswer, AnsweredItem]]:
    """Show those of the entries that are wanted and may be read, with what is still known of them."""
    entries = [entry for entry in entries if entry.satisfies(wanted.items)]
    ids = list(dict.fromkeys(entry.run_id for entry in entries))
    states = dict(zip(ids, store.loads(ids), strict=True))
    owners = {entry.run_id: entry.owner for entry in entries}
    allowed = {run_id for run_id, state in states.items() if wanted.admits(state, owners[run_id])}
    entries = [entry for entry in entries if entry.run_id in allowed]
    shown = store.shown_items([(entry.run_id, entry.decision_id) for entry in entries])
    return [
        (entry, AnsweredItem.of(entry, item, _title(states[entry.run_id])))
        for entry, item in zip(entries, shown, strict=True)
    ]


def _title(state: RunState | UnreadableRunError | None) -> str | None:
    return title_of(state.record) if isinstance(state, RunState) else None
