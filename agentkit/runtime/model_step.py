"""The model step: one call of the model, streamed into the log as it comes, committed as one message.

A call that fails may be tried again, and after the last try the next of the agent's models is asked. Short
waits are waited; a long one gives the worker back: the step is closed, and another is due at the time.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from agentkit.agents import BoundAgent
from agentkit.core import events as ev
from agentkit.core.ids import now_ms
from agentkit.core.messages import Message
from agentkit.core.record import Change, RunState, Step
from agentkit.core.run import Run
from agentkit.errors import LeaseLostError, ProviderError
from agentkit.loop import fail, finish_model, postpone
from agentkit.providers.builder import MessageBuilder
from agentkit.providers.protocol import ModelRequest
from agentkit.runtime.deadlines import TIME_IS_OVER, time_left
from agentkit.runtime.leases import Held

if TYPE_CHECKING:
    from agentkit.runtime.steps import StepRunner

__all__ = ["run_model_step"]

log = logging.getLogger(__name__)

LONG_WAIT_SECONDS = 2.0
"""A wait of more gives the worker back."""


def run_model_step(runner: StepRunner, held: Held, agent: BoundAgent) -> None:
    """Call the model and commit its answer, its failure, or the run's abort."""
    step = held.state.record.step(held.lease.step)
    assert step is not None
    _ModelStep(runner, held, agent, step).execute()


class _ModelStep:
    """One execution of a model step. `_tries` and `_since` (ms) are of the model that is being asked."""

    def __init__(self, runner: StepRunner, held: Held, agent: BoundAgent, step: Step) -> None:
        self._runner = runner
        self._held = held
        self._all = agent
        self._step = step
        self._agent = agent.choice(step.choice)
        self._buffer = runner.buffer(held)
        self._builder = self._new_builder()

    def execute(self) -> None:
        if self._held.lease.attempt > 1:
            # The first attempt's claim opened a message in the log; what it streamed is void.
            self._begin_anew("its worker is gone")
        while True:
            failure = self._call()
            if failure is None or self._held.cancel.cancelled:
                break
            if isinstance(failure, ProviderError):
                again = self._next_try(failure)
                if again == "later":
                    return
                if again == "now":
                    continue
            break
        self._conclude(failure)

    def _call(self) -> Exception | None:
        """Feed the model's answer to the builder and the log; what went wrong, if something did."""
        held, agent, builder = self._held, self._agent, self._builder
        try:
            request = ModelRequest(
                model=agent.model,
                instructions=agent.agent.instructions,
                messages=self._context(),
                tools=agent.tool_specs(),
                options=agent.agent.options,
                instructions_cache=agent.agent.instructions_cache,
                cache=agent.agent.cache,
            )
            for part in agent.provider.stream(request, held.cancel):
                self._buffer.emit(*(ev.message_update(update) for update in builder.feed(part)))
                if held.cancel.cancelled:
                    return None
            if not held.cancel.cancelled:
                builder.message()  # raises where the response is not complete
        except (ProviderError, _ContextError) as error:
            if held.cancel.cancelled:
                return None  # cut on purpose, whatever the provider makes of it
            log.warning("the model call of run %s failed: %s", held.lease.run_id, error)
            return error
        return None

    def _context(self) -> list[Message]:
        """The conversation as the application wants the model to see it."""
        messages = list(self._held.state.turn)
        transform = self._agent.agent.transform_context
        if transform is None:
            return messages
        try:
            return list(transform(messages, Run.of(self._held.state, messages)))
        except Exception as error:
            log.exception("transform_context of agent %s failed", self._agent.name)
            raise _ContextError(f"transform_context raised {type(error).__name__}: {error}") from error

    def _next_try(self, error: ProviderError) -> str | None:
        """Prepare another call of this model or of the next one: "now", "later" (not ours any more), or None."""
        step, policy = self._step, self._agent.retry
        tries, since = step.tries + 1, step.since or now_ms()
        delay = policy.delay(error, tries, (now_ms() - since) / 1000) if policy is not None else None
        if delay is None:
            if step.choice + 1 >= self._all.choices:
                return None
            self._step = replace(step, choice=step.choice + 1, tries=0, since=None)
            self._agent = self._all.choice(self._step.choice)
            self._begin_anew(f"{error.message}; asking {self._agent.model_name} instead")
            return "now"
        assert policy is not None
        self._step = replace(step, tries=tries, since=since)
        self._buffer.emit(ev.model_retry(tries + 1, policy.attempts, round(delay * 1000), error.message))
        until = time.monotonic() + delay
        if delay > LONG_WAIT_SECONDS or self._runner.keeper.stopping():
            self._postpone(delay, error)
            return "later"
        if self._builder.started:
            self._begin_anew("the call failed, and is tried again")
        else:
            self._builder = self._new_builder()
        self._held.waiting = True
        self._held.cancel.wait(delay)
        self._held.waiting = False
        if self._held.cancel.reason == "stop":
            self._postpone(max(0.0, until - time.monotonic()), error)
            return "later"
        return "now"

    def _postpone(self, delay: float, error: ProviderError) -> None:
        """Close this step and have another due when the wait is over, or the run's time."""
        held, waiting = self._held, self._step
        left = time_left(held.state.record, self._all)
        at = now_ms() + round((delay if left is None else max(0.0, min(delay, left))) * 1000)

        def transition(state: RunState) -> Change:
            if state.record.abort is not None:
                return self._runner.aborted(state, message=self._builder.message(stop_reason="aborted"))
            return postpone(state, self._agent, held.lease.step, waiting, at, error.message, now_ms())

        self._buffer.emit(*(ev.message_update(update) for update in self._builder.finish()))
        self._runner.commit(held, transition, self._buffer.drain())

    def _conclude(self, failure: Exception | None) -> None:
        """Commit what came of it."""
        held, builder, runner = self._held, self._builder, self._runner
        reason = held.cancel.reason
        if reason == "lost":
            raise LeaseLostError
        if reason == "stop" and failure is None and not builder.finished:
            self._buffer.drain()
            runner.hand_back(held)
            return
        self._buffer.emit(*(ev.message_update(update) for update in builder.finish()))
        updates = self._buffer.drain()
        error = TIME_IS_OVER if reason == "deadline" else None
        if failure is not None and error is None:
            error = (getattr(failure, "code", "step_failed"), str(failure))

        def transition(state: RunState) -> Change:
            if state.record.abort is not None:
                return runner.aborted(state, message=builder.message(stop_reason="aborted"))
            if error is not None:
                code, text = error
                message = builder.message(stop_reason="error", error=text)
                return fail(state, code, text, now_ms(), message=message)
            return finish_model(state, self._all, held.lease.step, builder.message(), now_ms())

        runner.commit(held, transition, updates)

    def _begin_anew(self, reason: str) -> None:
        """Void the open message and open another."""
        self._builder = self._new_builder()
        self._buffer.emit(ev.message_discard(reason), ev.message_start(self._builder.start()))

    def _new_builder(self) -> MessageBuilder:
        provider = self._agent.provider
        return MessageBuilder(api=provider.api, provider=provider.name, model=self._agent.model, timestamp=now_ms())


class _ContextError(Exception):
    """The application's transform_context failed."""

    code = "step_failed"
