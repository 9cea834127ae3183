"""What a step in execution may use: the step that it holds, its agent, and its ways to the log and to its commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agentkit.agents import BoundAgent
from agentkit.core.calls import Call
from agentkit.core.events import Event
from agentkit.core.messages import AssistantMessage, ToolResultMessage, Usage
from agentkit.core.record import AbortRequest, Change, RunState, Step
from agentkit.errors import LeaseLostError
from agentkit.loop import abort, with_discarded
from agentkit.runtime.around import AroundStep, StepInfo, nothing_around
from agentkit.runtime.children import Children
from agentkit.runtime.commit import Committer
from agentkit.runtime.error_texts import ErrorTexts
from agentkit.runtime.event_buffer import EventBuffer
from agentkit.runtime.inline import Inline
from agentkit.runtime.leases import Held
from agentkit.store.protocol import Conflict
from agentkit.tools import ToolContext

__all__ = ["StepContext"]


@dataclass(frozen=True, slots=True)
class StepContext:
    """One execution of one step. `buffer()` makes its way into the log; `stopping()`: whether the worker is to stop.

    `return_step(why)`, while nothing was done yet: give the step to a worker that can do what this one cannot; False
    where none was found for about a lease time. `around`: what the application puts around it.
    `inline`: set where the caller of the kit executes it in its own thread.
    """

    held: Held
    step: Step
    agent: BoundAgent
    committer: Committer
    children: Children
    texts: ErrorTexts
    buffer: Callable[[], EventBuffer]
    stopping: Callable[[], bool]
    return_step: Callable[[str], bool]
    around: AroundStep = nothing_around
    inline: Inline | None = None

    def info(self, tool: str | None = None) -> StepInfo:
        """Describe the step to who puts something around it. `tool`: the name of the one that is to be executed."""
        record, lease = self.held.state.record, self.held.lease
        return StepInfo(record.id, lease.step, self.step.kind, record.agent, lease.attempt, record.owner, tool)

    def tool_context(self, call_id: str, index: int, **more: Any) -> ToolContext:
        """Describe the call number `index` of the open turn to its tool. `more`: what is known only of an execution."""
        record, lease = self.held.state.record, self.held.lease
        return ToolContext(
            run_id=record.id,
            tool_call_id=call_id,
            idempotency_key=f"{record.id}:{record.turn}:{index}",
            attempt=lease.attempt,
            metadata=record.metadata,
            agent=record.agent,
            owner=record.owner,
            parent_run_id=record.parent.run_id if record.parent else None,
            is_aborted=lambda: self.held.cancel.cancelled,
            **more,
        )

    def now(self) -> int:
        """Read the store's clock (ms), by which all times of runs go."""
        return self.committer.now()

    def commit(
        self,
        transition: Callable[[RunState], Change],
        events: Sequence[Event] = (),
        *,
        message: Callable[[], AssistantMessage] | None = None,
        finished: tuple[ToolResultMessage, bool] | None = None,
        discarded: Usage | None = None,
        state: RunState | None = None,
    ) -> None:
        """Commit what `transition` makes of the run, or the run's end where somebody wants it aborted.

        `events` go in front of its own. `message` makes the open assistant message as far as it came, and `finished` is
        the result of the tool call with whether its execution start is in the log: for the abort. `discarded`:
        what failed tries of the step used. `state`: the run as a reply has just shown it. Raises LeaseLostError where
        the step is no longer ours.
        """
        held = self.held
        if state is None and held.cancel.reason != "abort":
            state = held.state

        def outcome(state: RunState) -> Change:
            state = with_discarded(state, discarded)
            if state.record.abort is None:
                return transition(state).with_events(events)
            result = None if finished is None else (held.lease.step, *finished)
            return aborted(state, self.now(), message=message() if message else None, finished=result).with_events(
                events
            )

        self.committer.update(held.lease.run_id, outcome, lease=held.lease, state=state)

    def commit_call(self, outcome: ToolResultMessage | Call, events: Sequence[Event]) -> Conflict | None:
        """Give the step's call its outcome beside others that are open; the run's state where more follows from it.

        `outcome`: its result, or the call as one that waits for its sub-agent's run.
        """
        assert self.step.call is not None
        done = self.committer.step_store.commit_call(self.held.lease, self.step.call, outcome, events)
        return done if isinstance(done, Conflict) else None

    def hand_back(self, discarded: Usage | None = None) -> None:
        """Give the step to another worker at once. `discarded`: what failed tries of it used."""
        if discarded is not None:
            lease, state = self.held.lease, self.held.state
            self.committer.update(lease.run_id, lambda state: _count(state, discarded), lease=lease, state=state)
        hand_back(self.committer, self.held)


def _count(state: RunState, discarded: Usage) -> Change:
    """Compute the change that counts what failed tries used, and nothing else."""
    return Change(with_discarded(state, discarded).record, before=state.record)


def hand_back(committer: Committer, held: Held) -> None:
    """Give a step to another worker at once."""
    committer.step_store.release(held.lease)
    committer.enqueue(held.state.record, held.lease.step)


def aborted(
    state: RunState,
    now: int,
    *,
    message: AssistantMessage | None = None,
    finished: tuple[int, ToolResultMessage, bool] | None = None,
) -> Change:
    """Compute the end of a run which somebody wants aborted, for the holder of a step. Raises LeaseLostError."""
    change = abort(state, None, now, holding=True, message=message, finished=finished)
    if change is None or isinstance(change, AbortRequest):
        raise LeaseLostError
    return change
