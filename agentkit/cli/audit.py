"""`agentkit audit …`: the record of answers, from the store into a file, and whether such a file is whole."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TextIO

import msgspec

from agentkit.codec import FernetCodec
from agentkit.core.audit import BrokenChainError, Chain, Verifier, opening, part, split_opening
from agentkit.errors import ConfigurationError
from agentkit.kit import load_app
from agentkit.runtime.engine import redis_store
from agentkit.settings import Settings
from agentkit.store.protocol import Store

__all__ = ["export", "open_store", "read_time", "verify"]

_BATCH = 500
_LATE_MS = 3_600_000
_PROGRESS = 20_000
"""After how many entries the progress is shown."""


def open_store(settings: Settings) -> Store:
    """Connect the store that the settings name, with the application's codec where there is an application.

    Raises ConfigurationError.
    """
    if settings.app is not None:
        return load_app(settings.app).store
    store = redis_store(settings)
    if settings.encryption_keys:
        store.use_codec(FernetCodec(settings.encryption_keys))
    return store


def read_time(text: str) -> int:
    """Read a date or a time of ISO 8601 as ms since the Unix epoch, in UTC unless it says otherwise.

    Raises ConfigurationError.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(
            f"{text!r} is no date or time, as in 2026-11-28 or 2026-11-28T09:30:00+01:00"
        ) from error
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


def export(store: Store, since: int | None, out: TextIO, progress: Callable[[str], None]) -> None:
    """Write what the store has of the chain, from the first entry on that was settled at `since` (ms) or later.

    It ends with the entry that is the last when it begins, and writes entries as they are: `verify` checks them. Where
    there is none, nothing is written. Raises BrokenChainError where the store lacks entries, or they were trimmed while
    it was writing.
    """
    whole = store.chain()
    chain = whole if since is None else _since(store, whole, since)
    number, written = chain.first - 1, 0
    while number < chain.last:
        lines = store.chain_lines(number, min(_BATCH, chain.last - number))
        if not lines:
            raise BrokenChainError(f"the store has no entry {number + 1}, though its last is {chain.last}")
        if store.chain().first > number + 1:
            raise BrokenChainError("entries were trimmed meanwhile: export again")
        for line in lines:
            out.write(f"{line if number >= chain.first else opening(chain, line)}\n")
            number = max(number + 1, _read(line).number)
        written += len(lines)
        if written % _PROGRESS < len(lines):
            progress(f"{written:,} of {chain.last - chain.first + 1:,} entries")


def _since(store: Store, chain: Chain, since: int) -> Chain:
    """Find the part of a chain that begins with the first entry which was settled at `since` or later.

    By halves up to shortly before it: an entry that recovery has recorded may stand later than its time says.
    """
    low, high = chain.first, chain.last + 1
    while low < high:
        middle = (low + high) // 2
        if _entry(store, middle).at < since - _LATE_MS:
            low = middle + 1
        else:
            high = middle
    while low <= chain.last and (lines := store.chain_lines(low - 1, min(_BATCH, chain.last - low + 1))):
        early = sum(1 for _ in itertools.takewhile(lambda line: _read(line).at < since, lines))
        low += early
        if early < len(lines):
            break
    return part(chain, low, chain.anchor if low == chain.first else _entry(store, low - 1).hash)


class _Entry(msgspec.Struct):
    number: int
    at: int
    hash: str


def _entry(store: Store, number: int) -> _Entry:
    lines = store.chain_lines(number - 1, 1)
    if not lines:
        raise BrokenChainError(f"the store has no entry {number}")
    return _read(lines[0])


def _read(line: str) -> _Entry:
    try:
        return msgspec.json.decode(line, type=_Entry)
    except msgspec.DecodeError as error:
        raise BrokenChainError(f"the store holds an entry that cannot be read: {error}") from error


def verify(path: Path, progress: Callable[[str], None]) -> Chain:
    """Check an export, line by line; the part of the chain that it has. "-" is the standard input.

    Raises BrokenChainError, which names the line.
    """
    if str(path) == "-":
        return _verify(sys.stdin.buffer, progress)
    with path.open("rb") as file:
        return _verify(file, progress)


def _verify(file: BinaryIO, progress: Callable[[str], None]) -> Chain:
    verifier: Verifier | None = None
    number = 0
    for number, raw in enumerate(file, 1):
        try:
            line = _text(raw)
            if verifier is None:
                header, line = split_opening(line)
                verifier = Verifier(header)
            verifier.add(line)
        except BrokenChainError as error:
            raise BrokenChainError(f"line {number}: {error}") from error
        if number % _PROGRESS == 0:
            progress(f"{number:,} lines")
    if verifier is None:
        raise BrokenChainError("line 1: the file is empty, as is an export of a record without entries")
    try:
        verifier.end()
    except BrokenChainError as error:
        raise BrokenChainError(f"line {number + 1}: {error}") from error
    return verifier.chain


def _text(raw: bytes) -> str:
    if not raw.endswith(b"\n"):
        raise BrokenChainError("the line is cut off")
    try:
        return raw[:-1].decode("ascii")
    except UnicodeDecodeError as error:
        raise BrokenChainError("it holds what no export writes: it was changed") from error
