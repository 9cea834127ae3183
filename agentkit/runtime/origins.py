"""The history that a run takes from another that has ended: to try it again, to fork it, to go on from it.

Rules that this module alone knows:

1. A turn is whole where its answer was not cut off and all of its tool calls have results. Only the last turn of an
   ended run may be another, so that what ends with a whole turn has no tool call without a result.
2. The history ends with the turn. The user's messages after it belong to the turn that came next: they are taken too
   where no input takes their place, so that there is something to answer.
3. The messages are read piece by piece. An ended run never changes, so the pieces belong together; and no more is kept
   than may be taken, however long the run is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from agentkit.core.messages import AssistantMessage, Message, ToolResultMessage, UserMessage, tool_calls_of
from agentkit.core.record import Origin, RunState
from agentkit.core.struct import decode, refusal
from agentkit.errors import InvalidRequestError, PayloadTooLargeError, RunNotFoundError, RunNotTerminalError
from agentkit.store.protocol import Store

__all__ = ["History", "load_source", "read_history"]

_PIECE_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class History:
    """The messages that a run begins with, and where they are from."""

    origin: Origin
    messages: list[Message]


def load_source(store: Store, run_id: str) -> RunState:
    """Read the run that another is to begin from. Raises RunNotFoundError, and RunNotTerminalError for a live one."""
    state = store.load(run_id)
    if not state.record.terminal:
        raise RunNotTerminalError(
            f"run {run_id} has not ended (it is {state.record.status}): only an ended run can be started from; send it "
            "a message, or abort it"
        )
    return state


def read_history(store: Store, source: RunState, turn: int | None, *, has_input: bool, max_bytes: int) -> History:
    """Read the messages of an ended run up to the end of `turn`, None for the last whole one.

    `has_input`: a user message follows them. `max_bytes`: how much they may have as JSON. Raises InvalidRequestError
    where there is no such turn, or nothing for a model to answer, PayloadTooLargeError, and RunNotFoundError where the
    run was deleted meanwhile.
    """
    run_id = source.record.id
    kept, kinds = _read(store, source, max_bytes)
    begin, ends = _whole_turns(kinds, _turns_begun(store, source, kinds))
    last = len(ends)
    number = last if turn is None else turn
    if not (0 < number <= last or number == last):
        raise refusal("from.turn", f"is {number}, and run {run_id} has {_counted(last)}")
    end = ends[number - 1] if number else begin
    if not has_input:
        while end < len(kinds) and kinds[end].role is UserMessage:
            end += 1
    if end > len(kept):
        raise PayloadTooLargeError(
            f"the messages of run {run_id} up to there have more than {max_bytes} bytes (AGENTKIT_MAX_HISTORY_BYTES): "
            "start from an earlier turn, or with a summary as input"
        )
    if not has_input and (end == 0 or kinds[end - 1].role is AssistantMessage):
        raise InvalidRequestError(
            f"run {run_id} has nothing to go on from after turn {number}, which ends with the model's answer: give "
            "input, or an earlier turn"
        )
    return History(Origin(run_id, number), kept[:end])


@dataclass(frozen=True, slots=True)
class _Kind:
    """What counts of a message. `calls`: how many tool calls an answer makes, None where it was cut off."""

    role: type[UserMessage] | type[AssistantMessage] | type[ToolResultMessage]
    calls: int | None = 0


def _read(store: Store, source: RunState, max_bytes: int) -> tuple[list[Message], list[_Kind]]:
    """Read the first messages, up to `max_bytes` of them, and the kinds of all."""
    kept: list[Message] = []
    kinds: list[_Kind] = []
    size = 0
    while len(kinds) < source.record.messages:
        piece = store.messages_from(source.record.id, len(kinds), _PIECE_BYTES)
        if not piece:
            raise RunNotFoundError(f"run {source.record.id} was deleted while its messages were read")
        for stored in piece:
            message = decode(stored, Message)
            size += len(stored)
            if size <= max_bytes:
                kept.append(message)
            kinds.append(_kind(message))
    return kept, kinds


def _kind(message: Message) -> _Kind:
    if not isinstance(message, AssistantMessage):
        return _Kind(type(message))
    is_cut = message.stop_reason in ("error", "aborted")
    return _Kind(AssistantMessage, None if is_cut else len(tool_calls_of(message)))


def _whole_turns(kinds: Sequence[_Kind], turns: int) -> tuple[int, list[int]]:
    """Find where the run's own first answer is, and where each of its whole turns ends.

    `turns`: how many answers are its own; those before them are of the history that it was started with.
    """
    answers = [index for index, kind in enumerate(kinds) if kind.role is AssistantMessage]
    own = answers[len(answers) - turns :]
    ends: list[int] = []
    for answer in own:
        end = answer + 1
        while end < len(kinds) and kinds[end].role is ToolResultMessage:
            end += 1
        if kinds[answer].calls == end - answer - 1:
            ends.append(end)
    return own[0] if own else len(kinds), ends


def _turns_begun(store: Store, source: RunState, kinds: Sequence[_Kind]) -> int:
    """Count the run's turns that have an answer, whole or not: all, or all but one that was due when the run ended."""
    turn = source.record.turn
    last = kinds[-1].role if kinds else UserMessage
    if last is ToolResultMessage:  # of a turn that has ended, or that the end of the run has cut: the log says it
        page = store.events(source.record.id, source.last_seq - 2, 1)
        before_end = decode(page.events[0].data, _LogEntry) if page.events else _LogEntry("")
        return turn if before_end == _LogEntry("turn_end", turn) else turn - 1
    return turn if last is AssistantMessage else turn - 1


class _LogEntry(msgspec.Struct):
    type: str
    turn: int | None = None


def _counted(turns: int) -> str:
    if turns == 0:
        return "no whole turn: only 0, its beginning, can be named"
    return "one whole turn" if turns == 1 else f"{turns} whole turns"
