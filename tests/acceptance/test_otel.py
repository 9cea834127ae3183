"""AGENTKIT_OTEL=1 with real workers and a real OTLP receiver: one trace over two workers, a kill and a pause."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, AgentKit, ScriptedModel, Settings
from agentkit.core.propagation import root_span_id
from tests.acceptance.stack import ROOT, Process, environment
from tests.otlp import Receiver, attributes_of
from tests.servers import ValkeyServer
from tests.tools import look, refund
from tests.waiting import wait_until

APP = """
from agentkit import Agent, AgentKit, ScriptedModel
from tests.tools import look, refund

def call(name, **arguments):
    return [{"type": "toolCall", "name": name, "arguments": arguments}]

kit = AgentKit([Agent("desk", ScriptedModel([call("look"), call("refund", cents=900), "done"]), tools=[look, refund])])
"""
INSTRUMENTED = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from celery.signals import worker_init

@worker_init.connect(weak=False)
def instrument(**_):
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()
"""


class Worker(Process):
    def is_ready(self) -> bool:
        return "ready." in self.log(self._launched_at)


class Traced:
    """Workers that export to a receiver, and the kit of a client."""

    def __init__(self, folder: Path, store: ValkeyServer, receiver: Receiver) -> None:
        self.receiver = receiver
        self._folder = folder
        self._store = store
        self.workers: list[Worker] = []
        agent = Agent("desk", ScriptedModel(["x"]), tools=[look, refund])
        self.kit = AgentKit([agent], settings=Settings(redis_url=store.url))

    def worker(self, name: str, app: str = APP, **more: str) -> Worker:
        (self._folder / f"app_{name}.py").write_text(app)
        env = environment(
            AGENTKIT_REDIS_URL=self._store.url,
            AGENTKIT_APP=f"app_{name}:kit",
            AGENTKIT_OTEL="1",
            AGENTKIT_LEASE_SECONDS="2",
            OTEL_EXPORTER_OTLP_ENDPOINT=self.receiver.url,
            OTEL_BSP_SCHEDULE_DELAY="200",
            PYTHONPATH=os.pathsep.join([str(self._folder), str(ROOT)]),
            **more,
        )
        words = [
            "celery",
            "-A",
            "agentkit.tasks",
            "worker",
            "-l",
            "info",
            "-n",
            f"{name}@%h",
            "-P",
            "threads",
            "-c",
            "2",
        ]
        worker = Worker(name, words, env, self._folder)
        worker.start()
        self.workers.append(worker)
        return worker

    def spans(self, run_id: str) -> list[Any]:
        wanted = bytes.fromhex(run_id.replace("-", ""))
        return [span for span in list(self.receiver.spans) if span.trace_id == wanted]


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[Traced]:
    with ValkeyServer(tmp_path / "store") as store, Receiver() as receiver:
        found = Traced(tmp_path, store, receiver)
        try:
            yield found
        finally:
            for worker in found.workers:
                worker.kill()


def test_a_run_over_two_workers_a_pause_and_a_kill_is_one_trace(traced: Traced) -> None:
    first = traced.worker("first")
    handle = traced.kit.start("desk", "go")
    handle.wait(30)
    wait_until(lambda: _names(traced.spans(handle.id)) >= {"chat script", "execute_tool look"}, what="the first spans")
    first.kill()
    traced.worker("second")
    traced.kit.resume(handle.id, {"approved": True})
    assert handle.wait(30).status == "completed"

    # The answer's own span is written by the process that takes the answer, which is this one and exports nothing.
    expected = {"chat script", "execute_tool look", "execute_tool refund", "invoke_agent desk"}
    wait_until(lambda: _names(traced.spans(handle.id)) >= expected, timeout=20, what="the spans of the run")
    spans = traced.spans(handle.id)
    root = next(span for span in spans if span.name == "invoke_agent desk")
    assert int.from_bytes(root.span_id, "big") == root_span_id(handle.id)
    assert {span.parent_span_id for span in spans if span is not root} == {root.span_id}
    assert len([span for span in spans if span.name == "chat script"]) == 3
    assert attributes_of(root)["agentkit.run.status"] == "completed"


def test_an_instrumentation_of_celery_goes_on_beside_it_and_steps_link_to_its_spans(traced: Traced) -> None:
    traced.worker("instrumented", APP + INSTRUMENTED)
    handle = traced.kit.start("desk", "go")
    handle.wait(30)

    def tasks() -> list[Any]:
        return [span for span in list(traced.receiver.spans) if span.name.startswith("run/agentkit.")]

    wait_until(lambda: len(tasks()) >= 3, timeout=20, what="the spans of the tasks")
    wait_until(lambda: "execute_tool look" in _names(traced.spans(handle.id)), timeout=20, what="the spans of the run")
    linked = {link.span_id for span in traced.spans(handle.id) for link in span.links}
    assert linked & {task.span_id for task in tasks()}


def _names(spans: list[Any]) -> set[str]:
    return {span.name for span in spans}
