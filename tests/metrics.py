"""What `/metrics` says, read by Prometheus's own parser for Python."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["samples", "total", "value"]

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    """Read all samples, by their name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float | None:
    """Return the value of the sample that has just these labels; None where there is none."""
    return samples(text).get((name, frozenset(labels.items())))


def total(text: str, name: str, **labels: str) -> float:
    """Add up the values of all samples that have these labels, among others perhaps."""
    wanted: Iterable[tuple[str, str]] = labels.items()
    return sum(v for (found, has), v in samples(text).items() if found == name and has.issuperset(wanted))
