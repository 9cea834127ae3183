"""The open assistant message of a run that is cut short by somebody who did not stream it: read from the run's log."""

from __future__ import annotations

from collections.abc import Sequence

from agentkit.core.events import Event, open_message, read_event
from agentkit.core.messages import AssistantMessage, StopReason, Usage
from agentkit.core.record import RunRecord, Step
from agentkit.runtime.commit import Committer
from agentkit.store.protocol import Store

__all__ = ["cut_message"]


def cut_message(
    committer: Committer,
    store: Store,
    record: RunRecord,
    step: Step | None,
    stop_reason: StopReason,
    error: str | None = None,
) -> tuple[AssistantMessage | None, Sequence[Event]]:
    """Read the open assistant message as far as it was streamed in `step`, and the ends of its open blocks.

    (None, ()) for a step that is no model call. `store`: the committer's, or the one that waits for it.
    """
    if step is None or step.kind != "model":
        return None, ()
    streamed = open_message(_read_log(store, record.id))
    message, ends = streamed or (_empty_message(committer, record), [])
    message.stop_reason = stop_reason
    message.error_message = error
    return message, ends


def _read_log(store: Store, run_id: str) -> list[Event]:
    """Read the whole log of a run, as far as it is kept."""
    events: list[Event] = []
    after = 0
    while True:
        page = store.events(run_id, after, 1000)
        events += [read_event(event.data) for event in page.events]
        if len(page.events) < 1000:
            return events
        after = page.events[-1].seq


def _empty_message(committer: Committer, record: RunRecord) -> AssistantMessage:
    """Make what stands for a message whose beginning is no longer kept."""
    agent = committer.bind(record)
    if agent is not None:
        return agent.empty_message(committer.now())
    provider, _, model = record.model.partition(":")
    return AssistantMessage([], "", provider, model, Usage.of(), "stop", committer.now())
