"""Executes one step: claim it, do its work, commit the outcome, enqueue what is due next.

    claim ─► model call ─► append … append ─► commit ─► enqueue
        └──► tool call  ─► (updates)        ─► commit ─► enqueue

The message of a step may be lost, late or doubled: the claim decides. Whatever goes wrong before the commit leaves
the step open; its lease runs out, and it is executed again as a new attempt, up to `max_attempts`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from agentkit.core.backoff import Backoff
from agentkit.core.events import Event
from agentkit.core.messages import AssistantMessage, StopReason
from agentkit.core.record import Step, StepKind
from agentkit.errors import (
    AgentKitError,
    LeaseLostError,
    RunNotFoundError,
    StoreUnavailableError,
    UnreadableRunError,
)
from agentkit.loop import fail
from agentkit.runtime.around import AroundStep, nothing_around
from agentkit.runtime.children import Children
from agentkit.runtime.commit import Committer
from agentkit.runtime.cut_message import cut_message
from agentkit.runtime.deadlines import watch
from agentkit.runtime.error_texts import ErrorTexts
from agentkit.runtime.event_buffer import EventBuffer
from agentkit.runtime.flusher import Flusher
from agentkit.runtime.inline import Inline
from agentkit.runtime.leases import Held, LeaseKeeper
from agentkit.runtime.model_step import run_model_step
from agentkit.runtime.returns import Returns
from agentkit.runtime.step_context import StepContext, aborted, hand_back
from agentkit.runtime.store_retry import StoreRetry
from agentkit.runtime.timer import Timer
from agentkit.runtime.tool_step import run_tool_step

__all__ = ["StepRunner"]

_BACKOFF = Backoff(base=1.0, cap=30.0)

log = logging.getLogger(__name__)

_FOREIGN_RETURNS = 5
"""How often a process gives a message back whose run is not there: within three seconds."""


class StepRunner:
    """Executes steps for one process.

    `max_attempts`: how often a step may be begun and never finished. `flusher`: writes their events.
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
        *,
        lease_seconds: float = 30.0,
        max_attempts: int = 5,
        on_progress: Callable[[str | None], None] = lambda queue: None,
        around: AroundStep = nothing_around,
        inline: Inline | None = None,
    ) -> None:
        self.keeper = keeper
        self.timer = timer
        self._committer = committer
        self._children = children
        self._retry = retry
        self._texts = texts
        self._max_attempts = max_attempts
        self._flusher = flusher
        self._on_progress = on_progress
        self._around = around
        self._inline = inline
        self._returns = Returns(timer, lease_seconds)

    def run(self, run_id: str, number: int, kind: StepKind = "model", queue: str | None = None) -> None:
        """Execute step `number` of a run if it is due and nobody else does; a stopping worker enqueues it again.

        `kind`: what its message says that it is, and `queue`: the one that it came from, for the case that the message
        goes back unread.
        """
        store = self._committer.step_store
        self._on_progress(queue)
        try:
            if self.keeper.stopping():
                # It is not claimed: a tool of effects "once" would count as begun.
                self._committer.enqueue(store.load(run_id).record, number)
                return
            claim = store.claim(run_id, number, self.keeper.lease_ms)
        except RunNotFoundError:
            self._return_foreign(run_id, number, kind, queue)
            return
        except UnreadableRunError as error:
            self._return_message(run_id, number, kind, str(error), queue)
            return
        if claim is None:
            return
        held = self.keeper.hold(claim)
        try:
            self._execute(held, queue)
            self._on_progress(queue)
        except LeaseLostError:
            log.info("step %s of run %s went to another worker, or its run has ended", number, run_id)
        except RunNotFoundError:
            log.info("run %s was deleted while its step %s was executed, whose outcome is dropped", run_id, number)
        except StoreUnavailableError:
            raise  # it outlasted what a step waits for: the lease runs out, and recovery has the step executed again
        except Exception as error:
            self._fail_attempt(held, error)
            raise
        except BaseException:
            # Pools end what they execute by SystemExit (prefork) or GreenletExit.
            if self.keeper.stopping():
                hand_back(self._committer, held)
            raise
        finally:
            self.keeper.drop(held)

    def _execute(self, held: Held, queue: str | None) -> None:
        record, step = held.state.record, held.step
        if step is None:
            raise LeaseLostError
        if record.abort is not None:
            self._abort(held)
        elif held.lease.attempt > self._max_attempts:
            self._give_up(held)
        else:
            try:
                agent = self._committer.agents.bind(record.agent, record.model)
            except AgentKitError as error:
                if not self._return_step(held, step, error.message):
                    self._committer.step_store.release(held.lease, untouched=True)  # recovery enqueues it again
                return
            watch(self.timer, held, agent, self._committer.now())
            context = StepContext(
                held,
                step,
                agent,
                self._committer,
                self._children,
                self._texts,
                buffer=lambda: self._buffer(held, queue),
                stopping=self.keeper.stopping,
                return_step=lambda why: self._return_step(held, step, why),
                around=self._around,
                inline=self._inline,
            )
            if step.kind == "model":
                self._run_model_step(context)
            else:
                run_tool_step(context)

    def _run_model_step(self, context: StepContext) -> None:
        step_error: BaseException | None = None
        with self._around(context.info()):
            try:
                run_model_step(context)
            except BaseException as error:
                step_error = error
                raise
        if step_error is not None:  # the application's context manager suppressed it, and the step is not done
            raise step_error

    def _return_step(self, held: Held, step: Step, why: str) -> bool:
        """Release a step of which nothing was done, for a worker that can; False where none was found for long."""
        queue = self._committer.queue_of(held.state.record, step)
        return self._return_message(held.lease.run_id, step.number, step.kind, why, queue, held=held)

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
        store = self._committer.store
        return EventBuffer(store, held, self._flusher, self._retry, lambda: self._on_progress(queue))

    def _abort(self, held: Held) -> None:
        """End a run whose abort was asked for before this worker claimed the step."""
        message, ends = self._cut_message(held, "aborted")
        self._committer.update(
            held.lease.run_id,
            lambda state: aborted(state, self._committer.now(), message=message).with_events(ends),
            lease=held.lease,
            state=held.state if held.claim.complete else None,
        )

    def _fail_attempt(self, held: Held, error: Exception) -> None:
        """Give a step back that failed by an error of its own: it is tried again soon, or ends the run."""
        what = f"step {held.lease.step} of run {held.lease.run_id} failed in attempt {held.lease.attempt}"
        text = self._texts.of(error, what)
        if held.lease.attempt >= self._max_attempts:
            self._fail(held, f"step {held.lease.step} failed {self._max_attempts} times: {text}")
            return
        store = self._committer.step_store
        store.release(held.lease, failed=True)
        store.schedule(held.lease.run_id, self._committer.now() + round(_BACKOFF.delay(held.lease.attempt) * 1000))

    def _give_up(self, held: Held) -> None:
        text = f"step {held.lease.step} was begun {self._max_attempts} times and never finished"
        log.error("run %s fails: %s, since it ended its worker each time", held.lease.run_id, text)
        self._fail(held, text)

    def _fail(self, held: Held, text: str) -> None:
        message, ends = self._cut_message(held, "error", text)
        self._committer.update(
            held.lease.run_id,
            lambda state: fail(state, "step_failed", text, self._committer.now(), message=message).with_events(ends),
            lease=held.lease,
            state=held.state if held.claim.complete else None,
        )

    def _cut_message(
        self, held: Held, stop_reason: StopReason, error: str | None = None
    ) -> tuple[AssistantMessage | None, Sequence[Event]]:
        committer, record = self._committer, held.state.record
        return cut_message(committer, committer.step_store, record, held.step, stop_reason, error)
