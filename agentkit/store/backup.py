"""What a backup holds of a store, and how that is written down: JSON lines, each of which can be checked by itself.

| `kind` | what the line holds |
| --- | --- |
| `agentkit.export` | the first line: when it was written, by which version, with which encryption keys |
| `agentkit.run` | one run, as the store has it at one moment: every key that is the run's own |
| `agentkit.idempotency_key` | an idempotency key of a start, and the run that it is bound to |
| `agentkit.thread` | a thread of conversations, and its last run |
| `agentkit.refused_recipient` | a recipient of notifications that wants no more |
| `agentkit.answers` | where the record of answers begins and ends |
| `agentkit.answer` | one entry of it |
| `agentkit.end` | the last line: how many runs the file has |

Each has `version`, that of this form, and ends with `sha256`, the digest of the line as it is without that. Texts are
those that are stored: what is encrypted in the store is encrypted here. Times are ms since the Unix epoch. Lines may be
left out, and files may be joined; a run that stands in a file twice was exported twice, and the later line counts.

Nothing here does I/O. Rules that this module alone knows:

1. What of a stored run belongs to the process that held it, and not to the run: its leases, and the numbers that tell
   old holders from new ones (`unheld`).
2. What makes a line whole (`unseal`), and what makes a run readable (`read_run`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import msgspec

from agentkit.core.messages import Json, Message
from agentkit.core.record import RunState
from agentkit.core.struct import decode, encode
from agentkit.errors import AgentKitError
from agentkit.store.bodies import Bodies
from agentkit.store.encoding import decode_receipt, decode_resolution, decode_state, expand

__all__ = [
    "VERSION",
    "Answer",
    "AnswerChain",
    "BackupStore",
    "BoundKey",
    "DamagedLineError",
    "Ending",
    "Line",
    "Opening",
    "Presence",
    "Quota",
    "RefusedRecipient",
    "StoredRun",
    "StoredThreadHash",
    "read_run",
    "seal",
    "unheld",
    "unseal",
]

VERSION = 2
"""Of the form of the lines. Version 1 held runs as `GET /runs/{id}` shows them, from which none can be restored."""

_RUN = "agentkit.run"


class DamagedLineError(AgentKitError):
    """A line of a backup cannot be used. The text says why."""

    code = "damaged_line"


class _Line(msgspec.Struct, kw_only=True, rename="camel", tag_field="kind", omit_defaults=True):
    version: int


class Opening(_Line, kw_only=True, tag="agentkit.export"):
    """`whole`: all that the store had. `keys`: fingerprints of the encryption keys, where they are Fernet keys."""

    exported_at: int
    agentkit: str
    whole: bool
    keys: tuple[str, ...] = ()


class Quota(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """What a run takes of its owner's quota. `active_since`: where it counts as active.

    `costs`: by the number of the day, the least and the greatest of its total costs on it, in billionths of a dollar.
    """

    active_since: int | None = None
    costs: dict[str, tuple[int, int]] = {}


class StoredRun(_Line, kw_only=True, tag=_RUN):
    """One run at one moment; `fields` are those of its hash (scripts/common.lua), and the lists those beside it.

    `first_seq`: of the first of `events`, which follow one another. `expires_at`: for a run that has ended.
    `agent`, `owner`: for who reads the file; missing where the exporting process could not read the run. `lost`: runs
    that it belongs together with, and that were not in the store.
    """

    id: str
    status: str
    agent: str | None = None
    owner: str | None = None
    exported_at: int
    expires_at: int | None = None
    quota: Quota | None = None
    fields: dict[str, str]
    messages: list[str]
    first_seq: int
    events: list[str]
    resolutions: dict[str, str] = {}
    queued: list[str] = []
    outbox: dict[str, str] = {}
    lost: list[str] = []

    @property
    def mark(self) -> str:
        """What tells this state of the run from any other one."""
        return hashlib.sha256(encode((self.fields, self.first_seq, self.events, self.resolutions))).hexdigest()[:32]


class BoundKey(_Line, kw_only=True, tag="agentkit.idempotency_key"):
    """An idempotency key, by its digest, and what it is bound to, as it is stored."""

    name: str
    value: str
    run_id: str
    expires_at: int | None = None


class StoredThreadHash(_Line, kw_only=True, tag="agentkit.thread"):
    """A thread, as it is stored. `run_id`: its last run."""

    name: str
    fields: dict[str, str]
    run_id: str
    expires_at: int | None = None


class RefusedRecipient(_Line, kw_only=True, tag="agentkit.refused_recipient"):
    """A recipient, and since when it wants no more."""

    name: str
    since: str


class AnswerChain(_Line, kw_only=True, tag="agentkit.answers"):
    """Where the record of answers begins and ends, as it is stored; `anchor` is missing where nothing was trimmed."""

    first: int
    last: int
    anchor: str = ""


class Answer(_Line, kw_only=True, tag="agentkit.answer"):
    """An entry of the record of answers, as it is stored. `lists`: the names of those that it stands in."""

    number: int
    decision_id: str
    at: int
    hash: str
    lists: list[str]
    line: str


class Ending(_Line, kw_only=True, tag="agentkit.end"):
    """`runs`: how many the file has."""

    runs: int


Line: TypeAlias = Opening | StoredRun | BoundKey | StoredThreadHash | RefusedRecipient | AnswerChain | Answer | Ending

Presence = Literal["absent", "restored", "exists", "deleted"]
"""Whether a run is in a store. `restored`: from the same line. `deleted`: it was there, and nobody is to make it."""


@runtime_checkable
class BackupStore(Protocol):
    """What a store that outlives its processes offers beside `Store`. Raises as that does."""

    def read_run(self, run_id: str) -> StoredRun | None:
        """Read all that is stored of a run, as it is at one moment; None where it is not there."""
        ...

    def state_of(self, run: StoredRun) -> RunState:
        """Read a run that was exported, by this store's codec.

        Raises DamagedLineError, and UnreadableRunError where the codec or this version cannot read it.
        """
        ...

    def presence(self, run: StoredRun) -> Presence:
        """Look whether a run is there."""
        ...

    def stage_run(self, run: StoredRun) -> None:
        """Lay a run down where nobody sees it. It is forgotten after a day."""
        ...

    def activate_run(self, run_id: str, mark: str, expires_at: int | None) -> Presence:
        """Make a staged run the store's, whole and at once, unless one of its id is there: then that is said.

        Raises StoreError where nothing is staged.
        """
        ...

    def quota_of(self, owner: str, run_id: str) -> Quota | None:
        """Read what a run takes of its owner's quota."""
        ...

    def restore_quota(self, owner: str, run_id: str, quota: Quota) -> None:
        """Count it again. Repeated, it counts once."""
        ...

    def bound_keys(self) -> Iterator[BoundKey]:
        """Read the idempotency keys of starts."""
        ...

    def threads(self) -> Iterator[StoredThreadHash]:
        """Read the threads."""
        ...

    def refused_recipients(self) -> Iterator[RefusedRecipient]:
        """Read who wants no more notifications."""
        ...

    def restore(self, line: BoundKey | StoredThreadHash | RefusedRecipient) -> None:
        """Write what is not there; what is there stays."""
        ...

    def answer_chain(self) -> AnswerChain | None:
        """Read where the record of answers begins and ends; None where there never was an answer."""
        ...

    def stored_answers(self, after: int, limit: int) -> list[Answer]:
        """Read entries of the record of answers as they are stored."""
        ...

    def begin_answers(self, chain: AnswerChain) -> None:
        """Begin the record of answers as a backup has it, where this store has none yet."""
        ...

    def restore_answers(self, answers: Sequence[Answer]) -> bool:
        """Append entries, but for those that are there; False where this store has others in their place."""
        ...


# -- lines

_SEAL = b',"sha256":"'
_SEALED = len(_SEAL) + 64 + 2


def seal(line: Line) -> bytes:
    """Write a line, with its digest and the line feed."""
    body = encode(line)
    return b'%b%b%b"}\n' % (body[:-1], _SEAL, hashlib.sha256(body).hexdigest().encode())


class _Head(msgspec.Struct):
    kind: str
    version: int


def unseal(raw: bytes) -> Line:
    """Read a line. Raises DamagedLineError."""
    text = raw.rstrip(b"\r\n")
    try:
        head = msgspec.json.decode(text, type=_Head)
    except (msgspec.DecodeError, UnicodeError) as error:
        cut = "" if raw.endswith(b"\n") else " (it is cut off)"
        raise DamagedLineError(f"it is no line of an export{cut}: {error}") from error
    if head.version > VERSION:
        raise DamagedLineError(
            f"it is of version {head.version} of this form, and this agentkit reads up to {VERSION}: upgrade it"
        )
    if head.version < VERSION:
        raise DamagedLineError(
            f"it is of version {head.version} of this form, which shows runs and does not hold what is stored of them: "
            "nothing can be restored from it"
        )
    body = text[:-_SEALED] + b"}"
    if text[-_SEALED : -_SEALED + len(_SEAL)] != _SEAL or text[-66:-2] != hashlib.sha256(body).hexdigest().encode():
        raise DamagedLineError("it was changed or damaged: its sha256 is another one")
    try:
        line: Line = msgspec.json.decode(body, type=Line)
    except msgspec.DecodeError as error:
        raise DamagedLineError(f"it is no line that this agentkit reads: {error}") from error
    return line


# -- runs


def read_run(run: StoredRun, bodies: Bodies, now: int) -> RunState:
    """Read every part of a run. Raises DamagedLineError, UnsupportedSchemaVersionError and DecryptionError."""
    try:
        return _read(run, bodies, now)
    except (msgspec.DecodeError, KeyError, ValueError, IndexError) as error:
        raise DamagedLineError(f"run {run.id} cannot be read: {type(error).__name__}: {error}") from error


def _read(run: StoredRun, bodies: Bodies, now: int) -> RunState:
    def plain(text: str) -> bytes:
        return bodies.decrypt(text.encode(), run.id)

    fields = {name.encode(): plain(value) for name, value in run.fields.items()}
    messages = [plain(message) for message in run.messages]
    state = decode_state(now, fields, [plain(each) for each in run.queued])
    record = state.record
    if record.id != run.id or record.status != run.status or record.messages > len(messages):
        raise DamagedLineError(f"run {run.id} does not fit together: its parts are of different runs or moments")
    if state.last_seq != run.first_seq + len(run.events) - 1:
        raise DamagedLineError(f"run {run.id} lacks events: its log ends with {state.last_seq}")
    for seq, event in enumerate(run.events, run.first_seq):
        text = expand(plain(event), lambda first, count: messages[first : first + count])
        if not text.startswith(b'{"seq":%d,' % seq):
            raise DamagedLineError(f"run {run.id} lacks event {seq}, or has another in its place")
        decode(text, Json)
    for message in messages:
        decode(message, Message)
    for name, value in run.resolutions.items():
        if name.startswith("d:"):
            decode_resolution(name[2:], plain(value))
        elif name.startswith("i:"):
            decode_receipt(name[2:], plain(value))
    return state


def unheld(fields: Mapping[str, str], now: int) -> dict[str, str]:
    """Return the fields of a run's hash as they are when nobody holds a step of it.

    A step that was held is due at once, and counts as begun, so that its next claim is another attempt. `now` (ms)
    becomes the version and the last token: whoever still holds a step of the run as it was, in the store that was lost
    or in another one that was restored from the same file, has a lower one, and can change nothing.
    """
    free = dict(fields)
    for name, value in fields.items():
        if name.startswith("s:"):
            token, until, attempt, _, reads_from, claim, *call = value.split(" ")
            if token != "0":
                until, claim = "0", "=" if claim == "=" else "-"
            free[name] = " ".join(("0", until, attempt, "0", reads_from, claim, *call))
    for name in ("tok", "v", "w"):
        if name in fields:
            free[name] = str(max(int(fields[name]), now))
    return free
