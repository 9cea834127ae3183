"""The record of answers: who answered what and how, in a chain in which a changed or missing entry is found.

Rules that this module alone knows:

1. An entry is written as its canonical JSON (`canonical`): a line of ASCII with sorted keys. Its `hash` is the SHA-256
   of that text without the `hash` itself, and the entry after it has that as `previous`.
2. Entries are numbered from 1, and the first of all has `GENESIS` for its `previous`. What is kept may begin later:
   then the hash of the last entry that was removed is the chain's `anchor`.
3. An export has a line for each entry. In the first one stands beside the entry, as `chain`, where the chain begins and
   ends: as many entries must follow each other.

Nothing here does I/O.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec import UNSET

from agentkit.core.calls import Extension
from agentkit.core.events import ItemKind, Outcome, PendingItem, ToolDecisionResolved, Vote
from agentkit.core.inbox import ItemFilter
from agentkit.core.messages import Json
from agentkit.core.record import Change, Resolution
from agentkit.core.struct import Wire, canonical, convert, digest, to_json

__all__ = [
    "GENESIS",
    "AnswerEntry",
    "AnsweredItem",
    "BrokenChainError",
    "Chain",
    "ChainedAnswer",
    "Verifier",
    "answers_of",
    "header",
    "link",
    "opening",
    "part",
    "split_opening",
]

_FORMAT = "agentkit audit 1"
GENESIS = "0" * 64
"""What the first entry of all has for the hash of the one before it."""


class AnswerEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How one item was settled. Times are milliseconds since the Unix epoch.

    `at`: when it was settled, and `decided_at` when the answer was given, which for a remembered one is earlier.
    `edited_input`: the arguments that the answer put in place of those that were shown. What was shown, and what a
    client gave as a tool's result, is here by its SHA-256 alone.
    """

    at: int
    run_id: str
    agent: str
    owner: str | None = None
    tool_name: str
    tool_call_id: str
    decision_id: str
    kind: ItemKind
    created_at: int
    expires_at: int | None = None
    input_sha256: str
    schema_sha256: str
    outcome: Outcome
    decision: Any = UNSET
    reason: str | None = None
    edited_input: Json | None = None
    result_sha256: str | None = None
    decided_by: str | None = None
    decided_at: int
    votes: tuple[Vote, ...] = ()
    remembered: bool = False
    extensions: tuple[Extension, ...] = ()

    def satisfies(self, wanted: ItemFilter) -> bool:
        """Whether an answer is among the wanted."""
        asked = ((wanted.agent, self.agent), (wanted.tool, self.tool_name), (wanted.kind, self.kind))
        return all(one in (None, other) for one, other in (*asked, (wanted.owner, self.owner)))


class ChainedAnswer(AnswerEntry, frozen=True, kw_only=True):
    """An entry of the chain. `previous`: the hash of the one before it."""

    number: int
    previous: str
    hash: str


class Chain(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is kept of the chain: the numbers of its `first` and its `last` entry, and the hashes that it lies between.

    `anchor`: of the entry before the first. `head`: of the last. Where none is kept, `first` is `last + 1`, and the two
    are one.
    """

    first: int = 1
    last: int = 0
    anchor: str = GENESIS
    head: str = GENESIS


class AnsweredItem(Wire, kw_only=True):
    """An item that was settled: the item as it was shown, where it belongs, and what came of it.

    `input`, `schema`, `title` are known as long as the run is kept. `reason`: why it was rejected. `decided_by` is null
    where nobody was named, or nobody answered in time.
    """

    decision_id: str
    tool_call_id: str
    tool_name: str
    kind: ItemKind
    input: Json | None = None
    schema: Json | None = None
    created_at: int
    expires_at: int | None = None
    run_id: str
    agent: str
    owner: str | None
    title: str | None = None
    outcome: Outcome
    decision: Any = None
    reason: str | None = None
    edited_input: Json | None = None
    decided_by: str | None
    decided_at: int
    votes: list[Vote] | None = None
    remembered: bool = False
    extensions: list[Extension] | None = None

    @classmethod
    def of(cls, entry: AnswerEntry, item: PendingItem | None, title: str | None) -> AnsweredItem:
        """Show an entry, with what was shown then, where that is still known."""
        return cls(
            decision_id=entry.decision_id,
            tool_call_id=entry.tool_call_id,
            tool_name=entry.tool_name,
            kind=entry.kind,
            input=None if item is None else item.input,
            schema=None if item is None else item.schema,
            created_at=entry.created_at,
            expires_at=entry.expires_at,
            run_id=entry.run_id,
            agent=entry.agent,
            owner=entry.owner,
            title=title,
            outcome=entry.outcome,
            decision=None if entry.decision is UNSET else entry.decision,
            reason=entry.reason,
            edited_input=entry.edited_input,
            decided_by=entry.decided_by,
            decided_at=entry.decided_at,
            votes=list(entry.votes) or None,
            remembered=entry.remembered,
            extensions=list(entry.extensions) or None,
        )


# -- from a change


def answers_of(change: Change) -> list[AnswerEntry]:
    """Make the entries of the items that a change settles, remembered answers and expiries among them."""
    return [_entry(change, resolution) for resolution in change.resolutions]


def _entry(change: Change, resolution: Resolution) -> AnswerEntry:
    record, item, answer = change.record, resolution.item, resolution.answer
    event = change.events[resolution.event]
    assert item is not None
    assert isinstance(event, ToolDecisionResolved)
    decision = event.decision if answer is None else answer.decision
    return AnswerEntry(
        at=record.updated_at,
        run_id=record.id,
        agent=record.agent,
        owner=record.owner,
        tool_name=item.tool_name,
        tool_call_id=item.tool_call_id,
        decision_id=item.decision_id,
        kind=item.kind,
        created_at=item.created_at,
        expires_at=item.expires_at,
        input_sha256=digest(item.input),
        schema_sha256=digest(item.schema),
        outcome=resolution.outcome,
        decision=UNSET if answer is None and decision is None else decision,
        reason=event.reason,
        edited_input=event.input,
        result_sha256=None if answer is None or answer.result is None else digest(answer.result),
        decided_by=resolution.decided_by,
        decided_at=record.updated_at if resolution.decided_at is None else resolution.decided_at,
        votes=resolution.votes,
        remembered=resolution.remembered,
        extensions=resolution.extensions,
    )


# -- the chain


def link(entry: AnswerEntry, chain: Chain) -> tuple[str, str]:
    """Make an entry the next of a chain; the line that it is written as, and its hash."""
    content = {**to_json(entry), "number": chain.last + 1, "previous": chain.head}
    own_hash = _hash(content)
    return canonical({**content, "hash": own_hash}), own_hash


def _hash(content: Json) -> str:
    return hashlib.sha256(canonical(content).encode()).hexdigest()


class BrokenChainError(Exception):
    """The chain does not hold. The text says what is wrong."""


class Verifier:
    """Checks the entries of an export one by one, in bounded memory. Each method raises BrokenChainError.

    `head_line`: what `header` writes.
    """

    def __init__(self, head_line: str) -> None:
        self.chain = _header(_object(head_line))
        if header(self.chain) != head_line:
            raise BrokenChainError("it is not written as agentkit writes it: it was changed")
        self._head = self.chain.anchor
        self._number = self.chain.first - 1

    def add(self, line: str) -> None:
        """Check the next line."""
        entry = _object(line)
        number = entry.get("number")
        if self._number == self.chain.last:
            raise BrokenChainError(f"there is an entry after the last that the first line names, {self.chain.last}")
        if number != self._number + 1:
            raise BrokenChainError(
                f"entry {self._number + 1} should stand here, and it is entry {number!r:.40}: "
                "one is missing, was added, or stands elsewhere"
            )
        if entry.get("previous") != self._head:
            raise BrokenChainError(f"entry {number} does not follow the one before it: one of the two was changed")
        own_hash = entry.pop("hash", None)
        if own_hash != _hash(entry) or canonical({**entry, "hash": own_hash}) != line:
            raise BrokenChainError(f"entry {number} was changed")
        self._number, self._head = self._number + 1, own_hash

    def end(self) -> None:
        """Check that nothing is missing at the end."""
        if self._number != self.chain.last:
            raise BrokenChainError(f"entries {self._number + 1} to {self.chain.last} are missing at the end")
        if self._head != self.chain.head:
            raise BrokenChainError("the last entry is not the one that the first line names")


def header(chain: Chain) -> str:
    """Write what an export of a chain, or of a part of one, says of it."""
    return canonical({"format": _FORMAT, **to_json(chain)})


def opening(chain: Chain, line: str) -> str:
    """Write the first line of an export: its first entry, and the header."""
    return canonical({**_object(line), "chain": _object(header(chain))})


def split_opening(line: str) -> tuple[str, str]:
    """Split the first line of an export into the header and the line of the entry. Raises BrokenChainError."""
    read = _object(line)
    chain = read.get("chain")
    if not isinstance(chain, dict):
        raise BrokenChainError("an export of `agentkit audit export` does not begin so: its first line is missing")
    if canonical(read) != line:
        raise BrokenChainError("it is not written as agentkit writes it: it was changed")
    del read["chain"]
    return canonical(chain), canonical(read)


def _header(read: Json) -> Chain:
    if read.get("format") != _FORMAT:
        raise BrokenChainError(f"it is no export of `agentkit audit export`: {_FORMAT!r} is not its format")
    try:
        chain = convert(read, Chain)
    except msgspec.ValidationError as error:
        raise BrokenChainError(f"the first line is damaged: {error}") from error
    if chain.first == 1 and chain.anchor != GENESIS:
        raise BrokenChainError("the first line names another beginning than that of all chains: it was changed")
    return chain


def _object(line: str) -> Json:
    try:
        read = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BrokenChainError(f"it is no JSON: {error}") from error
    if not isinstance(read, dict):
        raise BrokenChainError("it is no JSON object")
    return read


def part(chain: Chain, first: int, anchor: str) -> Chain:
    """Return the part of a chain that begins with the entry `first`. `anchor`: the hash of the one before that."""
    return Chain(first=first, last=chain.last, anchor=anchor, head=chain.head)
