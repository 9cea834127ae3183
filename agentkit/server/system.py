"""What is not about runs: the agents and the OpenAPI document, and for operators health and metrics."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from flask import Blueprint, Response

from agentkit import __version__
from agentkit.core.struct import dumps
from agentkit.errors import StoreUnavailableError
from agentkit.server import access
from agentkit.server.answers import AgentList, Checks, Health, Readiness
from agentkit.server.openapi import document
from agentkit.server.state import json_response, state
from agentkit.server.streams import open_streams

__all__ = ["agents", "blueprint"]

agents = Blueprint("agents", __name__)
blueprint = Blueprint("system", __name__)


@agents.get("/agents")
def list_agents() -> Response:
    return json_response(AgentList([agent.definition() for agent in state().kit.agents], access.principal()))


@blueprint.get("/healthz")
def alive() -> Response:
    return json_response(Health("ok"))


@blueprint.get("/readyz")
def ready() -> Response:
    """Report whether runs would be executed: store and broker are reachable, and workers serve all queues."""
    kit = state().kit
    checks = Checks(store=True, broker=kit.broker_reachable(), worker=False)
    queues = dict.fromkeys(kit.queues, False)
    warnings: list[str] = []
    try:
        warnings += kit.store.check().warnings
        queues = kit.served_queues()
        checks.worker = bool(kit.store.workers()) and all(queues.values())
    except StoreUnavailableError:
        checks.store = False
    seconds = f"{kit.settings.ready_seconds:g}"
    warnings += [
        f"queue {queue}: no worker has executed anything of it for {seconds} s; start one that serves it, or more"
        for queue, is_served in queues.items()
        if checks.store and not is_served
    ]
    is_ready = checks == Checks(store=True, broker=True, worker=True)
    body = Readiness("ready" if is_ready else "unavailable", checks, queues, warnings)
    return json_response(body, 200 if is_ready else 503)


@agents.get("/openapi.json")
def openapi() -> Response:
    return Response(_document(state().left_out), content_type="application/json")


@blueprint.get("/metrics")
def metrics() -> Response:
    """Serve metrics in Prometheus text format 0.0.4. Requests and streams are counted per process: sum them."""
    text = "\n".join(_metrics()) + "\n"
    return Response(text, content_type="text/plain; version=0.0.4; charset=utf-8")


def _metrics() -> Iterator[str]:
    yield from _metric("agentkit_info", "The version of agentkit.", f'{{version="{__version__}"}} 1')
    store = state().kit.store
    try:
        due, overdue = store.backlog()
        workers = len(store.workers())
    except StoreUnavailableError:
        yield from _metric("agentkit_store_up", "1 where the store answers, 0 where it does not.", " 0")
    else:
        yield from _metric("agentkit_store_up", "1 where the store answers, 0 where it does not.", " 1")
        yield from _metric(
            "agentkit_runs_due", "Runs that have not ended, each with the time of its next check.", f" {due}"
        )
        yield from _metric(
            "agentkit_runs_overdue", "Runs whose check is overdue: no worker has taken them yet.", f" {overdue}"
        )
        yield from _metric("agentkit_workers", "Workers whose heartbeat is recent.", f" {workers}")
    yield from _metric("agentkit_event_streams", "Event streams open in this web process.", f" {open_streams()}")
    yield from _metric(
        "agentkit_http_requests_total",
        "HTTP requests answered by this web process.",
        *(f'{{method="{method}",status="{status}"}} {count}' for (method, status), count in state().requests.items()),
        kind="counter",
    )


def _metric(name: str, help_text: str, *values: str, kind: str = "gauge") -> Iterator[str]:
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {kind}"
    for value in values:
        yield name + value


@functools.cache
def _document(left_out: frozenset[str]) -> str:
    return dumps(document(__version__, left_out))
