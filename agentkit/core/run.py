"""A run as outsiders see it: the snapshot that `GET /runs/{id}` and `kit.get` answer with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentkit.core.messages import Json, Message, Usage
from agentkit.core.record import TERMINAL, RunState, Status

__all__ = ["Run"]


@dataclass(frozen=True, slots=True)
class Run:
    """A run at one moment. Times are milliseconds since the Unix epoch; `messages` is None in listings."""

    id: str
    agent: str
    status: str
    model: str
    messages: list[Message] | None
    pending: list[Json]
    turn: int
    usage: Usage
    error: Json | None
    metadata: Json
    created_at: int
    updated_at: int
    ended_at: int | None
    last_seq: int
    schema_version: int
    parent_run_id: str | None = None
    owner: str | None = None

    @classmethod
    def of(cls, state: RunState, messages: Sequence[Message] | None) -> Run:
        record = state.record
        return cls(
            id=record.id,
            agent=record.agent,
            status=str(record.status),
            model=record.model,
            messages=None if messages is None else list(messages),
            pending=record.pending,
            turn=record.turn,
            usage=record.usage,
            error=record.error,
            metadata=record.metadata,
            created_at=record.created_at,
            updated_at=record.updated_at,
            ended_at=record.ended_at,
            last_seq=state.last_seq,
            schema_version=record.schema_version,
            parent_run_id=record.parent["runId"] if record.parent else None,
            owner=record.owner,
        )

    @property
    def ended(self) -> bool:
        return Status(self.status) in TERMINAL

    def to_json(self) -> Json:
        """The run as the protocol writes it."""
        body: Json = {"id": self.id, "agent": self.agent, "status": self.status, "model": self.model}
        if self.parent_run_id is not None:
            body["parentRunId"] = self.parent_run_id
        if self.owner is not None:
            body["owner"] = self.owner
        if self.messages is not None:
            body["messages"] = self.messages
        body |= {"pending": self.pending, "turn": self.turn, "usage": self.usage}
        if self.error is not None:
            body["error"] = self.error
        body |= {"metadata": self.metadata, "createdAt": self.created_at, "updatedAt": self.updated_at}
        if self.ended_at is not None:
            body["endedAt"] = self.ended_at
        return body | {"lastSeq": self.last_seq, "schemaVersion": self.schema_version}
