"""What traces are joined by: the ids of a run's trace, and the headers that go along with requests to other systems.

Knows nothing of who writes the spans.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from contextvars import ContextVar

__all__ = ["outgoing_headers", "root_span_id", "span_id", "trace_id", "traceparent"]

outgoing_headers: ContextVar[Mapping[str, str]] = ContextVar("agentkit_outgoing_headers")
"""What a provider sends along with its requests, below its own headers and the application's; unset: nothing."""


def trace_id(run_id: str) -> int:
    """Return the id of a run's trace: the run's own, which is a UUID, as a number of 128 bits."""
    return uuid.UUID(run_id).int


def root_span_id(run_id: str) -> int:
    """Return the id of the root span of a run's trace."""
    return span_id(run_id)


def span_id(key: str) -> int:
    """Return the id, of 64 bits, of the span that a key stands for."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") or 1


def traceparent(run_id: str) -> str:
    """Write the header by which what follows belongs to the run's trace (w3.org/TR/trace-context)."""
    return f"00-{trace_id(run_id):032x}-{root_span_id(run_id):016x}-01"
