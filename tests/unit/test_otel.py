"""Spans of runs: one trace each, by the conventions, without what users wrote."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentkit import Agent, AgentKit, ConfigurationError, ScriptedModel, Settings, tool
from agentkit.core.messages import Usage
from agentkit.core.propagation import outgoing_headers, root_span_id, traceparent
from agentkit.hooks.otel import OpenTelemetry
from agentkit.providers.protocol import Finish, TextDelta
from tests.tools import refund


class Traced:
    """A kit with a scripted model, whose spans are kept in memory."""

    def __init__(self, *turns: Any, tools: Any = (), **options: Any) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        hook = OpenTelemetry(self.provider, MeterProvider([self.reader]), **options)
        self.kit = AgentKit([Agent("desk", ScriptedModel([*turns]), tools=tools)], middleware=[hook])

    @property
    def spans(self) -> dict[str, Any]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


def call(name: str, **arguments: Any) -> list[dict[str, Any]]:
    return [{"type": "toolCall", "name": name, "arguments": arguments}]


@tool
def look(what: str) -> str:
    """Look."""
    return f"secret {what}"


@tool
def fail() -> str:
    """Fail."""
    raise ValueError("secret")


def test_a_run_is_one_trace_whose_id_is_the_runs() -> None:
    traced = Traced(call("look", what="x"), "done", tools=[look])
    run = traced.kit.run("desk", "go")

    spans = traced.spans
    assert set(spans) == {"invoke_agent desk", "chat script", "execute_tool look"}
    assert {span.context.trace_id for span in spans.values()} == {uuid.UUID(run.id).int}
    root = spans["invoke_agent desk"]
    assert root.parent is None
    assert root.context.span_id == root_span_id(run.id)
    assert {span.parent.span_id for span in spans.values() if span is not root} == {root.context.span_id}
    assert len([span for span in traced.exporter.get_finished_spans() if span.name == "chat script"]) == 2


def test_the_attributes_are_those_of_the_conventions() -> None:
    traced = Traced(call("look", what="x"), "done", tools=[look])
    run = traced.kit.run("desk", "go")

    chat = traced.spans["chat script"].attributes
    assert chat["gen_ai.operation.name"] == "chat"
    assert chat["gen_ai.request.model"] == "script"
    assert chat["gen_ai.response.finish_reasons"] == ("stop",)
    assert chat["gen_ai.usage.output_tokens"] > 0
    assert chat["gen_ai.conversation.id"] == run.id
    executed = traced.spans["execute_tool look"].attributes
    assert (executed["gen_ai.tool.name"], executed["gen_ai.tool.type"]) == ("look", "function")
    assert executed["gen_ai.tool.call.id"] == "call_0_0"
    root = traced.spans["invoke_agent desk"].attributes
    assert root["agentkit.run.status"] == "completed"
    names = {
        m.name for r in traced.reader.get_metrics_data().resource_metrics for s in r.scope_metrics for m in s.metrics
    }
    assert names == {"gen_ai.client.token.usage", "gen_ai.client.operation.duration"}


@pytest.mark.parametrize("content", [False, True])
def test_what_people_models_and_tools_wrote_is_there_only_where_it_is_asked_for(content: bool) -> None:
    traced = Traced(call("look", what="tulips"), "the answer", tools=[look, fail], content=content)
    traced.kit.run("desk", "my question")

    text = "".join(span.to_json() for span in traced.exporter.get_finished_spans())
    for word in ("my question", "tulips", "the answer", "secret tulips"):
        assert (word in text) is content, word


def test_a_tool_that_fails_is_an_error_without_its_text() -> None:
    traced = Traced(call("fail"), "done", tools=[fail])
    traced.kit.run("desk", "go")

    span = traced.spans["execute_tool fail"]
    assert not span.status.is_ok
    assert span.attributes["error.type"] == "ValueError"
    assert "secret" not in span.to_json()


def test_an_answer_is_a_span_from_the_question_on() -> None:
    traced = Traced(call("refund", cents=900), "done", tools=[refund])
    run = traced.kit.run("desk", "go")
    asked = run.pending[0]
    traced.kit.resume(run.id, {"approved": True})

    span = traced.spans["approval decided"]
    assert span.start_time == asked["createdAt"] * 1_000_000
    assert span.attributes["agentkit.decision.id"] == asked["decisionId"]
    assert traced.spans["invoke_agent desk"].start_time <= span.start_time


def test_a_request_to_a_vendor_names_the_trace() -> None:
    seen: list[dict[str, str]] = []

    class Provider:
        name = "scripted"
        default_model = model = "x"
        api = "scripted"

        def stream(self, request: Any, cancel: Any) -> Any:
            seen.append(dict(outgoing_headers.get({})))
            yield TextDelta("done")
            yield Finish("stop", Usage.of())

    traced = Traced("x")
    hook = OpenTelemetry(traced.provider)
    run = AgentKit([Agent("desk", Provider())], middleware=[hook]).run("desk", "go")
    assert run.status == "completed", run.error
    (headers,) = seen
    assert headers["traceparent"].split("-")[1] == run.id.replace("-", "")


def test_the_header_of_messages_is_that_of_the_root_span() -> None:
    run_id = "01a22660-d92e-7000-90af-ddb5e3fdd55d"
    version, trace, span, flags = traceparent(run_id).split("-")
    assert (version, trace, flags) == ("00", run_id.replace("-", ""), "01")
    assert int(span, 16) == root_span_id(run_id)


def test_without_an_sdk_nothing_is_recorded_and_nothing_fails() -> None:
    run = AgentKit([Agent("desk", ScriptedModel(["done"]))], middleware=[OpenTelemetry()]).run("desk", "go")
    assert run.status == "completed"


def test_a_wrong_flag_says_what_it_takes() -> None:
    assert Settings.from_env({"AGENTKIT_OTEL": "1"}).otel
    with pytest.raises(ConfigurationError, match="1 or 0"):
        Settings.from_env({"AGENTKIT_OTEL": "yes please"})


def test_headers_of_the_application_stand_in_front() -> None:
    from agentkit.providers.connection import Endpoint
    from agentkit.providers.transfer import HttpRequest, _headers

    token = outgoing_headers.set({"traceparent": "ours", "x-mine": "ours"})
    try:
        endpoint = Endpoint(headers={"x-mine": "theirs"})
        made = _headers(HttpRequest("POST", "http://x", endpoint=endpoint, body={}), "text/event-stream")
    finally:
        outgoing_headers.reset(token)
    assert made == httpx.Headers({**made, "traceparent": "ours", "x-mine": "theirs"})
