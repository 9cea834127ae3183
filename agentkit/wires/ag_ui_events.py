"""AG-UI 1.0: the log's events as events of the published package.

One agentkit run may be several AG-UI runs: each request is one, and it ends where the run pauses. Its ids are the
client's, which knows no others; the id of agentkit's run is in the metadata of RUN_STARTED and in the state.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ag_ui import core
from ag_ui.encoder import EventEncoder

from agentkit.core.messages import Json
from agentkit.core.run import Run
from agentkit.wires.ag_ui_messages import arguments_text, interrupt_of, messages_of, shown_content
from agentkit.wires.conversation import message_id
from agentkit.wires.translator import text_of_blocks

__all__ = ["PROTOCOL_VERSION", "AgUiTranslator", "ClientView"]

PROTOCOL_VERSION = "1.0"
_ENCODER = EventEncoder()
_SILENT = frozenset({"agent_resume", "tool_execution_end", "tool_decision_pending", "tool_client_execute_pending"})
"""What says nothing that an event of AG-UI does not say elsewhere: the interrupts name all that waits."""


@dataclass(frozen=True)
class ClientView:
    """What the client has already, as its request shows it. It is believed in nothing but the ids.

    `ids`: of its messages, in their order. `user`: the ids and contents of its user's messages. `results`: by the ids
    of their tool calls, those of its tool messages.
    """

    ids: Sequence[str] = ()
    user: Sequence[tuple[str, str | list[Json]]] = ()
    results: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Open:
    """An assistant's message that streams."""

    id: str
    text: bool = False
    reasoning: dict[int, str] = field(default_factory=dict)
    calls: dict[int, str] = field(default_factory=dict)
    empty_calls: set[int] = field(default_factory=set)


class AgUiTranslator:
    """Translates from one place of a log on.

    `thread_id`, `run_id`: the client's. `agent_run`: agentkit's run. `before`: the messages that the run has there;
    None where its first event is to come. `resync`: whether the client's messages are to be replaced by the server's.
    `pauses_after`: pauses up to this seq are over. `front_end_tools`: what the client says that it can execute.
    `state`: the client's, to which the run's is added; None where it is no object. `messages`: reads the first so many
    of the run's messages.
    """

    def __init__(
        self,
        *,
        thread_id: str,
        run_id: str,
        agent_run: str,
        before: Sequence[Json] | None,
        messages: Callable[[int], Sequence[Json]],
        resync: bool = False,
        pauses_after: int = 0,
        front_end_tools: Collection[str] = (),
        client: ClientView | None = None,
        state: Json | None = None,
    ) -> None:
        self._thread_id = thread_id
        self._run_id = run_id
        self._agent_run = agent_run
        self._before = before or ()
        self._count = len(self._before)
        self._since = _last_user_timestamp(self._before)
        self._begun = before is not None
        self._messages = messages
        self._resync = resync
        self._pauses_after = pauses_after
        self._front_end_tools = frozenset(front_end_tools)
        self._client = client or ClientView()
        self._sent: set[str] = set()
        self._state = state
        self._open: _Open | None = None
        self._step: str | None = None
        self._usage: dict[tuple[str, str], core.TokenUsage] = {}
        self.ended = False

    def begin(self) -> Iterator[core.BaseEvent]:
        yield core.RunStartedEvent(
            thread_id=self._thread_id,
            run_id=self._run_id,
            protocol_version=PROTOCOL_VERSION,
            metadata={"agentkit": {"runId": self._agent_run}},
        )
        yield from self._state_snapshot("running", [])
        if self._begun and self._resync:
            yield core.MessagesSnapshotEvent(messages=self._shown(self._before))
        self._before = ()

    def reads_store(self, data: bytes) -> bool:
        head = data[:100]
        is_first = self._resync and not self._begun and (b'"turn_start"' in head or b'"agent_' in head)
        return is_first or b'"message_discard"' in head

    def translate(self, seq: int, event: Json) -> Iterator[core.BaseEvent]:
        kind = event["type"]
        match kind:
            case "agent_start":
                self._count = len(event["messages"])
                self._since = _last_user_timestamp(event["messages"])
            case "turn_start":
                yield from self._show_beginning()
                yield from self._open_step(event["turn"])
            case "turn_end":
                yield from self._close_step()
            case "message_start" if event["message"]["role"] == "assistant":
                self._open = _Open(message_id(self._count, self._since))
            case "message_start":
                pass
            case "message_update":
                if self._open is not None:
                    yield from self._update(self._open, event["assistantMessageEvent"])
            case "message_discard":
                yield from self._close_message()
                yield from self._snapshot()
            case "message_end":
                yield from self._message(event["message"])
            case "stream_reset":
                yield from self._reset(event["run"])
            case "agent_pause":
                if seq > self._pauses_after:
                    yield from self._finish_paused(event["pending"])
            case "agent_end":
                yield from self._finish_ended(event["status"], event.get("error"))
            case _ if kind not in _SILENT:
                yield core.CustomEvent(name=f"agentkit.{kind}", value=event)

    def finish(self, run: Run | None) -> Iterator[core.BaseEvent]:
        if run is None:
            yield from self._fail("run_not_found", "the run was deleted")
        elif run.ended:
            yield from self._finish_ended(run.status, run.error)
        elif run.status == "paused":
            yield from self._finish_paused(run.pending)
        else:
            yield from self.cut()

    def cut(self) -> Iterator[core.BaseEvent]:
        yield from self._fail("disconnected", "the connection to the run was lost: run again to go on with it")

    def encode(self, frame: core.BaseEvent) -> bytes:
        return _ENCODER.encode(frame).encode()

    def close(self) -> bytes:
        return b""

    # -- messages

    def _message(self, message: Json) -> Iterator[core.BaseEvent]:
        """Translate a whole message, of which nothing, a part or all has streamed."""
        if message["role"] == "user":
            self._since = message["timestamp"]
        own_id = message_id(self._count, self._since)
        self._count += 1
        match message["role"]:
            case "assistant":
                if self._open is None:
                    self._open = _Open(own_id)
                    for index, block in enumerate(message["content"]):
                        yield from self._whole_block(self._open, index, block)
                yield from self._close_message()
                self._add_usage(message)
            case "toolResult" if message["toolCallId"] not in self._client.results:
                yield core.ToolCallResultEvent(
                    message_id=own_id,
                    tool_call_id=message["toolCallId"],
                    content=shown_content(message["content"]),
                    role="tool",
                    metadata={"agentkit": {"isError": True}} if message["isError"] else None,
                )
            case "user" if self._begun and not any(content == message["content"] for _, content in self._client.user):
                yield core.TextMessageStartEvent(message_id=own_id, role="user")
                yield core.TextMessageContentEvent(message_id=own_id, delta=text_of_blocks(message["content"]))
                yield core.TextMessageEndEvent(message_id=own_id)
        self._sent.add(own_id)

    def _whole_block(self, message: _Open, index: int, block: Json) -> Iterator[core.BaseEvent]:
        match block["type"]:
            case "text":
                yield from self._update(message, {"type": "text_start", "contentIndex": index})
                yield from self._update(message, {"type": "text_delta", "contentIndex": index, "delta": block["text"]})
            case "thinking":
                yield from self._update(message, {"type": "thinking_start", "contentIndex": index})
                delta = {"type": "thinking_delta", "contentIndex": index, "delta": block["thinking"]}
                yield from self._update(message, delta)
                yield from self._update(message, {"type": "thinking_end", "contentIndex": index})
            case "toolCall":
                yield from self._update(message, {"type": "toolcall_start", "contentIndex": index, "toolCall": block})
                yield from self._update(message, {"type": "toolcall_end", "contentIndex": index, "toolCall": block})

    def _update(self, message: _Open, update: Json) -> Iterator[core.BaseEvent]:
        index, delta = update["contentIndex"], update.get("delta") or ""
        match update["type"]:
            case "text_start" if not message.text:
                message.text = True
                yield core.TextMessageStartEvent(message_id=message.id, role="assistant")
            case "text_delta":
                yield core.TextMessageContentEvent(message_id=message.id, delta=delta)
            case "thinking_start":
                span = message.reasoning[index] = f"{message.id}-r{index}"
                yield core.ReasoningStartEvent(message_id=span)
                yield core.ReasoningMessageStartEvent(message_id=span, role="reasoning")
            case "thinking_delta" if index in message.reasoning:
                yield core.ReasoningMessageContentEvent(message_id=message.reasoning[index], delta=delta)
            case "thinking_end" if index in message.reasoning:
                yield from _end_reasoning(message.reasoning.pop(index))
            case "toolcall_start":
                call = update["toolCall"]
                message.calls[index] = call["id"]
                message.empty_calls.add(index)
                yield core.ToolCallStartEvent(
                    tool_call_id=call["id"], tool_call_name=call["name"], parent_message_id=message.id
                )
            case "toolcall_delta" if index in message.calls and delta:
                message.empty_calls.discard(index)
                yield core.ToolCallArgsEvent(tool_call_id=message.calls[index], delta=delta)
            case "toolcall_end" if index in message.calls:
                call_id = message.calls.pop(index)
                if index in message.empty_calls:
                    yield core.ToolCallArgsEvent(tool_call_id=call_id, delta=arguments_text(update["toolCall"]))
                yield core.ToolCallEndEvent(tool_call_id=call_id)

    def _close_message(self) -> Iterator[core.BaseEvent]:
        """End what streams."""
        message, self._open = self._open, None
        if message is None:
            return
        for span in message.reasoning.values():
            yield from _end_reasoning(span)
        for call_id in message.calls.values():
            yield core.ToolCallEndEvent(tool_call_id=call_id)
        if message.text:
            yield core.TextMessageEndEvent(message_id=message.id)

    def _reset(self, run: Json) -> Iterator[core.BaseEvent]:
        """Go on from where a log begins that is not kept whole."""
        yield from self._close_message()
        self._count, self._begun = len(run["messages"]), True
        self._since = _last_user_timestamp(run["messages"])
        yield core.MessagesSnapshotEvent(messages=self._shown(run["messages"]))

    def _show_beginning(self) -> Iterator[core.BaseEvent]:
        """Show what a run begins with to a client that lacks it, once."""
        if not self._begun:
            self._begun = True
            if self._resync:
                yield from self._snapshot()

    def _snapshot(self) -> Iterator[core.BaseEvent]:
        yield core.MessagesSnapshotEvent(messages=self._shown(self._messages(self._count)))

    def _shown(self, messages: Sequence[Json]) -> list[Any]:
        """Show the run's messages, under the client's ids where it has them.

        A client puts a message that it lacks after all that it has. So behind the first such one, messages of its own
        get the server's ids: it removes them then, and has them again in their place.
        """
        user = list(self._client.user)
        has = {*self._client.ids, *self._sent}
        in_place = True
        since = 0
        shown: list[Any] = []
        for index, message in enumerate(messages):
            if message["role"] == "user":
                since = message["timestamp"]
                at = next((at for at, (_, content) in enumerate(user) if content == message["content"]), None)
                theirs = None if at is None else user.pop(at)[0]
            else:
                theirs = self._client.results.get(message.get("toolCallId", ""))
            own_id = theirs if theirs is not None and in_place else message_id(index, since)
            each = list(messages_of(message, own_id))
            in_place = in_place and all(part.id in has for part in each)
            shown += each
        return shown

    # -- the end of a stream

    def _open_step(self, turn: int) -> Iterator[core.BaseEvent]:
        yield from self._close_step()
        self._step = f"turn {turn}"
        yield core.StepStartedEvent(step_name=self._step)

    def _close_step(self) -> Iterator[core.BaseEvent]:
        step, self._step = self._step, None
        if step is not None:
            yield core.StepFinishedEvent(step_name=step)

    def _finish_paused(self, pending: Sequence[Json]) -> Iterator[core.BaseEvent]:
        front_end = [item["toolCallId"] for item in pending if self._is_front_end(item)]
        interrupts = [interrupt_of(item) for item in pending if not self._is_front_end(item)]
        if not pending:
            yield from self.cut()  # a sub-agent's run has gone on, and this one has not learned it yet
            return
        yield from self._close_all("paused", pending)
        outcome: core.RunFinishedOutcome
        if interrupts:
            outcome = core.RunFinishedInterruptOutcome(interrupts=interrupts)
        else:
            outcome = core.RunFinishedSuccessOutcome(pending_tool_call_ids=front_end)
        yield self._finished(outcome)

    def _is_front_end(self, item: Json) -> bool:
        """Whether the client is to execute the tool, and has said that it can; it sees no calls of sub-agents."""
        is_own = item["kind"] == "client_execute" and "runId" not in item
        return is_own and item["toolName"] in self._front_end_tools

    def _finish_ended(self, status: str, error: Json | None) -> Iterator[core.BaseEvent]:
        if status == "failed":
            error = error or {"code": "failed", "message": "the run has failed"}
            yield from self._fail(error["code"], error["message"])
            return
        yield from self._close_all(status, [])
        is_done = status == "completed"
        yield self._finished(core.RunFinishedSuccessOutcome() if is_done else core.RunFinishedCancelledOutcome())

    def _fail(self, code: str, message: str) -> Iterator[core.BaseEvent]:
        yield from self._close_all("failed", [])
        self.ended = True
        yield core.RunErrorEvent(message=message, code=code, usage=list(self._usage.values()) or None)

    def _close_all(self, status: str, pending: Sequence[Json]) -> Iterator[core.BaseEvent]:
        yield from self._show_beginning()
        yield from self._close_message()
        yield from self._close_step()
        yield from self._state_snapshot(status, pending)

    def _finished(self, outcome: core.RunFinishedOutcome) -> core.BaseEvent:
        self.ended = True
        return core.RunFinishedEvent(
            thread_id=self._thread_id,
            run_id=self._run_id,
            outcome=outcome,
            usage=list(self._usage.values()) or None,
        )

    def _state_snapshot(self, status: str, pending: Sequence[Json]) -> Iterator[core.BaseEvent]:
        if self._state is not None:
            run = {"runId": self._agent_run, "status": status, "pending": list(pending)}
            yield core.StateSnapshotEvent(snapshot={**self._state, "agentkit": run})

    def _add_usage(self, message: Json) -> None:
        """Add what an answer used to the sum of its model. AG-UI counts what was cached among the input."""
        usage = message["usage"]
        which = (message["provider"], message["model"])
        total = self._usage.get(which) or core.TokenUsage(provider=which[0], model=which[1])
        read, written = usage["cacheRead"], usage["cacheWrite"]
        total.input_tokens = (total.input_tokens or 0) + usage["input"] + read + written
        total.output_tokens = (total.output_tokens or 0) + usage["output"]
        total.cached_input_tokens = (total.cached_input_tokens or 0) + read
        total.cache_write_input_tokens = (total.cache_write_input_tokens or 0) + written
        total.total_tokens = total.input_tokens + total.output_tokens
        self._usage[which] = total


def _last_user_timestamp(messages: Sequence[Json]) -> int:
    return next((int(message["timestamp"]) for message in reversed(messages) if message["role"] == "user"), 0)


def _end_reasoning(span: str) -> Iterator[core.BaseEvent]:
    yield core.ReasoningMessageEndEvent(message_id=span)
    yield core.ReasoningEndEvent(message_id=span)
