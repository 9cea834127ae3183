"""Conversations that the server keeps: what a client sends of one becomes a run, an answer, or a message into a run.

Rules that this module alone knows:

1. A thread is its owner's own, of one agent and one wire. It has one run at a time, and the next begins where the last
   has ended.
2. Of what a client shows as history, nothing is believed: the user's messages after the last one that the thread has
   are taken, and nothing else. A message is known by its id, so that the same request again runs nothing again.
3. The thread is told of a run in the act that makes sure that it has no other, before the run is made: a request that
   comes again finds the run, or makes the one that its forerunner had no time for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from agentkit.core.events import AgentEnd, Event, TurnStart, fold, read_event
from agentkit.core.ids import after_ids_of, new_id
from agentkit.core.messages import Json
from agentkit.core.record import RunState
from agentkit.core.run import Run
from agentkit.core.struct import digest, to_json
from agentkit.errors import (
    IdempotencyConflictError,
    InvalidRequestError,
    RunNotFoundError,
    RunNotPausedError,
    RunNotTerminalError,
    StoreUnavailableError,
)
from agentkit.loop import Answer
from agentkit.runs import RunHandle
from agentkit.server import access
from agentkit.server.state import state
from agentkit.store.protocol import StoredThread

__all__ = ["Conversation", "GivenAnswer", "Position", "UserMessage", "message_id"]

_MAX_ID = 500
_MAX_MESSAGES = 1000
"""How many of the last messages of a client's list are looked at."""
_TRIES = 5
_ABORT_SECONDS = 5.0
_OURS = re.compile(r"ak-\d+-\d+")

Content = str | list[Json]


def message_id(index: int, since: int) -> str:
    """Make the id of a run's message number `index`. It is the same in every run that has taken it as history.

    `since`: the timestamp of the last user message up to it. An answer that was cut is not taken over; what stands in
    its place in a later run comes after another user message.
    """
    return f"ak-{index}-{since}"


@dataclass(frozen=True, slots=True)
class UserMessage:
    """A message of the client's user, under the client's id."""

    id: str
    content: Content

    @classmethod
    def of(cls, message_id: str, content: Content) -> UserMessage:
        """Make one of content blocks, or of a text, which a single block of text is alike."""
        if isinstance(content, list) and len(content) == 1 and content[0]["type"] == "text":
            content = content[0]["text"]
        return cls(message_id, content)

    @property
    def name(self) -> str:
        return digest(self.id)

    @property
    def digest(self) -> str:
        return digest(self.content)


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """An answer to an item."""

    answer: Answer
    decision_id: str


@dataclass(frozen=True, slots=True)
class Position:
    """Where in which run's log the answer to a request begins.

    `since`: the seq before the first event that the request caused. `run`: as it stood before, with its messages where
    it was just made, and `messages`, how many it had. `how`: the request started it, answered items of it, sent a
    message into it, or did nothing, and the run as it stands is shown.
    """

    handle: RunHandle
    run: Run
    messages: int
    since: int
    how: Literal["started", "answered", "joined", "attached"]


class _MovedError(Exception):
    """Another request has extended the thread meanwhile."""


class Conversation:
    """A thread of the current request's caller, named by the client."""

    def __init__(self, wire: str, agent: str, thread_id: str) -> None:
        """Raises AgentNotFoundError, and InvalidRequestError for a name that is too long."""
        if not 0 < len(thread_id) <= _MAX_ID:
            raise InvalidRequestError(f"the thread's id must have 1 to {_MAX_ID} characters, not {len(thread_id)}")
        self._kit = state().kit
        self._kit.bind(agent)
        self._agent = agent
        self._thread_id = thread_id
        self._owner = access.principal()
        self._name = digest([wire, self._owner, agent, thread_id])

    def attach(self) -> Position | None:
        """Find the thread's last run, to show it; None where there is none."""
        stored = self._kit.store.thread(self._name)
        head = None if stored is None else self._load(stored.run_id)
        return None if head is None else self._attached(head)

    def take(
        self,
        messages: Sequence[UserMessage],
        find_answers: Callable[[Sequence[Json]], Sequence[GivenAnswer]],
        *,
        edits: bool = False,
    ) -> Position:
        """Carry out what a client has sent.

        `messages`: the user's in its list. `find_answers`: given the pending items of the thread's run, the answers to
        them. `edits`: the last message may be an edited one. Answers are given first, each for itself: where one is
        refused, those before it stay given.

        Raises what `AgentKit.start`, `answer` and `send` raise, InvalidRequestError where there is nothing to answer,
        and IdempotencyConflictError for a message that has changed.
        """
        messages = messages[-_MAX_MESSAGES:]
        if any(not 0 < len(message.id) <= _MAX_ID for message in messages):
            raise InvalidRequestError(f"the id of a message must have 1 to {_MAX_ID} characters")
        for _ in range(_TRIES):
            names = [message.name for message in messages]
            edit = f"edit-{digest([messages[-1].id, messages[-1].digest])}" if messages else ""
            stored = self._kit.store.thread(self._name, [*names, edit])
            new = _after_the_known(messages, stored)
            try:
                if not new and messages and stored and _is_changed(messages[-1], stored):
                    return self._edit(stored, messages[-1], edit, allowed=edits)
                return self._take(stored, messages, new, find_answers)
            except (_MovedError, RunNotPausedError) as error:
                if isinstance(error, RunNotPausedError) and not new:
                    raise
        raise StoreUnavailableError(f"others extend the thread {self._thread_id!r:.100} all the time: try again")

    def again(self, run_id: str | None, messages: Sequence[UserMessage]) -> Position:
        """Have a run of the thread answered anew, by default its last: another run begins as that one did.

        `messages`: the user's in the client's list. The run takes the place of the thread's last. Each run is answered
        anew once: asked for again, the thread's last run is shown. Raises RunNotFoundError for a run of another thread.
        """
        names = [message.name for message in messages[-_MAX_MESSAGES:]]
        stored = self._kit.store.thread(self._name, [*names, f"again-{run_id}"])
        if stored is None:
            raise InvalidRequestError("the conversation has no run that could be answered anew: send a message")
        target = run_id or stored.run_id
        if target not in {stored.run_id, *(message.run_id for message in stored.messages.values())}:
            raise RunNotFoundError(f"there is no run {target!r:.100} in this conversation")
        head = self._load(stored.run_id)
        name = f"again-{target}"
        if head is not None and (not head.record.terminal or name in stored.messages):
            return self._attached(head)
        try:
            return self._restart(stored, target, name, None)
        except _MovedError:
            return self.again(target, messages)

    # -- inside

    def _take(
        self,
        stored: StoredThread | None,
        messages: Sequence[UserMessage],
        new: Sequence[UserMessage],
        find_answers: Callable[[Sequence[Json]], Sequence[GivenAnswer]],
    ) -> Position:
        head = None if stored is None else self._load(stored.run_id)
        if stored is not None and head is None and self._was_never_made(stored.run_id):
            known = [
                message
                for message in messages
                if (bound := stored.messages.get(message.name)) is not None and bound.run_id == stored.run_id
            ]
            if known:  # who told the thread of the run had no time to make it
                return self._start(stored.run_id, stored.before, [*known, *new], stored.run_id, new)
        answers = [] if head is None else find_answers(to_json(head.record.pending))
        if head is not None and answers:
            position = self._answer(head, answers)
            if not new:
                return position
            head = self._load(head.record.id)
        if head is not None and not head.record.terminal and new and head.record.abort is not None:
            self._wait_for_end(head)
        elif head is not None and not head.record.terminal:
            return self._join(head, new) if new else self._attached(head)
        if new:
            last = None if stored is None else stored.run_id
            source = stored.before if head is None and stored is not None else last
            return self._start(new_id(self._kit.store.now()), source, new, last, new)
        if head is None:
            raise InvalidRequestError("there is no message of the user's to answer")
        return self._attached(head)

    def _was_never_made(self, run_id: str) -> bool:
        """Whether a run that is gone never was there: not one that was deleted, or so old that it may have expired."""
        store = self._kit.store
        oldest = store.now() - self._kit.settings.retention_seconds * 1000
        return run_id > after_ids_of(oldest) and not store.was_deleted(run_id)

    def _wait_for_end(self, head: RunState) -> None:
        """Wait for the end of a run that is being aborted: nothing that is sent into it would be seen any more."""
        try:
            self._kit.handle(head.record.id).wait(_ABORT_SECONDS)
        except TimeoutError:
            raise RunNotTerminalError(f"run {head.record.id} is being aborted, and has not ended: try again") from None

    def _load(self, run_id: str) -> RunState | None:
        """Read a run of the thread; None where it is gone. Raises RunNotFoundError where the caller may not read it."""
        try:
            found = self._kit.store.load(run_id)
        except RunNotFoundError:
            return None
        access.check(run_id, "read")
        return found

    def _attached(self, head: RunState) -> Position:
        return self._position(head, head.last_seq, "attached")

    def _position(self, head: RunState, since: int, how: Literal["answered", "joined", "attached"]) -> Position:
        record = head.record
        return Position(self._kit.handle(record.id), Run.of(head, None), record.messages, since, how)

    def _answer(self, head: RunState, answers: Sequence[GivenAnswer]) -> Position:
        run_id = head.record.id
        before = {item.decision_id for item in head.record.pending}
        since = head.last_seq
        is_new = True
        for each in answers:
            given = each.answer
            if each.decision_id not in before:
                known = self._kit.store.resolution(run_id, decision_id=each.decision_id, tool_call_id=None)
                if known is not None and known.item is not None and known.item.kind == "client_execute":
                    given = replace(given, kind="result" if given.kind == "decision" else given.kind)
            handle = self._kit.answer(
                run_id, given, decision_id=each.decision_id, permit=lambda item: self._check_item(run_id, item)
            )
            if each.decision_id not in before:
                is_new, since = False, min(since, handle.since)
        if is_new:
            return self._position(head, since, "answered")
        now = self._kit.store.load(run_id)  # it was answered before: by this request's forerunner, or by somebody else
        return self._position(now, since, "attached")

    def _check_item(self, run_id: str, decision_id: str | None) -> str | None:
        return access.check_item(run_id, "resume", tool_call_id=None, decision_id=decision_id)

    def _join(self, head: RunState, new: Sequence[UserMessage]) -> Position:
        """Send messages into the thread's run, which goes on: its next model call sees them."""
        run_id = head.record.id
        access.check(run_id, "message")
        since = head.last_seq
        for message in new:
            key = digest([self._name, message.id])
            handle = self._kit.send(run_id, message.content, "steer", idempotency_key=key, by=self._owner)
            since = min(since, handle.since)
            self._kit.store.extend_thread(self._name, run_id, run_id, {message.name: message.digest})
        return self._position(head, since, "joined")

    def _start(
        self,
        run_id: str,
        source: str | None,
        messages: Sequence[UserMessage],
        after: str | None,
        noted: Sequence[UserMessage],
    ) -> Position:
        """Make the thread's next run. `after`: the thread's last so far. `noted`: messages that the thread has not."""
        if source is not None and self._load(source) is None:
            source = None  # it was deleted, and its messages with it
        unsent = [] if source is None else self._unsent(source)
        contents = [*unsent, *(message.content for message in messages)]
        names = {message.name: message.digest for message in noted}
        if source is None and len(contents) > 1:
            words: Json = {"messages": [{"role": "user", "content": content} for content in contents]}
        else:
            joined = [block for content in contents for block in _blocks(content)]
            words = {"input": contents[0] if len(contents) == 1 else joined}
        return self._begin(run_id, after, names, from_run=source, permit_source=access.check_source, **words)

    def _unsent(self, run_id: str) -> list[Content]:
        """List what was sent into a run and came into no turn of it: the next one answers it."""
        page = self._kit.store.events(run_id, self._kit.store.load(run_id).last_seq - 1, 1)
        last = read_event(page.events[0].data) if page.events else None
        unsent = last.unsent if isinstance(last, AgentEnd) else None
        return [to_json(message.message) for message in unsent or ()]

    def _begin(self, run_id: str, after: str | None, names: Mapping[str, str], **words: Any) -> Position:
        def permit(run: Run) -> None:
            access.check_start(run)
            if (names or run_id != after) and not self._kit.store.extend_thread(self._name, run_id, after, names):
                raise _MovedError

        handle = self._kit.start(
            self._agent,
            metadata={"threadId": self._thread_id},
            run_id=run_id,
            owner=self._owner,
            permit=permit,
            **words,
        )
        run = handle.written or handle.run
        return Position(self._kit.handle(run.id), run, 0, 0, "started")

    def _edit(self, stored: StoredThread, message: UserMessage, name: str, *, allowed: bool) -> Position:
        if not allowed:
            raise IdempotencyConflictError(
                f"the message {message.id!r:.100} was sent before with another content: give a new message a new id"
            )
        head = self._load(stored.run_id)
        if head is not None and (not head.record.terminal or name in stored.messages):
            return self._attached(head)
        return self._restart(stored, stored.messages[message.name].run_id, name, message)

    def _restart(self, stored: StoredThread, run_id: str, name: str, edited: UserMessage | None) -> Position:
        """Begin a run as another of the thread began, or with its last message edited.

        `name`: what the thread notes of it. Where it has that already, who noted it had no time to make the run.
        """
        history = self._beginning(run_id)
        if edited is not None:
            if digest(history[-1]["content"]) != stored.messages[edited.name].digest:
                raise InvalidRequestError("this message was sent into a run that went on: it cannot be edited any more")
            history = [*history[:-1], {"role": "user", "content": edited.content}]
        if name in stored.messages:
            return self._begin(stored.run_id, stored.run_id, {}, messages=history)
        return self._begin(new_id(self._kit.store.now()), stored.run_id, {name: ""}, messages=history)

    def _beginning(self, run_id: str) -> list[Json]:
        """Read the messages that a run began with, from its log."""
        if self._load(run_id) is None:
            raise RunNotFoundError(f"there is no run {run_id}")
        events: list[Event] = []
        for stored in self._kit.store.events(run_id, 0, 100).events:
            event = read_event(stored.data)
            if isinstance(event, TurnStart):
                return [to_json(message) for message in fold(events)]
            events.append(event)
        raise InvalidRequestError(f"the first events of run {run_id} are no longer kept: it cannot be answered anew")


def _after_the_known(messages: Sequence[UserMessage], stored: StoredThread | None) -> Sequence[UserMessage]:
    """List the messages after the last one that the thread has."""
    known = {} if stored is None else stored.messages
    for place in range(len(messages) - 1, -1, -1):
        if messages[place].name in known or _OURS.fullmatch(messages[place].id):
            return messages[place + 1 :]
    return messages


def _is_changed(message: UserMessage, stored: StoredThread) -> bool:
    known = stored.messages.get(message.name)
    return known is not None and known.digest != message.digest


def _blocks(content: Content) -> list[Json]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
