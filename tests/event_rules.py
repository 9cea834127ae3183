"""The rules that every run's log must keep, checked in one place.

`check_log` reads a log as a client would, as JSON, and fails at the first event that has not its shape or
breaks a rule; it knows nothing of how the log was made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from agentkit.core.events import Event, fold
from agentkit.core.messages import Json, Usage, add_usage
from agentkit.core.struct import check, to_json
from agentkit.errors import InvalidRequestError

__all__ = ["check_log", "shape"]

_PENDING = ("tool_decision_pending", "tool_client_execute_pending", "tool_in_doubt")
_ENDED = ("completed", "failed", "aborted")


def check_log(events: Sequence[Json], messages: Sequence[Json], status: str | None = None) -> None:
    """Check a whole log, from its first event on, against the rules and against the run's messages.

    `status`: that of the run, where it is known; a queued, running or paused run may have things open.
    """
    log = _Log()
    read: list[Event] = []
    for at, event in enumerate(events):
        try:
            read.append(check(event, Event, "event"))
            assert to_json(read[-1]) == event, "an event has the shape that its structure says"
            log.take(event)
        except (AssertionError, InvalidRequestError) as error:
            context = "\n".join(f"  {e.get('seq')} {_summary(e)}" for e in events[max(0, at - 8) : at + 1])
            raise AssertionError(f"event {at + 1} breaks a rule: {error}\n{context}") from error
    assert to_json(fold(read)) == list(messages), "folding law: the log does not fold into the run's messages"
    if status is not None:
        assert log.ended == (status in _ENDED), f"the run is {status}, but its log says ended: {log.ended}"
        if status == "paused":
            assert log.paused, "the run is paused, and its log does not say so"
            assert log.pending or log.delegated, "the run is paused with nothing pending"


def shape(events: Sequence[Json]) -> list[str]:
    """The log in short: types, with the role of messages; runs of message_update as one."""
    short: list[str] = []
    for event in events:
        kind = event["type"]
        if kind in ("message_start", "message_end"):
            kind = f"{event['message']['role']} {kind}"
        if kind != "message_update" or not short or short[-1] != kind:
            short.append(kind)
    return short


def _summary(event: Json) -> str:
    more = {k: v for k, v in event.items() if k in ("turn", "toolCallId", "decisionId", "outcome", "reason", "status")}
    return f"{event['type']} {more or ''}"


class _Log:
    """What a reader knows after the events so far."""

    def __init__(self) -> None:
        self.seq = 0
        self.started = self.ended = self.paused = False
        self.turn = 0
        self.in_turn = False
        self.usage = Usage.of()
        self.delegated: set[str] = set()
        self.open: dict[str, Any] | None = None
        self.blocks_open: set[int] = set()
        self.assistant: Any = None
        self.calls: list[str] = []
        self.results: list[Json] = []
        self.executing: set[str] = set()
        self.executed: set[str] = set()
        self.in_doubt: set[str] = set()
        self.pending: dict[str, tuple[str, str]] = {}
        self.consumed: set[str] = set()
        self.voters: dict[str, list[str]] = {}
        self.answered: set[str] = set()

    def take(self, event: Json) -> None:
        kind = event["type"]
        assert not self.ended, "nothing comes after agent_end"
        assert self.started != (kind == "agent_start"), "agent_start is first, and there once"
        if "seq" in event:
            assert event["seq"] == self.seq + 1, f"seq {event['seq']} after {self.seq}"
            self.seq = event["seq"]
            assert isinstance(event["timestamp"], int)
        if self.open is not None:
            assert kind in (
                "message_update",
                "message_end",
                "message_discard",
                "model_retry",
                "model_wait",
            ), "a message is open"
        handler: Callable[[Json], None] = getattr(self, f"_{kind}", self._pending if kind in _PENDING else self._other)
        handler(event)

    def _other(self, event: Json) -> None:
        raise AssertionError(f"an event of the unknown type {event['type']!r}")

    # -- the run

    def _agent_start(self, event: Json) -> None:
        assert event["runId"]
        assert event["agent"]
        self.started = True

    def _agent_pause(self, event: Json) -> None:
        assert not self.paused, "paused twice"
        assert self.in_turn, "a pause does not end a turn"
        waiting = {call for call, _ in self.pending.values()}
        executing = self.executing - waiting - self.delegated - self.in_doubt
        assert not executing, f"{executing} still execute"
        own = [item for item in event["pending"] if "runId" not in item]  # a sub-agent's item names its run
        assert sorted(item["decisionId"] for item in own) == sorted(self.pending), "agent_pause shows what is pending"
        order = [self.calls.index(item["toolCallId"]) for item in own]
        assert order == sorted(order), "pending items stand in the order of their calls"
        assert event["pending"], "a pause waits for something"
        self.paused = True

    def _agent_resume(self, event: Json) -> None:
        assert self.paused, "agent_resume without agent_pause"
        continued = set(event["toolCallIds"])
        assert continued, "agent_resume says which calls were answered"
        assert continued <= self.answered | self.delegated
        assert continued <= self.delegated or not self.pending, "a run continues when its last item is answered"
        self.in_doubt -= continued
        self.paused = False

    def _agent_end(self, event: Json) -> None:
        assert not self.in_turn, "turn_end comes before agent_end"
        assert event["status"] in _ENDED
        assert ("error" in event) == (event["status"] != "completed")
        assert event["usage"] == to_json(self.usage), "the run's usage is the sum of its messages'"
        self.ended = True

    # -- turns

    def _turn_start(self, event: Json) -> None:
        assert not self.in_turn, "turns do not nest"
        assert not self.paused
        assert event["turn"] == self.turn + 1, "turns count from 1"
        self.turn, self.in_turn = event["turn"], True
        self.assistant, self.calls, self.results = None, [], []
        self.executed, self.answered = set(), set()

    def _turn_end(self, event: Json) -> None:
        assert self.in_turn
        assert event["turn"] == self.turn
        assert not self.executing, f"{self.executing} have no end"
        assert self.assistant is not None, "a turn has its assistant message"
        assert event["message"] == self.assistant
        assert event["toolResults"] == self.results
        self.in_turn = False
        self.pending.clear()

    # -- messages

    def _message_start(self, event: Json) -> None:
        message = event["message"]
        match message["role"]:
            case "user":
                assert not self.in_turn, "user messages stand between turns"
            case "assistant":
                assert self.in_turn
                assert self.assistant is None, "a turn has one assistant message"
                assert message["content"] == [], "the assistant's message starts empty"
            case _:
                self._check_result(message)
        self.open = {**message, "content": list(message["content"])} if message["role"] == "assistant" else message

    def _check_result(self, message: Any) -> None:
        call = message["toolCallId"]
        assert call in self.calls, "a result answers a call of its turn"
        assert call not in self.executing, "its execution has ended"
        assert call not in {pending for pending, _ in self.pending.values()}, "its item was answered"
        before = [self.calls.index(result["toolCallId"]) for result in self.results]
        assert all(at < self.calls.index(call) for at in before), "results stand in the order of the calls"

    def _message_update(self, event: Json) -> None:
        assert self.open is not None, "an update of no message"
        assert self.open["role"] == "assistant", "only the assistant streams"
        update = event["assistantMessageEvent"]
        kind, phase = update["type"].rsplit("_", 1)
        at, content = update["contentIndex"], self.open["content"]
        assert "partial" not in update
        assert "message" not in event, "an update carries only the delta"
        if phase == "start":
            assert at == len(content), "blocks start in order"
            content.append({"type": kind, "text": ""})
            self.blocks_open.add(at)
            return
        assert at in self.blocks_open, "an open block"
        assert content[at]["type"] == kind
        if phase == "delta":
            assert update["delta"] != ""
            content[at]["text"] += update["delta"]
        else:
            self.blocks_open.remove(at)
            content[at]["call"] = update.get("toolCall")

    def _message_end(self, event: Json) -> None:
        message = event["message"]
        assert self.open is not None, "message_end without message_start"
        assert self.open["role"] == message["role"]
        if message["role"] == "assistant":
            self._check_stream(message)
            self.assistant = message
            self.calls = [block["id"] for block in message["content"] if block["type"] == "toolCall"]
            self.usage = add_usage(self.usage, check(message["usage"], Usage))
        else:
            assert self.open == message
        if message["role"] == "toolResult":
            self.results.append(message)
            if message["toolCallId"] in self.delegated:  # a sub-agent's result carries what its run used
                used = message.get("details", {}).get("usage")
                self.usage = add_usage(self.usage, check(used, Usage) if used else Usage.of())
        self.open = None
        self.blocks_open.clear()

    def _check_stream(self, message: Any) -> None:
        assert self.open is not None
        streamed = self.open["content"]
        assert len(streamed) == len(message["content"]), "the stream shows every block"
        assert not self.blocks_open, "every block ends"
        for got, block in zip(streamed, message["content"], strict=True):
            match block["type"]:
                case "toolCall":
                    assert got["type"] == "toolcall"
                    shown = got.get("call")
                    assert shown is not None
                    assert (shown["id"], shown["name"]) == (block["id"], block["name"])
                    assert shown["arguments"] == block["arguments"]
                case kind:
                    assert got["type"] == kind
                    assert got["text"] == block[kind], "deltas fold into the message"

    def _message_discard(self, event: Json) -> None:
        assert self.open is not None
        assert self.open["role"] == "assistant"
        self.open = None
        self.blocks_open.clear()

    def _model_retry(self, event: Json) -> None:
        assert self.in_turn

    def _model_wait(self, event: Json) -> None:
        assert self.in_turn
        assert event["reason"]
        assert event["delayMs"] >= 0

    # -- tools

    def _tool_execution_start(self, event: Json) -> None:
        call = event["toolCallId"]
        assert not self.paused, "nothing executes while the run is paused"
        assert call in self.calls
        assert call not in self.executed, "a tool call has one start"
        assert call not in {pending for pending, _ in self.pending.values()}, "its item was answered"
        self.executing.add(call)
        self.executed.add(call)

    def _tool_execution_update(self, event: Json) -> None:
        assert event["toolCallId"] in self.executing
        if isinstance(event["partialResult"], dict) and event["partialResult"].keys() == {"runId"}:
            self.delegated.add(event["toolCallId"])

    def _tool_execution_end(self, event: Json) -> None:
        assert event["toolCallId"] in self.executing, "an end has its start"
        assert "content" in event["result"]
        self.executing.remove(event["toolCallId"])
        self.in_doubt.discard(event["toolCallId"])

    def _pending(self, event: Json) -> None:
        call, decision = event["toolCallId"], event["decisionId"]
        assert call in self.calls
        assert decision not in self.pending
        assert decision not in self.consumed
        assert call not in {pending for pending, _ in self.pending.values()}, "a call waits for one answer at a time"
        assert event["type"] != "tool_in_doubt" or call in self.executing, "in doubt is what was executing"
        self.pending[decision] = (call, event["type"])
        if event["type"] == "tool_in_doubt":  # also when it is answered, until the run continues
            self.in_doubt.add(call)

    def _tool_decision_vote(self, event: Json) -> None:
        decision, voters = event["decisionId"], self.voters.setdefault(event["decisionId"], [])
        assert self.pending[decision] == (event["toolCallId"], "tool_decision_pending"), "votes are for pending items"
        assert event["decidedBy"] not in voters, "a principal has one vote"
        voters.append(event["decidedBy"])
        assert event["votes"] == len(voters) < event["approvals"], "the last vote resolves the item"

    def _tool_decision_resolved(self, event: Json) -> None:
        decision = event["decisionId"]
        assert decision not in self.consumed, "an item is consumed once"
        voters = self.voters.pop(decision, [])
        if event.get("remembered"):
            assert event["toolCallId"] in self.calls
            assert decision not in self.pending, "nobody was asked"
            assert event["outcome"] in ("decided", "rejected")
            self.consumed.add(decision)
            return
        if "votes" in event:
            assert [vote["decidedBy"] for vote in event["votes"]][: len(voters)] == voters, "it shows all votes"
        assert decision in self.pending, "an item is pending before it is answered"
        call, _ = self.pending.pop(decision)
        assert call == event["toolCallId"]
        assert event["outcome"] in ("decided", "rejected", "expired")
        self.consumed.add(decision)
        self.answered.add(call)
