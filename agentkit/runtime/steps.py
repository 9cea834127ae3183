"""Executes one step: claim it, do its work, commit the outcome, enqueue what is due next.

    claim ─► model call ─► append … append ─► commit ─► enqueue
        └──► tool call  ─► (updates)        ─► commit ─► enqueue

Where the caller would execute the run's next step as well, the commit claims that, and nothing is enqueued.

The message of a step may be lost, late or doubled: the claim decides. Whatever goes wrong before the commit leaves
the step open; its lease runs out, and it is executed again as a new attempt, up to `max_attempts`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agentkit.core.backoff import Backoff
from agentkit.core.events import Event
from agentkit.core.json_log import working_on
from agentkit.core.messages import AssistantMessage, StopReason
from agentkit.core.ready import ReadyStep
from agentkit.core.record import Step, StepKind
from agentkit.errors import (
    AgentKitError,
    LeaseLostError,
    RunNotFoundError,
    StoreUnavailableError,
    UnreadableRunError,
)
from agentkit.loop import fail
from agentkit.runtime.children import Children
from agentkit.runtime.commit import Committer, Follow
from agentkit.runtime.cut_message import cut_message
from agentkit.runtime.deadlines import watch
from agentkit.runtime.error_texts import ErrorTexts
from agentkit.runtime.event_buffer import EventBuffer
from agentkit.runtime.flusher import Flusher
from agentkit.runtime.hooks import NO_HOOKS, Hooks
from agentkit.runtime.inline import Inline
from agentkit.runtime.leases import Held, LeaseKeeper
from agentkit.runtime.model_step import run_model_step
from agentkit.runtime.rates import ModelRates
from agentkit.runtime.reports import Observers, StepNotes, StepOutcome, StepReport
from agentkit.runtime.returns import Returns
from agentkit.runtime.side_by_side import SideBySide
from agentkit.runtime.step_context import StepContext, aborted, hand_back, step_info
from agentkit.runtime.store_retry import StoreRetry
from agentkit.runtime.timer import Timer
from agentkit.runtime.tool_step import run_tool_step
from agentkit.store.protocol import Claim

__all__ = ["Following", "StepRunner"]

_BACKOFF = Backoff(base=1.0, cap=30.0)

log = logging.getLogger(__name__)

_FOREIGN_RETURNS = 5
"""How often a process gives a message back whose run is not there: within three seconds."""


@dataclass(slots=True)
class Following:
    """What a caller hands from one step of a run to the next, where it would execute several.

    `allows`: whether it would go on to another, asked at each commit; None where not. `claim`: of the step to execute
    now, where it was claimed by the commit of the one before; after that step, of the next.
    """

    allows: Callable[[], bool] | None = None
    claim: Claim | None = None

    def take(self) -> Claim | None:
        claim, self.claim = self.claim, None
        return claim


class StepRunner:
    """Executes steps for one process.

    `max_attempts`: how often a step may be begun and never finished. `flusher`: writes their events. `rates`: what
    model calls may ask. `observers`: are told of each step that has ended.
    """

    def __init__(
        self,
        committer: Committer,
        children: Children,
        keeper: LeaseKeeper,
        timer: Timer,
        retry: StoreRetry,
        texts: ErrorTexts,
        flusher: Flusher,
        rates: ModelRates,
        *,
        lease_seconds: float = 30.0,
        max_attempts: int = 5,
        on_progress: Callable[[str | None], None] = lambda queue: None,
        hooks: Hooks = NO_HOOKS,
        inline: Inline | None = None,
        observers: Observers | None = None,
    ) -> None:
        self.keeper = keeper
        self.timer = timer
        self._committer = committer
        self._children = children
        self._retry = retry
        self._texts = texts
        self._max_attempts = max_attempts
        self._flusher = flusher
        self._rates = rates
        self._on_progress = on_progress
        self._hooks = hooks
        self._inline = inline
        self._observers = observers or Observers()
        self._side_by_side = SideBySide()
        self._returns = Returns(timer, lease_seconds)

    def run(
        self,
        run_id: str,
        number: int,
        kind: StepKind = "model",
        queue: str | None = None,
        following: Following | None = None,
    ) -> StepOutcome | None:
        """Execute step `number` of a run if it is due and nobody else does; a stopping worker enqueues it again.

        `kind`: what its message says that it is, and `queue`: the one that it came from, for the case that the message
        goes back unread. `following`: where the caller would execute the run's next step, too. Returns how it ended,
        None where it was not claimed. Raises what failed the attempt, of which observers have been told.
        """
        self._on_progress(queue)
        following = following or Following()
        claim = self._claim(run_id, number, kind, queue, following.take())
        if claim is None:
            return None
        held, notes = self.keeper.hold(claim), StepNotes()
        opened = held.step
        token = working_on.set(None if opened is None else step_info(held, opened))
        try:
            self._execute(held, queue, notes, following)
            self._on_progress(queue)
            following.claim, held.next_claim = held.next_claim, None
        except LeaseLostError:
            notes.outcome = "lost"
            log.info("step %s of run %s went to another worker, or its run has ended", number, run_id)
        except RunNotFoundError:
            notes.outcome = "lost"
            log.info("run %s was deleted while its step %s was executed, whose outcome is dropped", run_id, number)
        except StoreUnavailableError as error:
            # It outlasted what a step waits for: the lease runs out, and recovery has the step executed again.
            notes.outcome, notes.exception = "unavailable", error
            raise
        except Exception as error:
            self._fail_attempt(held, error, notes)
            raise
        except BaseException:
            # Pools end what they execute by SystemExit (prefork) or GreenletExit.
            notes.outcome = "handed_back"
            if self.keeper.stopping():
                hand_back(self._committer, held)
            raise
        finally:
            self.keeper.drop(held)
            self._report(held, notes)
            working_on.reset(token)
            if held.next_claim is not None:  # the step was committed, and failed after that
                self._pass_on(held.next_claim)
        return notes.outcome

    def turns(
        self, run_id: str, number: int, kind: StepKind, queue: str | None, served: Sequence[str]
    ) -> Iterator[tuple[ReadyStep, str | None]]:
        """Yield the steps to execute for a message, until one of them could be; see `ReadySteps.turns`."""
        return self._committer.ready.turns(ReadyStep(run_id, number, kind), queue, served, self.keeper.stopping)

    def claim(self, run_id: str, number: int, kind: StepKind, queue: str | None) -> Claim | None:
        """Claim a step for `run` to execute at once, with the claim as what it follows; None where it may not be."""
        return self._claim(run_id, number, kind, queue, None)

    def _claim(self, run_id: str, number: int, kind: StepKind, queue: str | None, claim: Claim | None) -> Claim | None:
        """Claim a step; None where it is not for this worker to execute. Raises, and logs, what the store refused.

        `claim`: where the commit of the step before has claimed it.
        """
        store = self._committer.step_store
        try:
            if self.keeper.stopping():
                # It is not claimed, or untouched: a tool of effects "once" would count as begun.
                if claim is None:
                    self._committer.enqueue(store.load(run_id).record, number)
                else:
                    self._pass_on(claim)
                return None
            if claim is None:
                claim = store.claim(run_id, number, self.keeper.lease_ms)
                if claim is not None:
                    last = claim.state.last_seq
                    self._committer.taps.written(claim.state.record, last - claim.appended, last)
            return claim
        except RunNotFoundError:
            self._return_foreign(run_id, number, kind, queue)
        except UnreadableRunError as error:
            self._return_message(run_id, number, kind, str(error), queue)
        except StoreUnavailableError as error:
            log.warning("run %s: step %s waits for the store: %s", run_id, number, error)
            raise
        except Exception as error:
            log.error("run %s: step %s could not be claimed: %s", run_id, number, error, exc_info=error)
            raise
        return None

    def _report(self, held: Held, notes: StepNotes) -> None:
        """Tell the observers that this execution of a step has ended."""
        step = held.step
        if step is None or notes.outcome is None:
            return
        record, info = held.state.record, step_info(held, step)
        due = record.updated_at if step.at is None else step.at
        self._observers.step_ended(
            StepReport(
                run_id=info.run_id,
                number=info.number,
                kind=info.kind,
                agent=info.agent,
                attempt=info.attempt,
                turn=info.turn,
                outcome=notes.outcome,
                seconds=time.monotonic() - notes.began,
                wait_seconds=max(0, notes.claimed_at - due) / 1000,
                owner=info.owner,
                parent_run_id=info.parent_run_id,
                tool=info.tool,
                tool_call_id=info.tool_call_id,
                model=notes.model,
                usage=notes.usage,
                failed_calls=tuple(notes.failed_calls),
                error_code=notes.error_code,
                error_text=notes.error_text,
                exception=notes.exception,
                status=notes.status,
            )
        )

    def _pass_on(self, claim: Claim) -> None:
        """Give a step that was claimed, and is not begun, to another worker."""
        self._committer.step_store.release(claim.lease, untouched=True)
        self._committer.enqueue(claim.state.record, claim.lease.step)

    def _follow(self, held: Held, queue: str | None, following: Following) -> Follow | None:
        if following.allows is None:
            return None
        is_allowed = following.allows

        def allows(name: str) -> bool:
            return name == queue and not self.keeper.stopping() and is_allowed()

        return Follow(allows, self.keeper.lease_ms, held.claim.messages)

    def _execute(self, held: Held, queue: str | None, notes: StepNotes, following: Following) -> None:
        record, step = held.state.record, held.step
        if step is None:
            raise LeaseLostError
        now = notes.claimed_at = self._committer.now()
        if record.abort is not None:
            self._abort(held, notes)
        elif held.lease.attempt > self._max_attempts:
            self._give_up(held, notes)
        else:
            try:
                agent = self._committer.agents.bind(record.agent, record.model)
            except AgentKitError as error:
                if not self._return_step(held, step, error.message, notes):
                    self._committer.step_store.release(held.lease, untouched=True)  # recovery enqueues it again
                notes.outcome = "returned"
                return
            watch(self.timer, held, agent, now)
            context = StepContext(
                held,
                step,
                agent,
                self._committer,
                self._children,
                self._texts,
                buffer=lambda: self._buffer(held, queue),
                stopping=self.keeper.stopping,
                return_step=lambda why: self._return_step(held, step, why, notes),
                notes=notes,
                rates=self._rates,
                side_by_side=self._side_by_side,
                hooks=self._hooks,
                inline=self._inline,
                follow=self._follow(held, queue, following),
            )
            if step.kind == "model":
                self._run_model_step(context)
            else:
                with self._side_by_side.executing(held.lease):
                    run_tool_step(context)

    def _run_model_step(self, context: StepContext) -> None:
        step_error: BaseException | None = None
        with self._hooks.around(context.info()):
            try:
                run_model_step(context)
            except BaseException as error:
                step_error = error
                raise
        if step_error is not None:  # the application's context manager suppressed it, and the step is not done
            raise step_error

    def _return_step(self, held: Held, step: Step, why: str, notes: StepNotes) -> bool:
        """Release a step of which nothing was done, for a worker that can; False where none was found for long."""
        queue = self._committer.queue_of(held.state.record, step)
        returned = self._return_message(held.lease.run_id, step.number, step.kind, why, queue, held=held)
        if returned:
            notes.outcome = "returned"
        return returned

    def _return_message(
        self,
        run_id: str,
        number: int,
        kind: StepKind,
        why: str,
        queue: str | None,
        *,
        held: Held | None = None,
        limit: int | None = None,
    ) -> bool:
        delay = self._returns.next_delay(run_id, number, limit)
        if delay is None:
            log.error("run %s: no worker was found that can execute step %s: %s", run_id, number, why)
            return False
        log.warning(
            "run %s: this worker cannot execute step %s, and gives it back to the queue in %.1f s: %s",
            run_id,
            number,
            delay,
            why,
        )
        if held is not None:
            self._committer.step_store.release(held.lease, untouched=True)
        self._returns.enqueue_later(delay, lambda: self._committer.queue.enqueue(run_id, number, kind, queue))
        return True

    def _return_foreign(self, run_id: str, number: int, kind: StepKind, queue: str | None) -> None:
        """Give a message back whose run is not in the store a few times, then drop it; at once if it was deleted."""
        if self._committer.step_store.was_deleted(run_id):
            log.info("run %s was deleted: the message of its step %s is dropped", run_id, number)
            return
        why = "its run is not in this store: another installation sends to the same queue, or it was deleted long ago"
        self._return_message(run_id, number, kind, why, queue, limit=_FOREIGN_RETURNS)

    def _buffer(self, held: Held, queue: str | None) -> EventBuffer:
        store, taps = self._committer.store, self._committer.taps

        def on_written() -> None:
            self._on_progress(queue)
            taps.written(held.state.record)

        return EventBuffer(store, held, self._flusher, self._retry, on_written)

    def _abort(self, held: Held, notes: StepNotes) -> None:
        """End a run whose abort was asked for before this worker claimed the step."""
        step, agent = held.step, self._committer.bind(held.state.record)
        if step is not None and step.kind == "model" and agent is not None:
            model = agent.choice(step.choice).model_name
            self._rates.leave(held, model, self._committer.queue_of(held.state.record, step))
        message, ends = self._cut_message(held, "aborted")
        self._committer.update(
            held.lease.run_id,
            lambda state: aborted(state, self._committer.now(), message=message).with_events(ends),
            lease=held.lease,
            state=held.state if held.claim.complete else None,
        )
        notes.outcome = "aborted"

    def _fail_attempt(self, held: Held, error: Exception, notes: StepNotes) -> None:
        """Give a step back that failed by an error of its own: it is tried again soon, or ends the run."""
        text = self._texts.of(error)
        notes.outcome = "crashed"
        notes.failed_by(error, "step_failed", text)
        if held.lease.attempt >= self._max_attempts:
            self._fail(held, f"step {held.lease.step} failed {self._max_attempts} times: {text}", notes)
            return
        store = self._committer.step_store
        store.release(held.lease, failed=True)
        store.schedule(held.lease.run_id, self._committer.now() + round(_BACKOFF.delay(held.lease.attempt) * 1000))

    def _give_up(self, held: Held, notes: StepNotes) -> None:
        self._fail(held, f"step {held.lease.step} was begun {self._max_attempts} times and never finished", notes)

    def _fail(self, held: Held, text: str, notes: StepNotes) -> None:
        message, ends = self._cut_message(held, "error", text)
        self._committer.update(
            held.lease.run_id,
            lambda state: fail(state, "step_failed", text, self._committer.now(), message=message).with_events(ends),
            lease=held.lease,
            state=held.state if held.claim.complete else None,
        )
        notes.outcome = "failed"
        notes.failed_by(notes.exception, "step_failed", text)

    def _cut_message(
        self, held: Held, stop_reason: StopReason, error: str | None = None
    ) -> tuple[AssistantMessage | None, Sequence[Event]]:
        committer, record = self._committer, held.state.record
        return cut_message(committer, committer.step_store, record, held.step, stop_reason, error)
