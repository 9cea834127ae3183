"""Asks for each model call's share of what all workers together may ask of its model, and enqueues who waits for one.

    claim ─► take ─► call ─► settle ─► enqueue those whose turn it is
               └─► wait: the step is given back, and holds no worker

Rules that this module alone knows:

1. A step that has to wait is given back untouched: that is no attempt and no try. It stands in the store's queue, and
   is enqueued by whoever ends a call. Should that be lost with its process, the due index has the step ask again.
2. A vendor that answers 429 with Retry-After has its model paused for all workers, for at most `MOST_PAUSE_SECONDS`:
   then somebody asks again. What is paused is read every `_FRESH_SECONDS`, however many calls there are.
"""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Sequence

from agentkit.core.forks import ForkSafeLock
from agentkit.core.ids import random_id
from agentkit.core.messages import AssistantMessage, Message, TextBlock, text_of
from agentkit.core.rates import CallRequest, CallWait, Rate, WaitingStep
from agentkit.errors import ProviderError, StoreError
from agentkit.queue.protocol import StepQueue
from agentkit.runtime.leases import Held
from agentkit.store.protocol import Store

__all__ = ["MOST_PAUSE_SECONDS", "ModelRates", "Wait", "estimated_tokens"]

log = logging.getLogger(__name__)

MOST_PAUSE_SECONDS = 300.0
_FRESH_SECONDS = 0.25
_WAKE_MS = 3000
_SPREAD = 0.1
"""The part of a pause over which those that waited for its end come back."""
_SLACK_MS = 50
_MEDIA_TOKENS = 1000
_OUTPUT_TOKENS = 256


class Wait:
    """Why a call has to wait, in words, and for how many ms at most. `request`: as it stands in the store's queue."""

    def __init__(self, reason: str, delay_ms: int, request: CallRequest | None = None) -> None:
        self.reason = reason
        self.delay_ms = delay_ms
        self.request = request


class ModelRates:
    """Of one process. `store`: waits for a server that is away. `rates`: those of the kit."""

    def __init__(self, store: Store, queue: StepQueue, rates: Sequence[Rate], lease_ms: int) -> None:
        self._store = store
        self._queue = queue
        self._rates = tuple(rates)
        self._lease_ms = lease_ms
        self._paused: dict[str, int] = {}
        self._read_at = float("-inf")
        self._reading = ForkSafeLock()
        self.of = functools.lru_cache(1000)(self._of)

    def _of(self, model: str) -> tuple[Rate, ...]:
        """Return the rates that count for the model `provider:model`."""
        return tuple(rate for rate in self._rates if rate.matches(model))

    def begin(self, held: Held, model: str, queue: str | None, tokens: int) -> Wait | None:
        """Take a call's share, which is the held step's until `end`; or say why the call has to wait.

        `queue`: the one to which the step is enqueued. `tokens`: what the call is estimated to use.
        """
        left = self._paused_until(model) - self._store.now()
        if left > _SLACK_MS:
            delay = left + round(random.uniform(0, left * _SPREAD))
            return Wait(f"{model} is paused: its vendor answered 429 with Retry-After", delay)
        rates = self.of(model)
        if not rates:
            return None
        step = WaitingStep(held.lease.run_id, held.lease.step, queue)
        request = CallRequest(random_id(), step, rates, held.state.record.owner or "", tokens)
        taken = self._store.take_call(request, self._lease_ms, _WAKE_MS)
        self._enqueue(taken.woken)
        if isinstance(taken, CallWait):
            return Wait(taken.rate.describe(taken.bound), taken.delay_ms, request)
        held.slot = taken
        return None

    def end(self, held: Held, tokens: int | None) -> None:
        """Give a call's share back. `tokens`: what it used, None where that is not known."""
        slot, held.slot = held.slot, None
        if slot is not None:
            try:
                self._enqueue(self._store.settle_call(slot, tokens, self._lease_ms, _WAKE_MS))
            except StoreError as error:  # what the call came to is worth more, and the share ends by itself
                log.warning("run %s: its share of a rate ends with its lease: %s", held.lease.run_id, error)

    def given_back(self, wait: Wait) -> None:
        """Enqueue a step that was given back, if its turn came before it was."""
        if wait.request is not None and self._store.is_woken(wait.request):
            self._enqueue([wait.request.step])

    def leave(self, held: Held, model: str, queue: str | None) -> None:
        """Have a step that will make no call wait for none."""
        rates = self.of(model)
        if rates:
            step = WaitingStep(held.lease.run_id, held.lease.step, queue)
            self._store.leave_calls(CallRequest("", step, rates))

    def note_failure(self, model: str, error: ProviderError) -> None:
        """Pause a model for all workers, where its vendor asked to."""
        if error.status != 429 or not error.retry_after:
            return
        seconds = min(error.retry_after, MOST_PAUSE_SECONDS)
        until = self._store.now() + round(seconds * 1000)
        with self._reading:
            self._store.pause_model(model, until)
            self._paused[model] = max(until, self._paused.get(model, 0))
        log.warning("%s is called by no worker for %.1f s: its vendor answered 429 with Retry-After", model, seconds)

    def _paused_until(self, model: str) -> int:
        if time.monotonic() >= self._read_at + _FRESH_SECONDS:
            with self._reading:  # who comes meanwhile waits for the answer
                now = time.monotonic()
                if now >= self._read_at + _FRESH_SECONDS:
                    self._paused = dict(self._store.paused_models())
                    self._read_at = now
        return self._paused.get(model, 0)

    def _enqueue(self, steps: Sequence[WaitingStep]) -> None:
        for step in steps:
            self._queue.enqueue(step.run_id, step.number, "model", step.queue)


def estimated_tokens(messages: Sequence[Message], instructions: str, most_output: int | None) -> int:
    """Estimate what a model call uses: what the last answer's did, and what has come since, four letters a token."""
    counted, letters, media = 0, len(instructions), 0
    for message in reversed(messages):
        if isinstance(message, AssistantMessage) and message.usage.total_tokens:
            counted, letters = message.usage.total_tokens, letters - len(instructions)
            break
        letters += len(text_of(message))
        media += sum(not isinstance(block, TextBlock) for block in message.content if not isinstance(block, str))
    return counted + letters // 4 + media * _MEDIA_TOKENS + (most_output or _OUTPUT_TOKENS)
