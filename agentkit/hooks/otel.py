"""Traces and metrics of runs by OpenTelemetry, extra `[otel]`: `AGENTKIT_OTEL=1`, or a middleware of yours.

    AgentKit([…], middleware=[OpenTelemetry()])

A run is one trace, over all workers, pauses and months: the trace's id is the run's, and its root span has an id that
is derived from it. So no worker needs to know another's spans, and nothing is kept while a run waits. The names are
those of OpenTelemetry's conventions for generative AI (opentelemetry.io/docs/specs/semconv/gen-ai); what users, models
and tools wrote is left out unless it is asked for.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from time import monotonic, time_ns
from typing import Any

from agentkit.core.forks import ForkSafeLock
from agentkit.core.messages import Json
from agentkit.core.propagation import outgoing_headers, root_span_id, span_id, trace_id
from agentkit.core.struct import dumps
from agentkit.errors import ConfigurationError
from agentkit.hooks.base import Middleware, ModelCall, RunInfo, StepInfo, ToolCall
from agentkit.providers.names import vendor_of

try:
    from opentelemetry import context, metrics, propagate, trace
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
except ImportError as error:
    raise ConfigurationError("OpenTelemetry needs its SDK: pip install 'agentkit-celery[otel]'") from error

__all__ = ["OpenTelemetry"]

_SCOPE = "agentkit"
_PROVIDERS = {"anthropic": "anthropic", "bedrock": "aws.bedrock", "google": "gcp.gemini", "openai": "openai"} | {
    "vertex": "gcp.vertex_ai"
}
_OPTIONS = {"temperature": "temperature", "top_p": "top_p", "max_output_tokens": "max_tokens"}
_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

_span_id: ContextVar[int | None] = ContextVar("agentkit_span_id", default=None)
_around: ContextVar[SpanContext | None] = ContextVar("agentkit_span_around", default=None)


class OpenTelemetry(Middleware):
    """Writes a span for each model call (`chat`), tool call (`execute_tool`), answer (`approval`), wait and run.

    `tracer_provider`, `meter_provider`: by default the process's, which your application or `opentelemetry-instrument`
    has set. `content`: whether spans have messages, arguments and results; by default as the variable
    OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT says, which is not. Spans of a step link to the span that is
    current around it, such as that of a Celery instrumentation.
    """

    def __init__(self, tracer_provider: Any = None, meter_provider: Any = None, *, content: bool | None = None) -> None:
        self._providers = (tracer_provider, meter_provider)
        self._content = os.environ.get(_CONTENT, "").lower() == "true" if content is None else content
        self._lock = ForkSafeLock()
        self._made: tuple[int, _Instruments] | None = None

    @property
    def _instruments(self) -> _Instruments:
        """The instruments of this process; exporters' threads do not survive a fork."""
        made = self._made
        if made is None or made[0] != os.getpid():
            with self._lock:
                made = self._made
                if made is None or made[0] != os.getpid():
                    made = self._made = (os.getpid(), _Instruments(*self._sdk()))
        return made[1]

    def _sdk(self) -> tuple[Any, Any]:
        """Return the providers of tracers and of meters; None for the process's own."""
        return self._providers

    def around_step(self, step: StepInfo) -> AbstractContextManager[Any]:
        """Have the run's trace be the current one, for logs and for whatever else is instrumented."""
        return self._instruments.within(step.run_id)

    def around_model_call(self, ctx: StepInfo, request: ModelCall, call: Callable[..., Any]) -> Any:
        vendor, _, model = request.model.partition(":")
        attributes: dict[str, Any] = {
            **_common(ctx, "chat"),
            "gen_ai.provider.name": _PROVIDERS.get(vendor_of(vendor), vendor),
            "gen_ai.request.model": model,
            "gen_ai.request.stream": True,
        }
        for ours, theirs in _OPTIONS.items():
            if isinstance(request.options.get(ours), int | float):
                attributes[f"gen_ai.request.{theirs}"] = request.options[ours]
        began = monotonic()
        with self._instruments.span(f"chat {model}", SpanKind.CLIENT, ctx.run_id, attributes) as span:
            if self._content:
                instructions = [{"type": "text", "content": request.instructions}]
                span.set_attribute("gen_ai.system_instructions", dumps(instructions))
                span.set_attribute("gen_ai.input.messages", dumps(list(request.messages)))
            headers: dict[str, str] = {}
            propagate.inject(headers)
            token = outgoing_headers.set(headers)
            try:
                message = call(request)
            finally:
                outgoing_headers.reset(token)
                kept = {key: attributes[key] for key in _OF_METRICS}
                self._instruments.seconds.record(monotonic() - began, kept)
            self._note_answer(span, message, kept)
        return message

    def around_tool_call(self, ctx: StepInfo, call: ToolCall, execute: Callable[..., Any]) -> Any:
        attributes = {
            **_common(ctx, "execute_tool"),
            "gen_ai.tool.name": call.name,
            "gen_ai.tool.call.id": call.id,
            "gen_ai.tool.type": "function",
        }
        with self._instruments.span(f"execute_tool {call.name}", SpanKind.INTERNAL, ctx.run_id, attributes) as span:
            if self._content:
                span.set_attribute("gen_ai.tool.call.arguments", dumps(call.arguments))
            result = execute(call)
            if getattr(result, "is_error", False):
                span.set_attribute("error.type", "tool_error")
                span.set_status(Status(StatusCode.ERROR))
            if self._content and hasattr(result, "content"):
                span.set_attribute("gen_ai.tool.call.result", dumps(result.content))
        return result

    def on_event(self, run: RunInfo, event: Json) -> None:
        if event["type"] == "tool_decision_resolved":
            asked = _time_of(event["decisionId"])
            attributes = {
                **_common(run, "approval"),
                "gen_ai.tool.call.id": event["toolCallId"],
                "agentkit.decision.id": event["decisionId"],
                "agentkit.decision.outcome": event["outcome"],
                **({"agentkit.decision.by": event["decidedBy"]} if event.get("decidedBy") else {}),
            }
            until = event["timestamp"]
            name = f"approval {event['outcome']}"
            self._instruments.past(name, run.run_id, event["decisionId"], asked or until, until, attributes)
        elif event["type"] == "model_wait":
            attributes = {**_common(run, "wait"), "agentkit.wait.reason": event["reason"]}
            since = event["timestamp"]
            until, key = since + event["delayMs"], f"{run.run_id}:{event['seq']}"
            self._instruments.past("wait", run.run_id, key, since, until, attributes)

    def on_run_end(self, run: RunInfo, end: Json) -> None:
        usage = end["usage"]
        attributes = {
            **_common(run, "invoke_agent"),
            "agentkit.run.status": end["status"],
            "gen_ai.usage.input_tokens": usage["input"] + usage["cacheRead"] + usage["cacheWrite"],
            "gen_ai.usage.output_tokens": usage["output"],
        }
        failed = end.get("error")
        if failed:
            attributes["error.type"] = failed["code"]
        self._instruments.end(run, attributes, is_error=end["status"] == "failed")

    def _note_answer(self, span: Span, message: Any, of_metrics: Mapping[str, Any]) -> None:
        if not isinstance(message, dict):  # another hook has answered in the model's place
            return
        usage = message.get("usage") or {}
        tokens = {
            "input": sum(usage.get(key, 0) for key in ("input", "cacheRead", "cacheWrite")),
            "output": usage.get("output", 0),
        }
        span.set_attributes(
            {
                "gen_ai.response.model": message.get("model", ""),
                "gen_ai.response.finish_reasons": [message.get("stopReason", "stop")],
                "gen_ai.usage.input_tokens": tokens["input"],
                "gen_ai.usage.output_tokens": tokens["output"],
                "gen_ai.usage.cache_read.input_tokens": usage.get("cacheRead", 0),
                "gen_ai.usage.cache_creation.input_tokens": usage.get("cacheWrite", 0),
            }
        )
        if self._content:
            span.set_attribute("gen_ai.output.messages", dumps([message]))
        for kind, count in tokens.items():
            self._instruments.tokens.record(count, {**of_metrics, "gen_ai.token.type": kind})


_OF_METRICS = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model")


def _common(run: StepInfo | RunInfo, operation: str) -> dict[str, Any]:
    """Return what every span of a run has: ids and names, nothing that users wrote."""
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.agent.name": run.agent,
        "gen_ai.conversation.id": run.run_id,
        "agentkit.run.id": run.run_id,
        "agentkit.turn": run.turn,
    }
    if isinstance(run, StepInfo):
        attributes |= {"agentkit.step": run.number, "agentkit.attempt": run.attempt}
    if run.parent_run_id is not None:
        attributes["agentkit.parent_run.id"] = run.parent_run_id
    if run.owner is not None:
        attributes["enduser.id"] = run.owner
    return attributes


class _Instruments:
    """The tracer and the instruments of one process."""

    def __init__(self, tracer_provider: Any, meter_provider: Any) -> None:
        tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        if hasattr(tracer, "id_generator"):  # the SDK's; without one nothing is recorded
            tracer.id_generator = _Ids(tracer.id_generator)
        self._tracer = tracer
        meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)
        self.tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}", "Tokens of a model call.")
        self.seconds = meter.create_histogram("gen_ai.client.operation.duration", "s", "The time of a model call.")

    @contextmanager
    def within(self, run_id: str) -> Iterator[None]:
        around = trace.get_current_span().get_span_context()
        marked = _around.set(around if around.is_valid else None)
        token = context.attach(self._of_run(run_id))
        try:
            yield
        finally:
            context.detach(token)
            _around.reset(marked)

    @contextmanager
    def span(self, name: str, kind: SpanKind, run_id: str, attributes: Mapping[str, Any]) -> Iterator[Span]:
        """Have a span be current; what is raised marks it by its class alone: a text may quote what users wrote."""
        around = _around.get()
        span = self._tracer.start_span(
            name,
            context=self._of_run(run_id),
            kind=kind,
            attributes=dict(attributes),
            links=[Link(around)] if around is not None else None,
        )
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield span
            except BaseException as error:
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(Status(StatusCode.ERROR))
                raise

    def past(self, name: str, run_id: str, key: str, since: int, until: int, attributes: Mapping[str, Any]) -> None:
        """Write a span of what is over (ms). `key`: that it is written again by gives it the same id."""
        token = _span_id.set(span_id(key))
        try:
            span = self._tracer.start_span(
                name, context=self._of_run(run_id), attributes=dict(attributes), start_time=since * 1_000_000
            )
        finally:
            _span_id.reset(token)
        span.end(end_time=until * 1_000_000)

    def end(self, run: RunInfo, attributes: Mapping[str, Any], *, is_error: bool) -> None:
        """Write the root span of a run, which has ended by now."""
        ids = _span_id.set(root_span_id(run.run_id)), _trace.set(trace_id(run.run_id))
        links = None
        if run.parent_run_id is not None:
            links = [Link(_root(run.parent_run_id))]
        try:
            span = self._tracer.start_span(
                f"invoke_agent {run.agent}",
                context=context.Context(),
                kind=SpanKind.INTERNAL,
                attributes=dict(attributes),
                links=links,
                start_time=(_time_of(run.run_id) or time_ns() // 1_000_000) * 1_000_000,
            )
        finally:
            _trace.reset(ids[1])
            _span_id.reset(ids[0])
        if is_error:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def _of_run(self, run_id: str) -> context.Context:
        """Make the context in which the run's root span is the current one."""
        return trace.set_span_in_context(NonRecordingSpan(_root(run_id)), context.get_current())


_trace: ContextVar[int | None] = ContextVar("agentkit_trace_id", default=None)


class _Ids(IdGenerator):
    """Gives the ids that are set, else those of another generator."""

    def __init__(self, others: IdGenerator) -> None:
        self._others = others

    def generate_span_id(self) -> int:
        return _span_id.get() or self._others.generate_span_id()

    def generate_trace_id(self) -> int:
        return _trace.get() or self._others.generate_trace_id()


def _root(run_id: str) -> SpanContext:
    """Return the context of a run's root span, which is written when the run ends, wherever that is."""
    return SpanContext(
        trace_id(run_id), root_span_id(run_id), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )


def _time_of(unique_id: str) -> int | None:
    """Return the time (ms) that an id of ours stands for, a UUIDv7; None where it is none."""
    try:
        found = uuid.UUID(unique_id)
    except ValueError:
        return None
    return found.int >> 80 if found.version == 7 else None
