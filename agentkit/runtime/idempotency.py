"""Calls to a run that have an idempotency key: each is done once, however often it is sent.

What is kept of such a call, its receipt, is written in the commit of what the call changes. So one that is sent again
because its reply was lost finds both or neither. A call that was refused leaves no receipt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from agentkit.core.events import PendingItem
from agentkit.core.record import Change, Receipt, RunState
from agentkit.core.requests import check_idempotency_key
from agentkit.core.struct import digest
from agentkit.errors import DecisionAmbiguousError, IdempotencyConflictError
from agentkit.runtime.commit import Transition
from agentkit.store.protocol import Store

__all__ = ["CallKey", "Once", "Permit", "permitted", "receipt_alone"]

Permit = Callable[[str | None], str | None]
"""Checks the right to the pending item of an id, or the one that is meant without any, and returns its id.

Raises DecisionAmbiguousError where it is not certain which one is meant.
"""


@dataclass(frozen=True, slots=True)
class CallKey:
    """An idempotency key of one caller for one run, `name`, and what is asked under it, `digest`."""

    name: str
    digest: str

    @classmethod
    def of(cls, key: str | None, run_id: str, caller: str | None, request: Any) -> CallKey | None:
        """Make the key of a call; None where it has none. `request`: what it asks for, as JSON.

        Raises InvalidRequestError for what is no key.
        """
        if key is None:
            return None
        return cls(digest([run_id, caller, check_idempotency_key(key)]), digest(request))


class Once:
    """The transition of a call, `transition`, that is not made where the call's receipt is there already.

    Without a key it is made each time. `done`: the receipt that was there, None where there was none. Raises
    IdempotencyConflictError where it is that of another request under the same key.
    """

    def __init__(self, store: Store, key: CallKey | None, transition: Transition) -> None:
        self._store = store
        self._key = key
        self._transition = transition
        self.done: Receipt | None = None

    def __call__(self, state: RunState) -> Change | None:
        key = self._key
        if key is None:
            return self._transition(state)
        # Read after the state: where that is still the run's when the change is committed, so is this.
        self.done = self._store.receipt(state.record.id, key.name)
        if self.done is not None:
            if self.done.digest not in ("", key.digest):
                raise IdempotencyConflictError
            return None
        change = self._transition(state)
        if change is None or change.receipt is not None:
            return change
        return replace(change, receipt=Receipt(key.name, key.digest))


def receipt_alone(
    state: RunState, key: CallKey | None, *, since: int | None = None, item: PendingItem | None = None
) -> Change | None:
    """Make the change of a call that changes nothing else: its receipt; None without a key, and for an ended run.

    `since`: the seq after which the call's reply begins. `item`: that of a sub-agent's run, which takes the call and
    has a receipt of its own; repeated, the call goes to the same item.
    """
    if key is None or state.record.terminal:
        return None
    if item is None:
        receipt = Receipt(key.name, key.digest, since)
    else:
        receipt = Receipt(key.name, "", since, item.run_id, item.decision_id)
    return Change(state.record, before=state.record, receipt=receipt)


def permitted(
    store: Store, run_id: str, key: CallKey | None, decision_id: str | None, permit: Permit | None
) -> str | None:
    """Check the right to a pending item, and return its id as far as it is known.

    It is not checked for a call that was done under its key already: that item may be gone, and the next one is not the
    one that is meant.
    """
    known = store.receipt(run_id, key.name) if key else None
    if known is not None and known.child is None:
        return decision_id
    if known is not None:
        decision_id = decision_id or known.decision_id
    try:
        return permit(decision_id) if permit else decision_id
    except DecisionAmbiguousError:
        if key is None or store.receipt(run_id, key.name) is None:  # the same call may have been done meanwhile
            raise
        return decision_id
