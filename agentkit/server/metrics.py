"""What `/metrics` answers: the counts of all processes, and how things are, read from the store at each request.

Rendered by prometheus_client, whose registry of this process has no part in it: the process that is asked is one of
several, and hardly any of what is shown is its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import get_args

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from agentkit import __version__
from agentkit.core import metrics as m
from agentkit.core.events import ItemKind
from agentkit.core.inbox import ItemFilter
from agentkit.errors import StoreUnavailableError
from agentkit.kit import AgentKit
from agentkit.runtime import inbox
from agentkit.runtime.metrics import SUM, read_counts
from agentkit.runtime.reports import RecoveryReason
from agentkit.server.streams import open_streams

__all__ = ["count_response", "render"]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

Values = Mapping[tuple[str, ...], float]
"""The values of a metric, by those of its labels; of a histogram also by the bound of a bucket, or "sum"."""


def render(kit: AgentKit, accept: str) -> tuple[bytes, str]:
    """Render the metrics of an installation in the format that `accept` asks for, and say which that is.

    Where the store cannot be asked, they are that it cannot.
    """
    kit.metrics.report()  # what this process has just done is part of it
    try:
        found = _read(kit)
    except StoreUnavailableError:
        found = {m.STORE_UP: {(): 0}}
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(found))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def count_response(kit: AgentKit, method: str, status: int) -> None:
    """Count a request that this process has answered, and show from now on how many event streams it serves."""
    metrics = kit.metrics
    metrics.show_level(m.EVENT_STREAMS, open_streams)
    # A client can invent methods: unknown ones share one label.
    metrics.add(m.HTTP_REQUESTS, method if method in _METHODS else m.OTHER, str(status))


class _Families(Collector):
    """The families of what was found, in the order in which they are defined."""

    def __init__(self, found: Mapping[m.Metric, Values]) -> None:
        self._found: dict[m.Metric, Values] = {m.INFO: {(__version__,): 1}, **found}

    def collect(self) -> Iterable[Family]:
        return [_family(metric, self._found[metric]) for metric in m.METRICS if metric in self._found]


def _family(metric: m.Metric, values: Values) -> Family:
    if metric.type == "histogram":
        return _histogram(metric, values)
    family: CounterMetricFamily | GaugeMetricFamily | InfoMetricFamily
    if metric.type == "info":
        family = InfoMetricFamily(metric.name, metric.help)
        for labels in values:
            family.add_metric((), dict(zip(metric.labels, labels, strict=True)))
        return family
    family = (CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily)(
        metric.name, metric.help, labels=metric.labels
    )
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    return family


def _histogram(metric: m.Metric, values: Values) -> HistogramMetricFamily:
    """Make a histogram of how many values are in each bucket, which Prometheus wants with those of all below."""
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels in sorted({key[:-1] for key in values}):
        counts = dict.fromkeys((*m.SECONDS_BOUNDS, float("inf")), 0.0)
        for key, count in values.items():
            if key[:-1] == labels and key[-1] != SUM:
                counts[float(key[-1])] = count  # an older version may have had other bounds
        total, buckets = 0.0, []
        for bound in sorted(counts):
            total += counts[bound]
            buckets.append((floatToGoString(bound), total))  # type: ignore[no-untyped-call]
        family.add_metric(labels, buckets, values.get((*labels, SUM), 0.0))
    return family


def _read(kit: AgentKit) -> dict[m.Metric, Values]:
    """Read all that the store and the broker know. Raises StoreUnavailableError."""
    store = kit.store
    indexed, overdue = store.backlog()
    due = max(0, indexed - store.count_ended())
    totals = store.totals()
    found: dict[m.Metric, Values] = {m.STORE_UP: {(): 1}}
    found[m.RUNS_DUE] = {(): due}
    found[m.RUNS_OVERDUE] = {(): min(overdue, due)}  # an ended run is checked too, and waits for nothing
    found[m.WORKERS] = {(): len(store.workers())}
    pending = inbox.count(store, inbox.InboxFilter())
    created_at = pending.oldest_created_at
    found[m.PENDING_OLDEST] = {(): 0 if created_at is None else max(0, store.now() - created_at) / 1000}
    found[m.PENDING_ITEMS] = _pending_items(kit, pending.pending)
    if (lengths := kit.queue_lengths()) is not None:
        found[m.QUEUE_MESSAGES] = {(queue,): length for queue, length in lengths.items()}
    for metric in (m.EVENT_STREAMS, m.WORKER_SLOTS, m.WORKER_TASKS):
        found[metric] = {(): totals.levels.get(metric.name, 0)}
    zeroes = dict(_zeroes(kit))
    for metric, values in read_counts(totals.counts).items():
        found[metric] = {**zeroes.get(metric, {}), **values}
    return found


def _pending_items(kit: AgentKit, total: int) -> Values:
    """Count the pending items of each declared agent by their kind, and the rest as one."""
    filters = [ItemFilter(kind=kind, agent=bound.name) for kind in get_args(ItemKind) for bound in kit.agents]
    counts = kit.store.count_items(*filters)
    values: dict[tuple[str, ...], float] = {
        (str(each.kind), str(each.agent)): count for each, count in zip(filters, counts, strict=True)
    }
    if (rest := total - sum(counts)) > 0:
        values[m.OTHER, m.OTHER] = rest
    return values


def _zeroes(kit: AgentKit) -> Iterator[tuple[m.Metric, Values]]:
    """Yield counters that are shown before anything was counted, so that the first of it shows as an increase."""
    agents = [bound.name for bound in kit.agents]
    yield m.RUNS_STARTED, {(agent,): 0 for agent in agents}
    yield m.RUNS_ENDED, {(agent, "completed", ""): 0 for agent in agents}
    yield m.DECISIONS, {(outcome,): 0 for outcome in m.DECISION_OUTCOMES}
    yield m.RECOVERED_STEPS, {(reason,): 0 for reason in get_args(RecoveryReason)}
