"""The metrics that an installation shows: their names, labels and help texts, in one place.

What is counted goes by these definitions into the store, and `/metrics`, docs/reference/metrics.md and the board of
`deploy/` go by them too. Nothing here does I/O, and nothing knows where a number comes from.

Every label has few values, which the application declares or this package does: a value that neither knows is `OTHER`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "COST",
    "DECISIONS",
    "DECISION_OUTCOMES",
    "EVENT_STREAMS",
    "HTTP_REQUESTS",
    "INFO",
    "METRICS",
    "MODEL_RETRIES",
    "OTHER",
    "PENDING_ITEMS",
    "PENDING_OLDEST",
    "QUEUE_MESSAGES",
    "RECOVERED_STEPS",
    "RUNS_DUE",
    "RUNS_ENDED",
    "RUNS_OVERDUE",
    "RUNS_STARTED",
    "SECONDS_BOUNDS",
    "STEPS",
    "STEP_SECONDS",
    "STEP_WAIT",
    "STORE_UP",
    "TOKENS",
    "WORKERS",
    "WORKER_SLOTS",
    "WORKER_TASKS",
    "Metric",
]

OTHER = "other"
"""The value of a label that is none of those which are declared."""

DECISION_OUTCOMES = ("decided", "rejected", "expired", "remembered")
"""How a pending item was settled. "remembered": nobody was asked, and an earlier answer counts."""

SECONDS_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""The upper bounds of the buckets of histograms: a tool may take milliseconds, and a model minutes."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family. `name`: with its unit, that of a counter without the `_total` that is shown after it."""

    name: str
    type: Literal["counter", "gauge", "histogram", "info"]
    help: str
    labels: tuple[str, ...] = ()

    @property
    def shown_name(self) -> str:
        """The name as Prometheus has it."""
        return self.name + {"counter": "_total", "info": "_info"}.get(self.type, "")


# What happened: counted by the process that saw it, and added up in the store.
RUNS_STARTED = Metric("agentkit_runs_started", "counter", "Runs that were started, sub-agents' among them.", ("agent",))
RUNS_ENDED = Metric(
    "agentkit_runs_ended",
    "counter",
    "Runs that have ended, by their status and the code of their error, empty where there is none.",
    ("agent", "status", "code"),
)
STEPS = Metric(
    "agentkit_steps",
    "counter",
    "Executions of steps that have ended, by their outcome.",
    ("kind", "agent", "outcome"),
)
STEP_SECONDS = Metric("agentkit_step_seconds", "histogram", "Time from the claim of a step to its end.", ("kind",))
STEP_WAIT = Metric(
    "agentkit_step_wait_seconds",
    "histogram",
    "Time from when a step was due to its first claim, at least.",
    ("kind",),
)
TOKENS = Metric(
    "agentkit_tokens", "counter", "Tokens that models were sent and answered, as vendors count them.", ("model", "type")
)
COST = Metric("agentkit_cost_dollars", "counter", "Cost of the tokens in US dollars, by the known prices.", ("model",))
MODEL_RETRIES = Metric(
    "agentkit_model_retries",
    "counter",
    "Calls of models that failed and were made again, or of another model, by the HTTP status; none where it broke.",
    ("provider", "status"),
)
DECISIONS = Metric("agentkit_decisions", "counter", "Pending items that were settled, by how.", ("outcome",))
RECOVERED_STEPS = Metric(
    "agentkit_recovered_steps",
    "counter",
    "Steps that recovery enqueued again: their worker was gone, or their message lost or late.",
    ("reason",),
)
HTTP_REQUESTS = Metric(
    "agentkit_http_requests", "counter", "HTTP requests that were answered, of all web processes.", ("method", "status")
)

# What is, as the store or the broker knows it.
STORE_UP = Metric("agentkit_store_up", "gauge", "1 where the store answers, 0 where it does not.")
RUNS_DUE = Metric(
    "agentkit_runs_due",
    "gauge",
    "Runs that have not ended and are checked at a time: queued and running ones, and paused ones that expire.",
)
RUNS_OVERDUE = Metric("agentkit_runs_overdue", "gauge", "Runs whose check is overdue: no worker has taken them yet.")
WORKERS = Metric("agentkit_workers", "gauge", "Workers whose heartbeat is recent.")
PENDING_ITEMS = Metric(
    "agentkit_pending_items", "gauge", "Items that wait for somebody's answer, in all runs.", ("kind", "agent")
)
PENDING_OLDEST = Metric("agentkit_pending_oldest_seconds", "gauge", "Age of the oldest pending item; 0 without any.")
QUEUE_MESSAGES = Metric(
    "agentkit_queue_messages", "gauge", "Messages that wait in a queue and that no worker has taken.", ("queue",)
)

# What is, as each process says of itself: the sum over those that live.
EVENT_STREAMS = Metric("agentkit_event_streams", "gauge", "Event streams and WebSockets open in all web processes.")
WORKER_SLOTS = Metric("agentkit_worker_slots", "gauge", "Tasks that the workers can execute at once.")
WORKER_TASKS = Metric("agentkit_worker_tasks", "gauge", "Tasks that workers have taken and not finished.")

INFO = Metric("agentkit", "info", "The version of agentkit.", ("version",))

METRICS = (
    INFO,
    STORE_UP,
    RUNS_STARTED,
    RUNS_ENDED,
    RUNS_DUE,
    RUNS_OVERDUE,
    STEPS,
    STEP_SECONDS,
    STEP_WAIT,
    RECOVERED_STEPS,
    TOKENS,
    COST,
    MODEL_RETRIES,
    PENDING_ITEMS,
    PENDING_OLDEST,
    DECISIONS,
    QUEUE_MESSAGES,
    WORKERS,
    WORKER_SLOTS,
    WORKER_TASKS,
    EVENT_STREAMS,
    HTTP_REQUESTS,
)
"""All of them, in the order in which they are shown."""
