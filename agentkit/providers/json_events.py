"""Server-sent events whose data is JSON objects, as several vendors stream them. It knows no vendor's fields."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from httpx_sse import ServerSentEvent

from agentkit.core.messages import Json
from agentkit.errors import ProviderError
from agentkit.providers.failures import stream_error

__all__ = ["DONE", "json_events"]

DONE = "[DONE]"
"""What OpenAI's streams end with, and some gateways' of other vendors too."""


def json_events(events: Iterable[ServerSentEvent], vendor: str) -> Iterator[tuple[str, Json]]:
    """Yield each event's name and object. Raises ProviderError for other data, say the text of an error."""
    for event in events:
        if not event.data or event.data.strip() == DONE:
            continue
        try:
            value = json.loads(event.data)
        except (ValueError, RecursionError):
            value = event.data
        if isinstance(value, dict):
            yield event.event, value
        elif event.event == "error":
            raise stream_error(vendor, value)
        else:
            raise ProviderError(f"{vendor} sent an event that is no JSON object", retryable=True, vendor=vendor)
