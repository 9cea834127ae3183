"""Reads pages of a run's log out of Redis, as cheaply as the entries can be had: replaying a log is mostly this.

The entries come by a plain XRANGE, and the script that says where the log stands follows it in the same round trip:
a log that has gone on between them ends later than its page does, and its reader comes again. What they refer to is
read after that: messages never change, so a later moment shows the same ones. What must be looked for in every entry is
looked for in all of them at once.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any

from agentkit.errors import RunNotFoundError
from agentkit.store.bodies import Bodies
from agentkit.store.encoding import expand
from agentkit.store.lua import RunKeys, Scripts
from agentkit.store.protocol import StoredEvent

__all__ = ["decrypted", "read_page"]

_Reference = tuple[int, int]
"""The number of the first message, and how many."""
_REFERENCE = re.compile(rb"\x01(\d+) (\d+)\x01")


def read_page(
    scripts: Scripts, keys: RunKeys, after: int, limit: int, size: int | None
) -> tuple[Any, int, list[bytes]]:
    """Read up to `limit` events whose seq is over `after`, and up to `size` bytes of them, though always one.

    Returns what events.lua says of the log, the seq of the first event, and the events' JSON, encrypted as stored. Up
    to `limit` are read where fewer come back for their size. Raises RunNotFoundError for one deleted meanwhile.
    """
    head, entries = scripts.events(keys, after, limit)
    while not entries and limit > 0 and _has_after(head, after):  # it has gone on between the two
        head, entries = scripts.events(keys, after, limit)
    if not entries:
        return head, after + 1, []
    events: list[bytes] = [fields[1] for _, fields in entries]
    if b"\x01" in b"".join(events):
        events = _expanded(scripts, keys, events, size)
    # Each entry's id is its seq, and the script that appends them leaves no gap.
    return head, int(entries[0][0].partition(b"-")[0]), _cut(events, size)


def _has_after(head: Any, after: int) -> bool:
    """Whether a log has events after the seq `after`, by what events.lua says of it."""
    if isinstance(head, bytes):  # it says why there are none
        return False
    _, last, first = head
    return bool(first) and int(last) > after


def decrypted(first: int, events: Sequence[bytes], bodies: Bodies, run_id: str) -> list[StoredEvent]:
    """Make the events of a page, of which the first has the seq `first`. Raises DecryptionError."""
    if b"\x02" in b"".join(events):
        events = [bodies.decrypt(event, run_id) for event in events]
    return list(map(StoredEvent, range(first, first + len(events)), events))


def _expanded(scripts: Scripts, keys: RunKeys, events: list[bytes], size: int | None) -> list[bytes]:
    """Put messages in place of references, up to the event whose messages would be too many bytes, though of one."""
    found = [_references(event) for event in events]
    texts = _messages(scripts, keys, itertools.chain.from_iterable(found), size)
    if not texts.keys() >= found[0]:
        texts = _messages(scripts, keys, found[0], None)
    known = itertools.takewhile(lambda pair: texts.keys() >= pair[1], zip(events, found, strict=True))
    return [expand(event, lambda first, count: [texts[first, count]]) for event, _ in known]


def _references(event: bytes) -> set[_Reference]:
    if b"\x01" not in event:
        return set()
    return {(int(first), int(count)) for first, count in _REFERENCE.findall(event)}


def _messages(
    scripts: Scripts, keys: RunKeys, references: Iterable[_Reference], size: int | None
) -> dict[_Reference, bytes]:
    """Read the messages of the first references, as many as `size` allows."""
    wanted = list(dict.fromkeys(references))
    texts = dict(zip(wanted, scripts.references(keys, wanted, size), strict=False))
    if any(count and not text for (_, count), text in texts.items()):
        raise RunNotFoundError(f"there is no run {keys.run}")
    return texts


def _cut(events: list[bytes], size: int | None) -> list[bytes]:
    if size is None or sum(map(len, events)) <= size:
        return events
    sizes = itertools.accumulate(map(len, events))
    return events[: max(1, sum(read <= size for read in sizes))]
