"""What a step in execution may use: the step that it holds, its agent, and its ways to the log and to its commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agentkit.agents import BoundAgent
from agentkit.core.calls import Call
from agentkit.core.events import Event
from agentkit.core.limits import Limits
from agentkit.core.messages import AssistantMessage, ToolResultMessage, Usage
from agentkit.core.record import AbortRequest, Change, RunState, Step
from agentkit.core.struct import to_json
from agentkit.errors import LeaseLostError
from agentkit.hooks import StepInfo
from agentkit.loop import abort, with_discarded
from agentkit.runtime.children import Children
from agentkit.runtime.commit import Committer, Follow
from agentkit.runtime.error_texts import ErrorTexts
from agentkit.runtime.event_buffer import EventBuffer
from agentkit.runtime.hooks import NO_HOOKS, Hooks
from agentkit.runtime.inline import Inline
from agentkit.runtime.leases import Held
from agentkit.runtime.rates import ModelRates
from agentkit.runtime.reports import StepNotes
from agentkit.runtime.side_by_side import SideBySide
from agentkit.store.protocol import Conflict
from agentkit.tools import ToolContext

__all__ = ["StepContext"]


@dataclass(frozen=True, slots=True)
class StepContext:
    """One execution of one step. `buffer()` makes its way into the log; `stopping()`: whether the worker is to stop.

    `return_step(why)`, while nothing was done yet: give the step to a worker that can do what this one cannot; False
    where none was found for about a lease time. `notes`: what its report is made of. `rates`: what its model call may
    ask. `side_by_side`: the tool calls that the process executes. `hooks`: the application's. `inline`: set where the
    caller of the kit executes it in its own thread. `follow`: where the worker would execute the run's next step
    itself.
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
    notes: StepNotes
    rates: ModelRates
    side_by_side: SideBySide
    hooks: Hooks = NO_HOOKS
    inline: Inline | None = None
    follow: Follow | None = None

    def info(self, tool: str | None = None) -> StepInfo:
        """Describe the step to hooks. `tool`: the name of the one that is to be executed."""
        return step_info(self.held, self.step, tool, self.agent)

    def tool_context(self, call_id: str, index: int, **more: Any) -> ToolContext:
        """Describe the call number `index` of the open turn to its tool. `more`: what is known only of an execution."""
        record, lease = self.held.state.record, self.held.lease
        return ToolContext(
            run_id=record.id,
            tool_call_id=call_id,
            idempotency_key=f"{record.id}:{record.turn}:{index}",
            attempt=lease.attempt,
            step=lease.step,
            turn=record.turn,
            metadata=to_json(record.metadata),  # the state is handed on to the next step
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
        last: Change | None = None

        def outcome(state: RunState) -> Change:
            nonlocal last
            state = with_discarded(state, discarded)
            if state.record.abort is None:
                change = transition(state)
            else:
                result = None if finished is None else (held.lease.step, *finished)
                change = aborted(state, self.now(), message=message() if message else None, finished=result)
            last = change.with_events(events)
            return last

        commit = self.committer.update(held.lease.run_id, outcome, lease=held.lease, state=state, follow=self.follow)
        held.next_claim = None if commit is None else commit.claim
        assert last is not None
        self.notes.committed(last)

    def commit_call(
        self, outcome: ToolResultMessage | Call, events: Sequence[Event], follows: Change | None = None
    ) -> Conflict | None:
        """Give the step's call its outcome beside others that are open; the run's state where more follows from it.

        `outcome`: its result, or the call as one that waits for its sub-agent's run. `follows`: what becomes of the run
        if it is the last call of its turn to end.
        """
        held, call = self.held, self.step.call
        assert call is not None
        done = self.committer.end_call(
            held.lease, call, outcome, events, state=held.state, follows=follows, follow=self.follow
        )
        if isinstance(done, Conflict):
            return done
        if follows is not None and done.was_last:
            held.next_claim = done.claim
            self.notes.committed(follows)
        self.notes.outcome = self.notes.outcome or "done"
        return None

    @property
    def queue(self) -> str | None:
        """The queue to which the step is enqueued."""
        return self.committer.queue_of(self.held.state.record, self.step)

    def wait(self, delay_ms: int) -> None:
        """Give the step back, in which nothing was done, to be executed in `delay_ms` at the latest."""
        self.notes.outcome = "waits"
        at = self.now() + delay_ms
        self.committer.store.schedule(self.held.lease.run_id, at)
        self.committer.step_store.release(self.held.lease, untouched=True, until=at)

    def hand_back(self, discarded: Usage | None = None) -> None:
        """Give the step to another worker at once. `discarded`: what failed tries of it used."""
        if discarded is not None:
            lease, state = self.held.lease, self.held.state
            self.committer.update(lease.run_id, lambda state: _count(state, discarded), lease=lease, state=state)
        hand_back(self.committer, self.held)
        self.notes.outcome = "handed_back"


def step_info(held: Held, step: Step, tool: str | None = None, agent: BoundAgent | None = None) -> StepInfo:
    """Describe a step that is held. `tool`: the name of the one that it executes, where that was not read.

    `agent`: that of the run, where it is known; else the limits are those of the run alone.
    """
    record, lease, call = held.state.record, held.lease, held.call
    limits = Limits() if agent is None else agent.agent.limits
    return StepInfo(
        record.id,
        lease.step,
        step.kind,
        record.agent,
        lease.attempt,
        record.owner,
        tool if call is None else call.name,
        record.turn,
        None if call is None else call.id,
        None if record.parent is None else record.parent.run_id,
        record.metadata,
        record.spent,
        limits.override(record.limits) if record.limits else limits,
        lambda: held.cancel.cancelled,
    )


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
