"""What a caller may send: the bodies of the requests, and the parts of them that Python callers give too.

A body is checked here as far as its shape goes. What its content blocks, messages and limits mean is checked where the
kit takes them, for Python callers too. What is left out is UNSET and not None: null is a value, and a decision may be
null. Nothing here knows who carries a body: HTTP, a WebSocket or Python.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

from msgspec import UNSET, Meta, UnsetType, field

from agentkit.core import strictjson
from agentkit.core.calls import Rejection
from agentkit.core.messages import Json, check_text
from agentkit.core.struct import Wire, check, encode
from agentkit.errors import InvalidRequestError

__all__ = [
    "AbortBody",
    "AbortFrame",
    "ExtendBody",
    "FromRun",
    "Limits",
    "MessageBody",
    "MessageFrame",
    "RequestBody",
    "ResumeBody",
    "ResumeFrame",
    "StartBody",
    "StreamTokenBody",
    "TokenScope",
    "check_extension",
    "check_idempotency_key",
    "check_limits",
    "check_metadata",
    "check_principal",
    "or_none",
]

T = TypeVar("T")

MAX_METADATA_BYTES = 16_384
MAX_LIMIT = 2**53 - 1  # what every JSON reader takes as a whole number
MAX_IDEMPOTENCY_KEY = 255
MAX_EXTENSION_SECONDS = 1_000_000_000  # 31 years

_Count = Annotated[int, Meta(ge=1, le=MAX_LIMIT)]
_Dollars = Annotated[float, Meta(gt=0, le=MAX_LIMIT, description="US dollars.")]
_Seconds = Annotated[float, Meta(gt=0, le=MAX_LIMIT, description="Seconds queued or running, pauses not counted.")]
_Turn = Annotated[int, Meta(ge=0, le=MAX_LIMIT, description="0: before the first, of a run that has no whole one.")]
_Extension = Annotated[float, Meta(gt=0, le=MAX_EXTENSION_SECONDS, description="Seconds.")]


class Limits(Wire):
    """What a run may use up at most. Reaching one ends the run."""

    max_turns: _Count | UnsetType = UNSET
    max_tokens: _Count | UnsetType = UNSET
    max_cost: _Dollars | UnsetType = UNSET
    timeout: _Seconds | UnsetType = UNSET


# -- bodies

# Checked in depth by `check_content`, `check_history` and `check_limits`; the OpenAPI document names what they take.
_Content = Annotated[str | list[Any], Meta(extra_json_schema={"$ref": "#/components/schemas/Content"})]
_Message = Annotated[Any, Meta(extra_json_schema={"$ref": "#/components/schemas/Message"})]
_History = Annotated[list[_Message], Meta(description="A history whose last message is the user's.")]
_Metadata = Annotated[Json, Meta(description="Up to 16 kB.")]
_Limits = Annotated[Json, Meta(extra_json_schema={"$ref": "#/components/schemas/Limits"})]
_Decision = Annotated[Any, Meta(description="Valid against the pending item's schema.")]
_Result = Annotated[Any, Meta(description="Any JSON, content blocks, or `{content, isError?, details?}`.")]
_Input = Annotated[Json, Meta(description="Replaces the tool's arguments.")]


class RequestBody(Wire, kw_only=True):
    """The body of a request. Of the fields `exactly_one_of`, where there are any, it must have one and no other."""

    exactly_one_of: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        present = [name for name in self.exactly_one_of if getattr(self, name) is not UNSET]
        if self.exactly_one_of and len(present) != 1:
            found = f"not {' and '.join(present)}" if present else "there is none"
            raise ValueError(f"give exactly one of {', '.join(self.exactly_one_of)}; {found}")


class FromRun(Wire):
    """A run that has ended, and the last of its turns to be taken over: the last whole one where it is left out."""

    run_id: str
    turn: _Turn | UnsetType = UNSET


class StartBody(RequestBody):
    """Start a run.

    By `input`, the content of the user's message, by `messages`, or `from` another run: by its messages, and then the
    `input`. Without that the model goes on from there. `agent` may be left out there: it is that run's.
    """

    agent: str | UnsetType = UNSET
    from_: FromRun | UnsetType = field(default=UNSET, name="from")
    input: _Content | UnsetType = UNSET
    messages: _History | UnsetType = UNSET
    model: str | UnsetType = UNSET
    metadata: _Metadata | UnsetType = UNSET
    limits: _Limits | UnsetType = UNSET

    def __post_init__(self) -> None:
        has_input, has_messages = self.input is not UNSET, self.messages is not UNSET
        if self.from_ is not UNSET:
            if has_messages:
                raise ValueError("give messages or from, not both: from takes the messages of that run")
        elif self.agent is UNSET:
            raise ValueError("agent is missing")
        elif has_input == has_messages:
            found = "not both" if has_input else "there is none"
            raise ValueError(f"give exactly one of input, messages; {found}. With from, input may be left out")


class ResumeBody(RequestBody):
    """Answer a pending item: decide, reject, or give the result of a client-side tool.

    The ids may be left out when one item is pending. With `remember`, later calls of the tool in the run are answered
    alike, where the tool allows it.
    """

    exactly_one_of = ("decision", "reject", "result")

    decision: _Decision | UnsetType = UNSET
    reject: Rejection | UnsetType = UNSET
    result: _Result | UnsetType = UNSET
    tool_call_id: str | UnsetType = UNSET
    decision_id: str | UnsetType = UNSET
    input: _Input | UnsetType = UNSET
    remember: bool = False


class AbortBody(RequestBody):
    """End a run."""

    reason: str | UnsetType = UNSET


class MessageBody(RequestBody):
    """Send a user message into a run: for its next model call, or for another turn when it would end."""

    message: _Content
    when: Literal["steer", "followUp"]


class ExtendBody(RequestBody):
    """Give a pending item that expires `by` seconds more."""

    decision_id: str
    by: _Extension


TokenScope = Literal["read", "answer"]


class StreamTokenBody(RequestBody):
    """Ask for a stream token: one that reads, or with the scope "answer" one that also takes frames on a WebSocket."""

    scope: TokenScope = "read"


class ResumeFrame(ResumeBody, tag_field="type", tag="resume"):
    """A `ResumeBody` over a WebSocket."""


class AbortFrame(AbortBody, tag_field="type", tag="abort"):
    """An `AbortBody` over a WebSocket."""


class MessageFrame(MessageBody, tag_field="type", tag="message"):
    """A `MessageBody` over a WebSocket."""


def or_none(value: T | UnsetType) -> T | None:
    """Return None for what a body leaves out."""
    return None if isinstance(value, UnsetType) else value


# -- parts


def check_metadata(metadata: Any) -> Json:
    """Read a run's metadata: a JSON object of up to 16 kB; None means none. Raises InvalidRequestError."""
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise InvalidRequestError("metadata must be a JSON object")
    try:
        kept: Json = strictjson.plain(metadata)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(f"metadata must be a JSON object: {error}") from error
    size = len(encode(kept))
    if size > MAX_METADATA_BYTES:
        raise InvalidRequestError(f"metadata has {size} bytes, over {MAX_METADATA_BYTES}")
    return kept


def check_limits(limits: Any) -> Json:
    """Read a run's limits, the JSON of `Limits`; None means none. Raises InvalidRequestError.

    What is returned is what was given: an idempotency key is bound to it as it was written.
    """
    if limits is None:
        return {}
    check(limits, Limits, "limits")
    return dict(limits)


def check_extension(by: Any) -> float:
    """Read the seconds by which an expiry is moved. Raises InvalidRequestError."""
    if not isinstance(by, int | float) or isinstance(by, bool) or not 0 < by <= MAX_EXTENSION_SECONDS:
        raise InvalidRequestError(f"by must be a number of seconds over 0, at most {MAX_EXTENSION_SECONDS}")
    return by


def check_principal(name: Any, field: str) -> str | None:
    """Read who calls, a text; None where nobody is named. Raises InvalidRequestError, which names the `field`."""
    if name is not None and not isinstance(name, str):
        raise InvalidRequestError(f"{field} must be the name of a principal, a text")
    check_text(name, field)
    return name


def check_idempotency_key(key: Any) -> str:
    """Read an idempotency key: a text of 1 to 255 characters. Raises InvalidRequestError."""
    if not isinstance(key, str) or not 0 < len(key) <= MAX_IDEMPOTENCY_KEY:
        raise InvalidRequestError(f"Idempotency-Key must have 1 to {MAX_IDEMPOTENCY_KEY} characters")
    return key
