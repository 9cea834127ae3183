"""A run as outsiders see it: the snapshot that `GET /runs/{id}` and `kit.get` answer with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, cast

import msgspec

from agentkit.core.messages import Json
from agentkit.core.record import TERMINAL, RunState, Status
from agentkit.core.struct import Value, Wire, to_json

__all__ = ["Run", "StreamReset"]


def _shape(name: str) -> msgspec.Meta:
    """Name the structure of a dictionary for the OpenAPI document: Python users are given the wire's dictionaries."""
    return msgspec.Meta(extra_json_schema={"$ref": f"#/components/schemas/{name}"})


class Run(Value, frozen=True, kw_only=True):
    """A run at one moment. Times are ms since the Unix epoch. A listing has neither `messages` nor `queued`.

    Nor is `queued` shown to a context hook where it is over 16 kB.

    `usage` is that of its answers and of its sub-agents' runs. `discarded`: what failed tries used beside it, as far as
    vendors have counted it; None where there was nothing. Limits count both. `origin`: the run whose messages it began
    with, up to the end of a turn.
    """

    id: str
    agent: str
    status: Annotated[str, _shape("Status")]
    model: str
    parent_run_id: str | None = None
    owner: str | None = None
    origin: Annotated[Json, _shape("Origin")] | None = None
    messages: list[Annotated[Json, _shape("Message")]] | None = None
    pending: list[Annotated[Json, _shape("PendingItem")]]
    queued: list[Annotated[Json, _shape("QueuedMessage")]] | None = None
    turn: int
    usage: Annotated[Json, _shape("Usage")]
    discarded: Annotated[Json, _shape("Usage")] | None = None
    error: Annotated[Json, _shape("RunError")] | None = None
    metadata: Json
    created_at: int
    updated_at: int
    ended_at: int | None = None
    last_seq: int
    schema_version: int

    @classmethod
    def of(cls, state: RunState, messages: Sequence[Json] | None) -> Run:
        """Show a run as its state and its messages have it; `messages` is None for a listing."""
        record = state.record
        return cls(
            id=record.id,
            agent=record.agent,
            status=str(record.status),
            model=record.model,
            parent_run_id=record.parent.run_id if record.parent else None,
            owner=record.owner,
            origin=to_json(record.origin),
            messages=None if messages is None else list(messages),
            pending=to_json(record.pending),
            queued=None if messages is None or record.queued is None else to_json(list(record.queued)),
            turn=record.turn,
            usage=to_json(record.usage),
            discarded=to_json(record.discarded),
            error=to_json(record.error),
            metadata=to_json(record.metadata),
            created_at=record.created_at,
            updated_at=record.updated_at,
            ended_at=record.ended_at,
            last_seq=state.last_seq,
            schema_version=record.schema_version,
        )

    @property
    def ended(self) -> bool:
        """Whether the run has ended, which is final."""
        return Status(self.status) in TERMINAL

    def to_json(self) -> Json:
        """Turn the run into the object that it is on the wire."""
        return cast(Json, to_json(self))


class StreamReset(Wire, tag_field="type", tag="stream_reset"):
    """Stands for events that are no longer kept: the run as it is now. It is sent, never stored."""

    run: Run
