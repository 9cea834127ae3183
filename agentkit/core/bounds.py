"""The bounds of what models, their vendors and tools may cost a process: plain numbers, which the settings give.

docs/explanation/guarantees.md lists them with what happens at each.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Bounds"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of one application. The defaults are those of the settings.

    `model_line_bytes`, `model_answer_bytes`: one line of a vendor's answer, and the whole of it, as it comes and
    decompressed. `model_silence_seconds`: how long a vendor may send no content, whatever keepalives it sends.
    `max_result_bytes`: what a tool call comes to, as JSON: content and details of a tool's result, an update, what a
    client, a person or a sub-agent answers. `max_calls_per_turn`: tool calls of one answer that are carried out.
    `max_child_runs`: the runs of sub-agents that one run may start. `max_queued_messages`, `max_queued_bytes`: the
    messages that were sent into a run and wait, and the bytes of their contents. `max_history_bytes`: the messages that
    a run takes from another to begin with, as JSON.
    """

    model_line_bytes: int = 16_000_000
    model_answer_bytes: int = 64_000_000
    model_silence_seconds: float = 300.0
    max_result_bytes: int = 10_000_000
    max_calls_per_turn: int = 500
    max_child_runs: int = 100
    max_queued_messages: int = 100
    max_queued_bytes: int = 1_000_000
    max_history_bytes: int = 64_000_000
