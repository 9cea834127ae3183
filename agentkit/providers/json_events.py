"""Server-sent events whose data is JSON objects, as several vendors stream them. It knows no vendor's fields."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from httpx_sse import ServerSentEvent

from agentkit.core.messages import Json
from agentkit.errors import ProviderError
from agentkit.providers.failures import stream_error

__all__ = ["is_done", "json_events"]

_DONE = ("[DONE]", "DONE")


def is_done(data: str) -> bool:
    """Whether an event's data is what OpenAI's streams end with, and some gateways' of other vendors too: `[DONE]`."""
    return len(data) < 20 and data.strip().upper() in _DONE


def json_events(events: Iterable[ServerSentEvent], vendor: str) -> Iterator[tuple[str, Json]]:
    """Yield each event's name and object; a list of objects, as Google sends all chunks at once, is as many events.

    Raises ProviderError for other data, say the text of an error.
    """
    for event in events:
        if not event.data.strip() or is_done(event.data):
            continue
        try:
            value = json.loads(event.data)
        except (ValueError, RecursionError):
            value = event.data
        if isinstance(value, dict):
            yield event.event, value
        elif event.event == "error":
            raise stream_error(vendor, value)
        elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            for entry in value:
                if entry.get("error"):
                    raise stream_error(vendor, entry["error"])
                yield event.event, entry
        else:
            raise ProviderError(f"{vendor} sent an event that is no JSON object", retryable=True, vendor=vendor)
