"""`AGENTKIT_OTEL=1`: exports by OTLP over HTTP as the variables OTEL_… say, where the application has set no SDK.

Each process makes its exporters when it first needs them, after a fork.
"""

from __future__ import annotations

import os
from typing import Any

from agentkit.core.forks import ForkSafeLock
from agentkit.hooks.otel import OpenTelemetry

try:
    from opentelemetry import metrics, trace
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
except ImportError as error:
    from agentkit.errors import ConfigurationError

    raise ConfigurationError("AGENTKIT_OTEL needs the SDK: pip install 'agentkit-celery[otel]'") from error

__all__ = ["Exporting"]

_lock = ForkSafeLock()
_providers: tuple[int, Any, Any] | None = None


class Exporting(OpenTelemetry):
    """The middleware of AGENTKIT_OTEL."""

    def _sdk(self) -> tuple[Any, Any]:
        return _of_process()


def _of_process() -> tuple[Any, Any]:
    """Return the providers of this process: the application's own, else ours."""
    global _providers
    with _lock:
        if _providers is None or _providers[0] != os.getpid():
            _providers = (os.getpid(), *_made())
        return _providers[1:]


def _made() -> tuple[Any, Any]:
    tracers, meters = trace.get_tracer_provider(), metrics.get_meter_provider()
    resource = Resource({SERVICE_NAME: "agentkit"}).merge(OTELResourceDetector().detect())
    if not isinstance(tracers, TracerProvider):
        tracers = TracerProvider(resource=resource)
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    if not isinstance(meters, MeterProvider):
        meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource=resource)
    return tracers, meters
