"""What is not about runs: the agents and the OpenAPI document, and for operators health and metrics."""

from __future__ import annotations

import functools

from flask import Blueprint, Response, request

from agentkit import __version__
from agentkit.core.struct import dumps
from agentkit.errors import StoreUnavailableError
from agentkit.server import access
from agentkit.server.answers import AgentList, Checks, Health, Readiness
from agentkit.server.metrics import render
from agentkit.server.openapi import document
from agentkit.server.state import json_response, state

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


@blueprint.get("/doctor")
def doctor() -> Response:
    """Report on the installation, for operators."""
    access.check_operator()
    return json_response(state().kit.doctor())


@agents.get("/openapi.json")
def openapi() -> Response:
    return Response(_document(state().left_out), content_type="application/json")


@blueprint.get("/metrics")
def metrics() -> Response:
    """Serve the installation's metrics for Prometheus: each web process answers with those of all processes."""
    body, content_type = render(state().kit, request.headers.get("Accept", ""))
    return Response(body, content_type=content_type)


@functools.cache
def _document(left_out: frozenset[str]) -> str:
    return dumps(document(__version__, left_out))
