"""A kit under test: `with kit.testing(…) as testing`.

The kit itself is used, the object that the application imports: within the context it has a store in memory, models
that stand in for its own, and whoever calls it executes what becomes due before the call returns. So nothing is to be
waited for: what is due later becomes due when the test moves the clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from agentkit.agents import BoundAgent
from agentkit.core.forks import ForkSafeLock
from agentkit.core.messages import Json
from agentkit.errors import ConfigurationError, DecisionNotFoundError, InvalidRequestError
from agentkit.queue.protocol import InlineQueue
from agentkit.runs import Run, RunHandle
from agentkit.runtime import commands
from agentkit.runtime.engine import Engine
from agentkit.runtime.inline import Inline
from agentkit.testing.models import AgentRequest, Models, StandIn
from agentkit.testing.store import Clock, TestingStore

if TYPE_CHECKING:
    from agentkit.kit import AgentKit

__all__ = ["Testing", "ToolCall"]

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call of a run. `text`: of its result, which is None while there is none, as `is_error` is.

    `details`: what the tool gave for clients alone.
    """

    id: str
    name: str
    arguments: Json
    text: str | None = None
    is_error: bool | None = None
    details: Any = None


class Testing:
    """The context of `kit.testing`, and what a test asks of it.

    A run is named by its id, or by what has one as `id`: a Run, a RunHandle. What is wrong with the test (a model
    without a stand-in, an exception of a model function, with `raise_tool_errors` one of a tool, and always a
    KeyboardInterrupt or `pytest.fail` in a tool) is raised by the call that executed it; the run, and those that wait
    for it, are aborted if it has not ended. After the context its runs can still be read here.
    """

    __test__ = False  # it is no test case, whatever pytest takes its name for

    def __init__(
        self,
        kit: AgentKit,
        model: StandIn | Mapping[str, StandIn] | None = None,
        *,
        raise_tool_errors: bool = False,
    ) -> None:
        self._kit = kit
        self._raise_tool_errors = raise_tool_errors
        self._models = Models(model, [bound.name for bound in kit.agents], self._record_error)
        self._clock = Clock()
        self._queue = InlineQueue()
        self._engine: Engine | None = None
        self._lock = ForkSafeLock()
        self._errors: list[BaseException] = []
        self._drains = 0

    def __enter__(self) -> Self:
        if self._engine is not None:
            raise ConfigurationError("a testing context is entered once: call kit.testing(…) for another")
        settings = self._kit.settings
        store = TestingStore(
            retention_seconds=settings.retention_seconds, max_events=settings.max_events, clock=self._clock.now
        )
        # Each delta is written as it comes: what is merged would depend on how fast the machine is.
        settings = replace(settings, flush_seconds=0.0)
        self._kit.substitute(self)
        try:
            self._engine = self._kit.engine_with(store, self._queue, settings, Inline(self._tool_failed))
            store.heartbeat("testing", 10**14)
        except BaseException:
            self._kit.substitute(None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._kit.substitute(None)
        if error is None:
            self._raise_error()

    # -- what the kit asks

    @property
    def engine(self) -> Engine:
        """The engine that the kit works with meanwhile."""
        assert self._engine is not None, "enter the context first: with kit.testing(…) as testing"
        return self._engine

    def bind(self, bound: BoundAgent) -> BoundAgent:
        """Return the agent with the models of the test."""
        return self._models.bind(bound)

    def drain(self) -> None:
        """Execute what the calling thread has made due, and what is due by the clock."""
        with self._lock:
            self._drains += 1
        try:
            self._execute_due()
        finally:
            with self._lock:
                self._drains -= 1

    # -- the test's clock

    @property
    def now(self) -> datetime:
        """The time by which all times of runs go: it stands still until it is moved."""
        return datetime.fromtimestamp(self._clock.ms / 1000, UTC)

    def advance(self, seconds: float | timedelta) -> None:
        """Move the clock, and execute what becomes due on the way, each at its time.

        Decisions expire, retries that wait are made, runs use up their time, and ended ones are forgotten.
        Raises InvalidRequestError for a time before now.
        """
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        if not seconds >= 0:
            raise InvalidRequestError(f"the clock of a test cannot be moved by {seconds} seconds: time goes on")
        target = self._clock.ms + round(seconds * 1000)
        store = self.engine.store
        assert isinstance(store, TestingStore)
        while (due := store.next_due()) is not None and due <= target:
            self._clock.ms = max(self._clock.ms, int(due) + (due % 1 > 0))
            self.drain()
        self._clock.ms = max(self._clock.ms, target)
        self.drain()

    # -- what people do

    def decide(
        self,
        run: str | Run | RunHandle,
        decision: Any = None,
        *,
        tool: str | None = None,
        reject: str | None = None,
        result: Any = None,
        input: Json | None = None,
        tool_call_id: str | None = None,
        decision_id: str | None = None,
        decided_by: str | None = None,
        remember: bool = False,
    ) -> Run:
        """Answer a pending item of a run as `kit.resume` does, and return the run as it is then.

        `tool`: the name of the tool whose call waits, where several do. Raises what `resume` does, and
        DecisionNotFoundError where no such tool waits.
        """
        run_id = _id_of(run)
        if tool is not None:
            waiting = [item for item in self._run(run_id).pending if item["toolName"] == tool]
            if not waiting:
                raise DecisionNotFoundError(f"no call of the tool {tool!r} waits in run {run_id}")
            decision_id = decision_id or waiting[0]["decisionId"]
        handle = self._kit.resume(
            run_id,
            decision,
            reject=reject,
            result=result,
            input=input,
            tool_call_id=tool_call_id,
            decision_id=decision_id,
            decided_by=decided_by,
            remember=remember,
        )
        return handle.run

    # -- what there is to assert

    @property
    def requests(self) -> list[AgentRequest]:
        """What models were asked, in that order."""
        return list(self._models.requests)

    def events(self, run: str | Run | RunHandle, type: str | Iterable[str] | None = None) -> list[Json]:
        """The events that are in a run's log, as the protocol has them; those of a type, or of several."""
        types = None if type is None else {type} if isinstance(type, str) else set(type)
        found: list[Json] = []
        seq, store = 0, self.engine.store
        while page := store.events(_id_of(run), seq, _PAGE).events:
            seq = page[-1].seq
            found += [json.loads(event.data) for event in page]
        return [event for event in found if types is None or event["type"] in types]

    def tool_calls(self, run: str | Run | RunHandle, name: str | None = None) -> list[ToolCall]:
        """The tool calls of a run, in the order in which the model made them; those of one tool."""
        messages = self._run(_id_of(run)).messages or []
        results = {message["toolCallId"]: message for message in messages if message["role"] == "toolResult"}
        answers = (message["content"] for message in messages if message["role"] == "assistant")
        blocks = (block for content in answers for block in content if block["type"] == "toolCall")
        return [_call(block, results.get(block["id"])) for block in blocks if name in (None, block["name"])]

    # -- inside

    def _run(self, run_id: str) -> Run:
        return RunHandle(self.engine.store, run_id).run

    def _execute_due(self) -> None:
        waiting, notifications, recovery = self._queue.waiting, self._queue.notifications, self.engine.recovery()
        while True:
            while waiting or notifications:
                if notifications:
                    self.engine.notifications.deliver(*notifications.popleft())
                    self._raise_error()
                    continue
                run_id, step = waiting.popleft()
                self.engine.runner.run(run_id, step)
                if self._errors:
                    self._abort_all_of(run_id)
                    self._raise_error()
            if not recovery.sweep():
                return

    def _abort_all_of(self, run_id: str) -> None:
        """Abort a run that went wrong, with the runs that wait for it: no model shall be told of it."""
        store = self.engine.store
        while (parent := store.load(run_id).record.parent) is not None:
            run_id = parent.run_id
        commands.abort(self.engine.committer, run_id, "the test was stopped by an error")

    def _raise_error(self) -> None:
        """Raise what is wrong with the test, in the call that was made by the test itself."""
        with self._lock:
            if not self._errors or self._drains > 1:
                return
            error = self._errors[0]
            self._errors.clear()
        raise error

    def _record_error(self, error: BaseException) -> None:
        with self._lock:
            if error not in self._errors:
                self._errors.append(error)

    def _tool_failed(self, error: BaseException) -> None:
        if self._raise_tool_errors or not isinstance(error, Exception):
            self._record_error(error)


def _id_of(run: str | Run | RunHandle) -> str:
    return run if isinstance(run, str) else run.id


def _call(block: Json, result: Json | None) -> ToolCall:
    if result is None:
        return ToolCall(block["id"], block["name"], block["arguments"])
    text = "".join(part["text"] for part in result["content"] if part["type"] == "text")
    return ToolCall(block["id"], block["name"], block["arguments"], text, result["isError"], result.get("details"))
