"""A tool call of a run's open turn, from the model's words to its result, and what outsiders answer for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from agentkit.core.events import PendingItem, Vote
from agentkit.core.messages import Json, ToolResultMessage
from agentkit.core.struct import Value

__all__ = [
    "Call",
    "CallState",
    "ClientResult",
    "Extension",
    "Inquiry",
    "ItemAnswer",
    "OtherCalls",
    "Rejection",
    "Verdict",
]

CallState = Literal["ready", "pending", "answered", "waiting", "done"]


class Rejection(Value, frozen=True):
    """Why a person does not let a tool execute."""

    reason: str


class ClientResult(Value, frozen=True):
    """The result that a client gives for a tool that it executed."""

    content: list[Any]
    is_error: bool = False
    details: Any = None


class Verdict(Value, frozen=True):
    """What a person says of a tool call in doubt."""

    verdict: Literal["retry", "done", "failed"]
    result: str | None = None


class ItemAnswer(Value, frozen=True):
    """What came of a call's pending item: one of the four, `verdict` also beside the `decision` that came before it.

    `input`: the arguments as they were edited.
    """

    decision: Any = msgspec.UNSET
    reject: Rejection | None = None
    result: ClientResult | None = None
    verdict: Verdict | None = None
    input: Json | None = None


class Inquiry(Value, frozen=True):
    """What a tool asked in the middle of its execution.

    `memo`: what it needs to go on, known to the tool alone. `rounds`: how often it has asked. `before`: the answer that
    let it execute at first, where it needed one.
    """

    memo: Json
    rounds: int = 1
    before: ItemAnswer | None = None


class Extension(Value, frozen=True):
    """More time that somebody gave a pending item: `seconds`, at `at` (ms). `by` is None where nobody was named."""

    seconds: float
    at: int
    by: str | None = None


class Call(Value, frozen=True):
    """A tool call of the open turn.

    ready: to be executed. pending: waits for an answer to `item`. answered: has its `answer`, and waits
    until no other call is pending. waiting: its sub-agent's run works on it. done: has its `result`, until
    that is a message of the run.
    """

    id: str
    name: str
    args: Json
    state: CallState
    item: PendingItem | None = None
    on_expire: Any = None
    extensions: tuple[Extension, ...] = ()
    """The last times that the item's expiry was moved."""
    answer: ItemAnswer | None = None
    decided_by: str | None = None
    """Who gave the answer; None where nobody was named, or nobody answered in time."""
    decided_at: int | None = None
    """When it was given (ms)."""
    votes: tuple[Vote, ...] = ()
    """Who gave the decision alike, where several had to."""
    reminded: int | None = None
    """The expiry (ms) of its item that people were reminded of."""
    started: bool = False
    """Its tool_execution_start is in the log from an earlier step of this call."""
    inquiry: Inquiry | None = None
    """What its tool asked while it was executed. `item` and `answer` are then of that."""
    child: str | None = None
    """The id of the run in which a sub-agent answers this call."""
    child_limits: Json | None = None
    """What that run may use of what this one had left when the call was made, by the wire names of limits."""
    child_pending: tuple[PendingItem, ...] = ()
    """What that run waits for, each item with its `run_id`; none while it works."""
    result: ToolResultMessage | None = None
    """Held until the calls before it have their messages too."""

    @property
    def items(self) -> tuple[PendingItem, ...]:
        """What is pending for the call: its own item, or those of its sub-agent's run."""
        return (self.item,) if self.state == "pending" and self.item else self.child_pending

    @property
    def waits(self) -> bool:
        """Whether it waits for somebody's answer."""
        return self.state == "pending" or bool(self.child_pending)

    @property
    def works(self) -> bool:
        """Whether a sub-agent's run works on it."""
        return self.state == "waiting" and not self.child_pending


@dataclass(frozen=True, slots=True)
class OtherCalls:
    """What is known of the calls of the open turn that were not read with a record.

    `count`: how many there are; after a commit of an older version it may be another number, which `Store.commit_call`
    finds out. `steps`: how many of their steps are open. `waiting`: how many of them wait for somebody's answer.
    `working`: on how many a sub-agent's run works.
    """

    count: int
    steps: int
    waiting: int
    working: int
