"""The provider protocol: what a model vendor's adapter must do, and all that the engine knows of one.

An adapter turns a `ModelRequest` into the vendor's request, and the vendor's stream into `Part`s.
It does not know runs, stores or events: `agentkit.providers.builder` folds parts into the assistant message and its
events, in one place for all vendors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from agentkit.core.bounds import Bounds
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import Cache, Json, Message, StopReason, Usage
from agentkit.providers.connection import Connection

__all__ = [
    "NOTHING",
    "BlockEnd",
    "Finish",
    "ManyWires",
    "ModelRequest",
    "Part",
    "Provider",
    "Reader",
    "TextDelta",
    "ThinkingDelta",
    "ToolCallDelta",
    "ToolSpec",
]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a model sees it. `parameters` is a JSON Schema of an object.

    `cache` marks the tool: a vendor that can shall cache the request up to here.
    """

    name: str
    description: str
    parameters: Json
    cache: Cache | None = None


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One model call. `model` is the name without the provider; `options` are the agent's model options.

    `messages` are read by the run's next steps, too: an adapter changes none of them.
    `instructions_cache` marks the instructions as `ToolSpec.cache` marks a tool; messages and blocks carry their own
    `cache`. With `cache` "auto", the adapter marks what stays the same from call to call. Marks are hints: an adapter
    whose vendor has no such thing ignores them. `bounds`: how much the answer may be, and how long the vendor may be
    silent. `pace`: asked again and again, how many seconds what has come may wait for more, and texts that came within
    them be one part, so that not each piece wakes a thread. `reader`: who reads the parts, where that is not to be held
    while nothing comes. `connection`: where the call goes and with which key and headers, where the application
    declares it.
    """

    model: str
    instructions: str
    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    instructions_cache: Cache | None = None
    cache: Literal["auto"] | None = None
    bounds: Bounds = field(default_factory=Bounds)
    connection: Connection = field(default_factory=Connection, repr=False)
    pace: Callable[[], float] = field(default=lambda: 0.0, repr=False)
    reader: Reader | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text. A new text block begins where the part before was of another kind, or a BlockEnd.

    `data` becomes the block's `provider_data`: what the vendor wants to see again. Of several, later keys win. A part
    with data alone begins a block, too, if none is open.
    """

    text: str
    data: Json | None = None


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """More thinking. `signature`, where the vendor signs, belongs to the whole block and comes with its last part.

    Thinking after a signed part is a block of its own. `data` as TextDelta has it.
    """

    text: str
    signature: str | None = None
    data: Json | None = None


@dataclass(frozen=True, slots=True)
class BlockEnd:
    """The text or thinking block that is open, if any, is whole: what follows is another, even if of the same kind."""


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of a tool call. Parts with the same `index` belong together, also when interleaved.

    `id` and `name` may come with any part; the first id that is not empty counts, and a name may come in pieces before
    the arguments. `arguments` is a piece of the JSON text of the arguments. `data` as TextDelta has it.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    data: Json | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of the response: exactly one, the last part. `model` is the vendor's name of the model that answered.

    `data` becomes the message's `provider_data`: what the vendor wants to see again and belongs to no single block.
    `long_cache_write`: how many tokens of `usage.cache_write` were written for an hour, which costs more.
    """

    stop_reason: StopReason
    usage: Usage
    model: str | None = None
    data: Json | None = None
    long_cache_write: int = 0


Part = TextDelta | ThinkingDelta | BlockEnd | ToolCallDelta | Finish

NOTHING: Part = TextDelta("")
"""What an adapter may yield in place of waiting, where the request has a `reader`: nothing has come."""


class Reader(Protocol):
    """Who reads an answer's parts. An adapter need not know of it: it may as well wait in its iterator.

    One that yields NOTHING is asked for the next part, by any thread, after each call of `collected` and `wake`, which
    come from any thread, and when the time is over that it has said by `idle`.
    """

    def idle(self, seconds: float) -> None:
        """Note for how long nothing may be asked for, NOTHING being the next part."""
        ...

    def collected(self) -> None:
        """Note that something has come which was collected for the request's pace, and is in no hurry."""
        ...

    def wake(self) -> None:
        """Note that something has come which is to be read now."""
        ...


class Provider(Protocol):
    """An adapter to one vendor's API. One instance serves all threads of a process."""

    name: str
    """The part before the colon of a model's name; the assistant message's `provider`."""

    @property
    def api(self) -> str:
        """The wire format, say `openai-completions`; the assistant message's `api`."""
        ...

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        """Call the model and yield the response's parts as they arrive, `Finish` last.

        Raises ProviderError for whatever the vendor or the network does wrong, also midway or beyond the request's
        bounds, and never ends without either. When `cancel` fires, the iterator ends at once, also while the vendor is
        silent, and the connection is closed; parts may be missing then. Closing the iterator early does the same.
        """
        ...


@runtime_checkable
class ManyWires(Protocol):
    """A provider that speaks on another wire to each server, or for each model."""

    def wire(self, connection: Connection, model: str) -> Provider:
        """Return the provider that answers for a model where the connection leads now; its `api` is the messages'."""
        ...
