"""Starting a run: what was given is checked, bound to its idempotency key, and committed as the run's first state.

It knows a store's engine and the loop's first transition, and nothing of who asks.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from agentkit.agents import BoundAgent
from agentkit.core.ids import new_id, now_ms
from agentkit.core.messages import Block, Json, Message, check_content, check_history
from agentkit.core.requests import check_limits, check_metadata
from agentkit.errors import ConfigurationError, IdempotencyConflictError, InvalidRequestError, RunNotFoundError
from agentkit.loop import begin_run
from agentkit.runtime.commit import Agents
from agentkit.runtime.engine import Engine
from agentkit.store.protocol import Store

__all__ = ["StartRequest", "start_run"]


@dataclass(frozen=True, slots=True)
class StartRequest:
    """What `AgentKit.start` was given; see there."""

    agent: str
    input: str | list[Block] | None = None
    messages: list[Message] | None = None
    metadata: Json | None = None
    limits: Json | None = None
    model: str | None = None
    idempotency_key: str | None = None
    owner: str | None = None


def start_run(engine: Engine, agents: Agents, request: StartRequest) -> str:
    """Make the run, or find the one that the same key has made; its id."""
    if (request.input is None) == (request.messages is None):
        raise InvalidRequestError("give either input or messages")
    history = request.messages is not None
    given: Any = check_history(request.messages, now_ms()) if history else check_content(request.input)
    metadata, limits = check_metadata(request.metadata), check_limits(request.limits)
    agent = _bound(agents, request)
    run_id = new_id()
    if request.idempotency_key is not None:
        run_id = _remember(engine.store, request, metadata, limits, run_id)
    change = begin_run(
        agent,
        run_id,
        given,
        is_history=history,
        metadata=metadata,
        limits=limits,
        now=now_ms(),
        owner=request.owner,
    )
    if not engine.committer.create(change):
        _check_there(engine.store, run_id)
    return run_id


def _check_there(store: Store, run_id: str) -> None:
    """Raise RunNotFoundError where an idempotency key stands for a run that was deleted."""
    try:
        store.load(run_id)
    except RunNotFoundError:
        store.unlist(run_id)
        raise


def _bound(agents: Agents, request: StartRequest) -> BoundAgent:
    try:
        return agents.bind(request.agent, request.model)
    except ConfigurationError as error:
        raise InvalidRequestError(f"model: {error.message}") from error


def _remember(store: Store, request: StartRequest, metadata: Json, limits: Json, run_id: str) -> str:
    """The id of the run that this key stands for: `run_id`, or that of an earlier request. A key is its owner's own."""
    asked = {
        "agent": request.agent,
        "given": request.input if request.messages is None else request.messages,
        "metadata": metadata,
        "limits": limits,
        "model": request.model,
    }
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    key = str(request.idempotency_key)
    if request.owner is not None:
        key = f"{request.owner}\0{key}"
    bound_digest, bound_run = store.remember(hashlib.sha256(key.encode()).hexdigest(), digest, run_id)
    if bound_digest != digest:
        raise IdempotencyConflictError
    return bound_run
