"""The part of the store protocol that divides what is scarce: what may be asked of models, what owners may have, and
the turns of workers.

What is kept here spans runs, and no call of it spans a run's keys: what a crash leaves behind ends by itself, or is
found by whoever asks next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from agentkit.core.quotas import Admission
from agentkit.core.rates import CallRequest, CallSlot, CallWait, WaitingStep
from agentkit.core.ready import ReadyStep

__all__ = ["Shares"]


class Shares(Protocol):
    """Errors are those of `agentkit.store.protocol.Store`; each call is atomic."""

    # -- what all workers together ask of models

    def take_call(self, request: CallRequest, lease_ms: int, wake_ms: int) -> CallSlot | CallWait:
        """Give a model call its share of all of its rates, or of none.

        One that has to wait stands in the queue of each rate that it waits for. The order is fair: turns go round the
        owners that wait, and each owner's steps come in the order in which they asked. A step whose turn has come is
        woken, once, in the reply of the call that found it; it keeps what it was woken for `wake_ms`, and has then lost
        its place. Nobody takes what another was woken for. A share of calls at a time ends after `lease_ms` unless it
        is renewed. Where more tokens are asked for than a rate has in all, the call waits until none are in use.
        The same `request` again answers as before.
        """
        ...

    def settle_call(self, slot: CallSlot, tokens: int | None, lease_ms: int, wake_ms: int) -> tuple[WaitingStep, ...]:
        """End a call; returns the steps that are woken.

        `tokens`: what it used, in place of what was estimated, None where that is not known. What counts in a time
        stays counted until the time is over. Harmless repeated, and for a share whose lease has ended. `wake_ms` as for
        `take_call`.
        """
        ...

    def renew_calls(self, slots: Sequence[CallSlot], lease_ms: int) -> None:
        """Extend the leases of shares, in one round trip; one that has ended stays so."""
        ...

    def is_woken(self, request: CallRequest) -> bool:
        """Whether a step that waits was woken and has not come: it may have been before it could be executed."""
        ...

    def leave_calls(self, request: CallRequest) -> None:
        """Have a step wait no more that will not come; harmless where it does not wait."""
        ...

    def pause_model(self, model: str, until: int) -> None:
        """Have nobody call the model `provider:model` before `until` (ms), or before a later time that is known."""
        ...

    def paused_models(self) -> Mapping[str, int]:
        """List the models that nobody is to call, and until when (ms)."""
        ...

    # -- what an owner has: "" for runs of nobody. Days are counted from the Unix epoch, costs in billionths of a dollar

    def admit_run(
        self, owner: str, run_id: str, day: int, active_runs: int | None, cost_per_day: int | None
    ) -> Admission:
        """Count a run as active, if less than `active_runs` are and `day` has cost less than `cost_per_day`.

        One that counts already is admitted; what is refused changes nothing.
        """
        ...

    def leave_run(self, owner: str, run_id: str) -> None:
        """Count a run as active no more; harmless where it does not count."""
        ...

    def active_runs(self, owner: str) -> list[tuple[str, int]]:
        """List the runs that count as active, and since when (ms)."""
        ...

    def count_cost(self, owner: str, run_id: str, day: int, before: int, after: int) -> None:
        """Count that a run's total cost went from `before` to `after` on `day`.

        Harmless repeated, and in any order: what counts is the span of all totals that were told of a run and a day.
        What a day has cost is kept for another.
        """
        ...

    # -- the ready sets of queues: steps that are due, and whose turn it is

    def add_ready(self, queue: str, steps: Sequence[ReadyStep], owner: str, priority: int) -> None:
        """Put steps that are due into the ready set of a queue; one that is there stays where it is.

        A set is forgotten where nothing was added for an hour.
        """
        ...

    def take_ready(
        self, queues: Sequence[str], step: ReadyStep | None
    ) -> tuple[ReadyStep, str] | Literal["absent"] | None:
        """Take the step whose turn it is out of the ready sets of queues, with its queue; None where there is none.

        That is one of the highest priority, of the first queue where several have such, and there the next of the owner
        whose turn it is. Where `step` is given and is not in the set of the first queue, nothing changes: "absent".
        """
        ...

    def has_ready(self, queues: Sequence[str]) -> bool:
        """Whether steps stand, or stood lately, in the ready set of one of the queues."""
        ...
