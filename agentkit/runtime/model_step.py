"""The model step: one call of the model, streamed into the log as it comes, committed as one message."""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING

from agentkit import events as ev
from agentkit.agents import BoundAgent
from agentkit.errors import LeaseLostError, ProviderError
from agentkit.ids import now_ms
from agentkit.loop import fail, finish_model
from agentkit.providers.base import ModelRequest
from agentkit.providers.builder import MessageBuilder
from agentkit.record import Change, RunState
from agentkit.runtime.leases import Held
from agentkit.runtime.sink import EventSink

if TYPE_CHECKING:
    from agentkit.runtime.steps import StepRunner

__all__ = ["run_model_step"]

log = logging.getLogger(__name__)


def run_model_step(runner: StepRunner, held: Held, agent: BoundAgent) -> None:
    """Call the model and commit its answer, its failure, or the run's abort."""
    builder = MessageBuilder(
        api=agent.provider.api, provider=agent.provider.name, model=agent.model, timestamp=now_ms()
    )
    sink = runner.sink(held)
    if held.lease.attempt > 1:
        # The first attempt's claim opened a message in the log; what it streamed is void.
        sink.emit(ev.message_discard("its worker is gone"), ev.message_start(builder.start()))
    _set_deadline(runner, held, agent)
    error = _stream(held, agent, builder, sink)
    if held.cancel.reason == "lost":
        raise LeaseLostError
    if held.cancel.reason == "stop" and error is None and not builder.finished:
        sink.drain()
        runner.hand_back(held)
        return
    sink.emit(*(ev.message_update(update) for update in builder.finish()))
    updates = sink.drain()

    def transition(state: RunState) -> Change:
        if state.record.abort is not None:
            return runner.aborted(state, message=builder.message(stop_reason="aborted"))
        if error is not None:
            code, text = error
            message = builder.message(stop_reason="error", error=text)
            return fail(state, code, text, now_ms(), message=message)
        return finish_model(state, agent, held.lease.step, builder.message(), now_ms())

    runner.commit(held, transition, updates)


def _stream(held: Held, agent: BoundAgent, builder: MessageBuilder, sink: EventSink) -> tuple[str, str] | None:
    """Feed the model's answer to the builder and the log; the error's code and text if it fails."""
    request = ModelRequest(
        model=agent.model,
        instructions=agent.agent.instructions,
        messages=held.state.turn,
        tools=agent.tool_specs(),
        options=agent.agent.options,
    )
    try:
        parts = agent.provider.stream(request, held.cancel)
        for part in parts:
            sink.emit(*(ev.message_update(update) for update in builder.feed(part)))
            if held.cancel.cancelled:
                break
        if held.cancel.reason == "deadline":
            return "limit_time", "the run has used up its time (timeout)"
        if not held.cancel.cancelled:
            builder.message()  # raises where the response is not complete
    except ProviderError as error:
        if held.cancel.reason == "deadline":
            return "limit_time", "the run has used up its time (timeout)"
        if held.cancel.cancelled:
            return None  # cut on purpose, whatever the provider makes of it
        log.warning("the model call of run %s failed: %s", held.lease.run_id, error)
        return error.code, error.message
    return None


def _set_deadline(runner: StepRunner, held: Held, agent: BoundAgent) -> None:
    record = held.state.record
    timeout = agent.agent.limits.override(record.limits).timeout
    if timeout is not None and record.active_since is not None:
        spent = record.active_ms + now_ms() - record.active_since
        cancel = weakref.ref(held.cancel)  # the timer may outlive the step by far

        def late() -> None:
            if (alive := cancel()) is not None:
                alive.cancel("deadline")

        runner.ticker.call_later(max(0.0, timeout - spent / 1000), late)
