"""The model step: one call of the model, streamed into the log as it comes, committed as one message.

A call that fails may be tried again, and after the last try the next of the agent's models is asked. Short
waits are waited; a long one gives the worker back: the step is closed, and another is due at the time.

Before each call its share is taken of what all workers may ask of the model (agentkit/runtime/rates.py). A step that
has to wait for that, and has done nothing yet, is given back as it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from agentkit.agents import BoundAgent
from agentkit.core.events import (
    AssistantMessageEvent,
    MessageDiscard,
    MessageStart,
    MessageUpdate,
    ModelRetry,
    ModelWait,
)
from agentkit.core.messages import AssistantMessage, Message, StopReason, Usage, UserMessage, add_usage, check_messages
from agentkit.core.record import Change, RunState
from agentkit.core.run import Run
from agentkit.core.struct import to_json
from agentkit.errors import LeaseLostError, ProviderError, StoreError
from agentkit.loop import fail, finish_model, has_cut_call, over_limits, postpone, with_discarded
from agentkit.providers.builder import MessageBuilder
from agentkit.providers.inputs import readable_by
from agentkit.providers.protocol import ModelRequest, Part
from agentkit.providers.tool_choice import without_forced_call
from agentkit.runtime.conditions import admit_calls
from agentkit.runtime.deadlines import TIME_IS_OVER, time_left
from agentkit.runtime.hooked_call import HookedCall, Prompt
from agentkit.runtime.hooks import HookError
from agentkit.runtime.rates import Wait, estimated_tokens
from agentkit.runtime.reading import AnswerReader
from agentkit.runtime.reports import FailedCall
from agentkit.runtime.step_context import StepContext

__all__ = ["run_model_step"]

log = logging.getLogger(__name__)

LONG_WAIT_SECONDS = 2.0
"""A wait of more gives the worker back."""


def run_model_step(context: StepContext) -> None:
    """Call the model and commit its answer, its failure, or the run's abort."""
    _ModelStep(context).execute()


class _ModelStep:
    """One execution of a model step. `_step` counts the tries of the model that is being asked."""

    def __init__(self, context: StepContext) -> None:
        self._context = context
        self._held = context.held
        self._all = context.agent
        self._step = context.step
        self._agent = context.agent.choice(context.step.choice)
        self._buffer = context.buffer()
        self._builder = self._new_builder()
        self._discarded: Usage | None = None

    def execute(self) -> None:
        if (wait := self._begin_call()) is not None:
            self._buffer.emit(ModelWait(reason=wait.reason, delay_ms=wait.delay_ms))
            self._buffer.drain()
            self._context.wait(self._in_time(wait.delay_ms))
            self._context.rates.given_back(wait)
            return
        if self._held.lease.attempt > 1:
            # The first attempt's claim opened a message in the log; what it streamed is void.
            self._begin_anew("its worker is gone")
        while True:
            failure = None
            try:
                failure = None if self._held.cancel.cancelled else self._call()
            finally:
                self._context.rates.end(self._held, self._tokens_of(failure))
            if isinstance(failure, ProviderError):
                self._context.rates.note_failure(self._agent.model_name, failure)
            if failure is None or self._held.cancel.cancelled:
                break
            if isinstance(failure, ProviderError):
                again = self._next_try(failure)
                if again == "later":
                    return
                if again == "now":
                    wait = self._begin_call()
                    if wait is None:
                        continue
                    self._buffer.emit(ModelWait(reason=wait.reason, delay_ms=wait.delay_ms))
                    self._postpone(wait.delay_ms / 1000, wait.reason)
                    return
            break
        self._conclude(failure)

    def _begin_call(self) -> Wait | None:
        """Take the call's share of what may be asked of the model, or say why it has to wait."""
        context, agent = self._context, self._agent
        if self._held.cancel.cancelled:
            context.rates.leave(self._held, agent.model_name, context.queue)
            return None
        tokens = 0
        if any(rate.tokens for rate in context.rates.of(agent.model_name)):
            most = agent.options.get("max_output_tokens")
            tokens = estimated_tokens(self._held.state.messages, agent.agent.prompt.text, most)
        return context.rates.begin(self._held, agent.model_name, context.queue, tokens)

    def _tokens_of(self, failure: Exception | None) -> int | None:
        """Return what a call that is over has used; None where that is not known."""
        if self._held.slot is None or not any(rate.tokens for rate in self._held.slot.rates):
            return None
        if failure is None and self._builder.finished:
            return self._builder.message().usage.total_tokens
        if not isinstance(failure, ProviderError):
            return None
        return self._builder.usage(failure).total_tokens or (None if self._builder.started else 0)

    def _in_time(self, delay_ms: int) -> int:
        """Return a delay, or what the run has left of its time, if that is less."""
        left = time_left(self._held.state.record, self._all, self._context.now())
        return delay_ms if left is None else max(0, min(delay_ms, round(left * 1000)))

    def _call(self) -> Exception | None:
        """Feed the model's answer to the builder and the log; what went wrong, if something did."""
        try:
            agent = self._agent
            prompt = Prompt(agent.agent.prompt.text, self._messages(), agent.tool_specs(), self._options())
            if self._context.hooks.model_calls:
                HookedCall(self._context, self).answer(agent, prompt)
            else:
                self.ask(agent, prompt, self.emit)
        except (LeaseLostError, StoreError):
            raise  # of the way into the log
        except Exception as error:  # whatever a provider, a hook or an odd answer raises ends the run with its cause
            if self._held.cancel.cancelled:
                return None  # cut on purpose, whatever the provider makes of it
            return error
        return None

    # -- what a call through hooks needs (`Answer`)

    @property
    def builder(self) -> MessageBuilder:
        """What the open message is built by."""
        return self._builder

    def emit(self, updates: Sequence[AssistantMessageEvent]) -> None:
        """Write what has come of the open message."""
        self._buffer.emit(*(MessageUpdate(assistant_message_event=update) for update in updates))

    def ask(self, agent: BoundAgent, prompt: Prompt, emit: Callable[[Sequence[AssistantMessageEvent]], None]) -> None:
        """Ask a model, and feed its answer to the builder; `emit` gets what comes. Returns early where the step is cut.

        Raises what the model's call failed by.
        """
        self._context.notes.model = agent.model_name
        builder, cancel = self._builder, self._held.cancel

        def take(part: Part) -> bool:
            emit(builder.feed(part))
            return not cancel.cancelled

        reader = AnswerReader(take, self._buffer.collected)
        self._buffer.pull_from(reader.read_collected)
        try:
            request = ModelRequest(
                model=agent.model,
                instructions=prompt.instructions,
                messages=readable_by(agent.model_name, agent.api, prompt.messages),
                tools=prompt.tools,
                options=prompt.options,
                connection=agent.connection,
                instructions_cache=agent.agent.prompt.cache,
                cache=agent.agent.cache,
                bounds=agent.bounds,
                pace=self._buffer.collected_in,
                reader=reader if emit == self.emit else None,  # else a hook holds what comes
            )
            reader.read(agent.provider.stream(request, cancel))
            if not cancel.cancelled:
                self._check_answer(builder.message())  # raises where the response is not complete
        except (LeaseLostError, StoreError):
            raise
        except Exception as error:
            if not self._held.cancel.cancelled:
                self._note_failed_call(error)
            raise
        finally:
            self._buffer.pull_from(None)  # a circle would keep the run's whole state until garbage is collected

    def discard(
        self,
        reason: str | None,
        agent: BoundAgent | None = None,
        *,
        failure: ProviderError | None = None,
        counts: bool = True,
    ) -> None:
        """Drop what was answered, and begin anew, by `agent` where it is another.

        `reason`: why the open message is void, in the log; None where nothing of it is in the log. `failure`: what the
        answer failed by, if it did. `counts`: whether what it used counts as discarded.
        """
        if counts:
            self._discarded = self._with_usage_of(failure or ProviderError())
        self._agent = agent or self._agent
        if reason is None:
            self._builder = self._new_builder()
        else:
            self._begin_anew(reason)

    def _note_failed_call(self, failure: Exception) -> None:
        status = failure.status if isinstance(failure, ProviderError) else None
        provider, model = self._agent.provider.name, self._agent.model_name
        self._context.notes.failed_calls.append(FailedCall(provider, model, type(failure).__name__, status))

    def _check_answer(self, message: AssistantMessage) -> None:
        """Raise ProviderError for an answer to a user message that says nothing. After tool results it is an end."""
        messages = self._held.state.messages
        if self._builder.empty and messages and isinstance(messages[-1], UserMessage):
            vendor = self._agent.provider.name
            used = ": its limit of tokens was used up before" if message.stop_reason == "length" else ""
            raise ProviderError(f"{vendor}: the answer is empty{used}", retryable=True, vendor=vendor)

    def _cut_before(self) -> bool:
        """Whether the answer before, in this run, had a call that was cut off."""
        if self._held.state.record.turn <= 1:
            return False
        answers = (m for m in reversed(self._held.state.messages) if isinstance(m, AssistantMessage))
        answer = next(answers, None)
        return answer is not None and has_cut_call(answer)

    def _options(self) -> Mapping[str, Any]:
        """The model options of this call: a tool may be forced in the first call after a user message only."""
        options, messages = self._agent.options, self._held.state.messages
        is_first = not messages or isinstance(messages[-1], UserMessage)
        return options if is_first or not self._agent.agent.reset_tool_choice else without_forced_call(options)

    def _messages(self) -> Sequence[Message]:
        """The conversation as the application wants the model to see it."""
        messages = self._held.state.messages
        transform = self._agent.agent.transform_context
        if transform is None:
            return messages
        try:
            shown = to_json(list(messages))
            return check_messages(list(transform(shown, Run.of(self._held.state, shown))), self._context.now())
        except Exception as error:
            raise _ContextError from error

    def _next_try(self, error: ProviderError) -> Literal["now", "later"] | None:
        """Prepare another call of this model or of the next one: "now", "later" (not ours any more), or None."""
        discarded = self._with_usage_of(error)
        self._agent = self._all.choice(self._step.choice)  # a hook may have asked another
        if over_limits(with_discarded(self._held.state, discarded).record, self._all, self._context.now()) is not None:
            return None
        step, policy = self._step, self._agent.retry
        tries, since = step.tries + 1, step.since or self._context.now()
        log.warning("model call %d of step %s of run %s failed: %s", tries, step.number, self._held.lease.run_id, error)
        delay = policy.delay(error, tries, (self._context.now() - since) / 1000) if policy is not None else None
        if delay is None:
            if step.choice + 1 >= self._all.choices:
                return None
            self._discarded = discarded
            self._step = msgspec.structs.replace(step, choice=step.choice + 1, tries=0, since=None)
            self._agent = self._all.choice(self._step.choice)
            reason = f"{error.message}; asking {self._agent.model_name} instead"
            if self._context.rates.of(self._agent.model_name):
                self._postpone(0.0, reason)
                return "later"
            self._begin_anew(self._context.texts.redact(reason))
            return "now"
        assert policy is not None
        self._discarded = discarded
        self._step = msgspec.structs.replace(step, tries=tries, since=since)
        self._buffer.emit(
            ModelRetry(
                attempt=tries + 1,
                max_attempts=policy.attempts,
                delay_ms=round(delay * 1000),
                error=self._context.texts.redact(error.message),
            )
        )
        until = time.monotonic() + delay
        # With rates, the next call is another step's: what waits for its share is a step that has done nothing.
        has_rates = bool(self._context.rates.of(self._agent.model_name))
        longest = LONG_WAIT_SECONDS if self._context.inline is None else 0.0
        if has_rates or delay > longest or self._context.stopping():
            self._postpone(delay, error.message)
            return "later"
        if self._builder.started:
            self._begin_anew("the call failed, and is tried again")
        else:
            self._builder = self._new_builder()
        self._held.waiting = True
        self._held.cancel.wait(delay)
        self._held.waiting = False
        if self._held.cancel.reason == "stop":
            self._postpone(max(0.0, until - time.monotonic()), error.message)
            return "later"
        return "now"

    def _with_usage_of(self, error: ProviderError) -> Usage | None:
        """Return what this step's failed tries have used, the one that has just failed among them."""
        usage = self._builder.usage(error)
        if usage == Usage.of():
            return self._discarded
        return usage if self._discarded is None else add_usage(self._discarded, usage)

    def _postpone(self, delay: float, reason: str) -> None:
        """Close this step and have another due when the wait is over, or the run's time."""
        held, waiting = self._held, self._step
        at = self._context.now() + self._in_time(round(delay * 1000))

        def transition(state: RunState) -> Change:
            return postpone(
                state,
                self._agent,
                held.lease.step,
                waiting,
                at,
                self._context.texts.redact(reason),
                self._context.now(),
            )

        self._end_blocks()
        self._context.notes.outcome, self._context.notes.usage = "postponed", self._discarded
        self._commit(transition)

    def _conclude(self, failure: Exception | None) -> None:
        """Commit what came of it."""
        held, builder = self._held, self._builder
        reason = held.cancel.reason
        if reason == "lost":
            raise LeaseLostError
        if reason == "stop" and failure is None and not builder.finished:
            self._buffer.drain()
            self._context.notes.usage = self._discarded
            self._context.hand_back(self._discarded)
            return
        self._end_blocks()
        whole = builder.message() if failure is None and builder.finished else None
        calls = [] if whole is None else admit_calls(self._context, whole)
        error = TIME_IS_OVER if held.cancel.reason == "deadline" else None
        if failure is not None and error is None:
            error = self._error_of(failure)
            if isinstance(failure, ProviderError):
                builder.fail(failure)

        def transition(state: RunState) -> Change:
            if error is not None:
                code, text = error
                return fail(state, code, text, self._context.now(), message=self._message("error", text))
            message = self._note_usage(builder.message() if whole is None else whole)
            now, cut_before = self._context.now(), self._cut_before()
            return finish_model(state, self._all, held.lease.step, message, calls, now, cut_before=cut_before)

        self._commit(transition)

    def _commit(self, transition: Callable[[RunState], Change]) -> None:
        self._context.commit(
            transition, self._buffer.drain(), message=lambda: self._message("aborted"), discarded=self._discarded
        )

    def _error_of(self, failure: Exception) -> tuple[str, str]:
        """Make the code and the text of the run's error."""
        if isinstance(failure, HookError):
            self._context.notes.exception = failure.failure
            return "step_failed", f"{failure} raised {self._context.texts.of(failure.failure)}"
        if isinstance(failure, _ContextError) and failure.__cause__ is not None:
            self._context.notes.exception = failure.__cause__
            return "step_failed", f"transform_context raised {self._context.texts.of(failure.__cause__)}"
        self._context.notes.exception = failure
        if isinstance(failure, ProviderError):
            used = with_discarded(self._held.state, self._with_usage_of(failure)).record
            over = over_limits(used, self._all, self._context.now())
            if over is not None:
                return over.code, over.message
        return "provider_error", self._context.texts.of(failure)

    def _note_usage(self, message: AssistantMessage) -> AssistantMessage:
        """Note what the answer and the failed calls before it used."""
        used = message.usage if self._discarded is None else add_usage(self._discarded, message.usage)
        self._context.notes.usage = used
        return message

    def _message(self, stop_reason: StopReason, error: str | None = None) -> AssistantMessage:
        return self._note_usage(self._builder.message(stop_reason=stop_reason, error=error))

    def _end_blocks(self) -> None:
        self._buffer.emit(*(MessageUpdate(assistant_message_event=update) for update in self._builder.finish()))

    def _begin_anew(self, reason: str) -> None:
        """Void the open message and open another."""
        self._builder = self._new_builder()
        self._buffer.emit(MessageDiscard(reason=reason), MessageStart(message=self._builder.start()))

    def _new_builder(self) -> MessageBuilder:
        agent = self._agent
        return MessageBuilder(
            api=agent.api, provider=agent.provider.name, model=agent.model, timestamp=self._context.now()
        )


class _ContextError(Exception):
    """The application's transform_context failed; the cause says how."""
