"""Executes one step: claim it, do its work, commit the outcome, make known what is due next.

    claim ─► model call ─► append … append ─► commit ─► nudge
        └──► tool call  ─► (updates)        ─► commit ─► nudge

A step may be told of twice, late or never: the claim decides. Whatever goes wrong before the commit leaves
the step open; its lease runs out, and it is executed again as a new attempt, up to `max_attempts`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from agentkit.agents import BoundAgent
from agentkit.core.events import Event, open_message
from agentkit.core.ids import now_ms
from agentkit.core.messages import AssistantMessage, StopReason, zero_usage
from agentkit.core.record import Change, RunRecord, RunState
from agentkit.errors import AgentKitError, LeaseLostError, RunNotFoundError, VersionConflictError
from agentkit.loop import abort, fail
from agentkit.queue.protocol import StepQueue
from agentkit.runtime.commit import Agents, Committer
from agentkit.runtime.deadlines import watch
from agentkit.runtime.event_buffer import EventBuffer
from agentkit.runtime.leases import Held, LeaseKeeper
from agentkit.runtime.model_step import run_model_step
from agentkit.runtime.shutdown import Shutdown
from agentkit.runtime.store_retry import StoreRetry, retrying
from agentkit.runtime.timer import Timer
from agentkit.runtime.tool_step import run_tool_step
from agentkit.store.protocol import Store

__all__ = ["StepRunner", "read_log"]

log = logging.getLogger(__name__)

Transition = Callable[[RunState], Change]


def read_log(store: Store, run_id: str) -> list[Event]:
    """The whole log of a run, as far as it is kept."""
    events: list[Event] = []
    after = 0
    while True:
        page = store.events(run_id, after, 1000)
        events += [json.loads(event.data) for event in page.events]
        if len(page.events) < 1000:
            return events
        after = page.events[-1].seq


class StepRunner:
    """Executes steps for one process. `flush_seconds`: the window in which streamed deltas are merged."""

    def __init__(
        self,
        store: Store,
        agents: Agents,
        queue: StepQueue,
        *,
        lease_seconds: float = 30.0,
        max_attempts: int = 5,
        flush_seconds: float = 0.03,
        stop: Shutdown | None = None,
        stop_grace_seconds: float = 0.0,
    ) -> None:
        self._direct = store
        self.retry = StoreRetry(lambda: self.keeper.stopping())
        self.store = retrying(store, self.retry)
        self.committer = Committer(self.store, queue, agents, lease_seconds)
        self._agents = agents
        self._queue = queue
        self._max_attempts = max_attempts
        self._flush_seconds = flush_seconds
        self.timer = Timer()
        self.keeper = LeaseKeeper(store, self.timer, lease_seconds, stop, stop_grace_seconds)

    def run(self, run_id: str, number: int) -> None:
        """Execute step `number` of a run if it is due and nobody else does; a stopping worker passes it on."""
        if self.keeper.stopping():
            self._pass_on(run_id, number)
            return
        try:
            claim = self.store.claim(run_id, number, self.keeper.lease_ms)
        except RunNotFoundError:
            return  # deleted since
        if claim is None:
            return
        held = self.keeper.hold(claim)
        try:
            self._execute(held)
        except LeaseLostError:
            log.info("step %s of run %s went to another worker", number, run_id)
        except BaseException as error:
            # Pools end what they execute by SystemExit (prefork) or GreenletExit.
            if self.keeper.stopping() and not isinstance(error, Exception):
                self.hand_back(held)
            raise
        finally:
            self.keeper.drop(held)

    def _execute(self, held: Held) -> None:
        record = held.state.record
        step = record.step(held.lease.step)
        if step is None:
            raise LeaseLostError
        if record.abort is not None:
            message, ends = self._cut(held, "aborted")
            self.commit(held, lambda state: self.aborted(state, message=message), ends)
        elif held.lease.attempt > self._max_attempts:
            self._give_up(held)
        else:
            agent = self._bind(record)
            if agent is None:
                # Recovery nudges again, and another worker may know the agent.
                self.store.release(held.lease, untouched=True)
                return
            watch(self.timer, held, agent)
            run = run_model_step if step.kind == "model" else run_tool_step
            run(self, held, agent)

    def _bind(self, record: RunRecord) -> BoundAgent | None:
        try:
            return self._agents.bind(record.agent, record.model)
        except AgentKitError as error:
            log.error("run %s waits for a worker that knows its agent: %s", record.id, error)
            return None

    def buffer(self, held: Held) -> EventBuffer:
        return EventBuffer(self._direct, held, self.timer, self._flush_seconds, self.keeper.saw, self.retry)

    def commit(self, held: Held, transition: Transition, events: tuple[Event, ...] = ()) -> None:
        """Commit what `transition` makes of the run, computed again where the run has changed meanwhile.

        `events` go in front of its own. Raises LeaseLostError where the step is no longer ours.
        """
        # An abort came after the claim: only a state that knows of it leads to the run's end.
        state = self.store.load(held.lease.run_id) if held.cancel.reason == "abort" else held.state
        while True:
            change = transition(state).with_events(events)
            try:
                self.committer.commit(change, state.version, held.lease)
            except VersionConflictError:
                state = self.store.load(held.lease.run_id)
            else:
                return

    def hand_back(self, held: Held) -> None:
        """Give the step to another worker at once."""
        self.store.release(held.lease)
        self._tell(held.state.record, held.lease.step)

    def _pass_on(self, run_id: str, number: int) -> None:
        """Have another worker execute the step. It is not claimed: a tool of effects "once" counts as begun then."""
        try:
            self._tell(self.store.load(run_id).record, number)
        except RunNotFoundError:
            return  # deleted since

    def _tell(self, record: RunRecord, number: int) -> None:
        step = record.step(number)
        if step is not None:
            self._queue.enqueue(record.id, step.number, step.kind)

    def aborted(self, state: RunState, **what: Any) -> Change:
        """The change that ends a run which somebody wants aborted."""
        change = abort(state, None, now_ms(), holding=True, **what)
        if change is None:
            raise LeaseLostError
        return change

    def _cut(self, held: Held, stop_reason: StopReason, error: str | None = None) -> tuple[Any, tuple[Event, ...]]:
        """The open assistant message as far as an earlier attempt streamed it, and the ends of its open blocks.

        (None, ()) for a step that is no model call.
        """
        record = held.state.record
        step = record.step(held.lease.step)
        if step is None or step.kind != "model":
            return None, ()
        message, ends = open_message(read_log(self.store, record.id)) or (self._empty_message(record), [])
        message["stopReason"] = stop_reason
        if error is not None:
            message["errorMessage"] = error
        return message, tuple(ends)

    def _empty_message(self, record: RunRecord) -> AssistantMessage:
        """What stands for a message whose beginning is no longer kept."""
        try:
            return self._agents.bind(record.agent, record.model).empty_message(now_ms())
        except AgentKitError:  # this process does not know the agent, or its model's provider
            provider, _, model = record.model.partition(":")
            return AssistantMessage(
                role="assistant", content=[], api="", provider=provider, model=model,
                usage=zero_usage(), stopReason="stop", timestamp=now_ms(),
            )  # fmt: skip

    def _give_up(self, held: Held) -> None:
        text = f"step {held.lease.step} was begun {self._max_attempts} times and never finished"
        message, ends = self._cut(held, "error", text)
        self.commit(held, lambda state: fail(state, "step_failed", text, now_ms(), message=message), ends)
