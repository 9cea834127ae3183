"""How a run is made: from an input, from a history, or from another run that has ended.

What is asked for is checked, the run is made true in one act, and a request that comes again under the same idempotency
key finds the run that the first one made. Nothing here knows who may start one: `permit` and `permit_source` do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from agentkit import loop
from agentkit.agents import BoundAgent
from agentkit.core.ids import new_id
from agentkit.core.messages import Json, check_content, check_history, check_text
from agentkit.core.record import Change, Origin, RunState
from agentkit.core.requests import check_idempotency_key, check_limits, check_metadata, check_principal
from agentkit.core.run import Run
from agentkit.core.struct import digest, to_json
from agentkit.errors import IdempotencyConflictError, InvalidRequestError, RunNotFoundError
from agentkit.providers.inputs import check_content_for, check_history_for
from agentkit.runtime.commit import Agents, Committer
from agentkit.runtime.origins import load_source, read_history
from agentkit.runtime.quotas import Quotas
from agentkit.store.protocol import Store

__all__ = ["StartRequest", "Started", "start"]


@dataclass(frozen=True, slots=True)
class StartRequest:
    """What `AgentKit.start` takes; see there."""

    agent: str | None = None
    input: str | list[Json] | None = None
    messages: list[Json] | None = None
    metadata: Json | None = None
    limits: Json | None = None
    model: str | None = None
    idempotency_key: str | None = None
    owner: str | None = None
    from_run: str | None = None
    turn: int | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """A run that was started; `run` as it was written, None where an earlier request with the same key made it."""

    run_id: str
    run: Run | None


def start(
    committer: Committer,
    request: StartRequest,
    permit: Callable[[Run], None] | None = None,
    permit_source: Callable[[str], None] | None = None,
    quotas: Quotas | None = None,
) -> Started:
    """Make a run, or find the one that the same idempotency key has made.

    `permit` is called with the run that would begin, and `permit_source` with the id of the run that it begins from,
    before that is read; what they raise is passed on, and nothing begins. `quotas`: what its owner is held to.

    Raises AgentNotFoundError, InvalidRequestError, IdempotencyConflictError, QuotaExceededError, RunNotFoundError where
    the key's run or the one to begin from is not there, RunNotTerminalError where that has not ended,
    PayloadTooLargeError where it is too long, StoreUnavailableError.
    """
    _check_sources(request)
    metadata, limits = check_metadata(request.metadata), check_limits(request.limits)
    content = None if request.input is None else check_content(request.input)
    history = None if request.messages is None else check_history(request.messages, committer.now())
    check_principal(request.owner, "owner")
    check_text(request.idempotency_key, "idempotency_key")
    key = _StartKey.of(request, metadata, limits)
    source: RunState | None = None
    if request.from_run is not None:
        known = None if key is None else key.find(committer.store)
        if known is not None:
            return known  # whatever has become of the run that it began from
        if permit_source is not None:
            permit_source(request.from_run)
        source = load_source(committer.store, request.from_run)
    agent = _bind(committer.agents, request, source)
    agent.agent.limits.check_lowered(limits)
    origin: Origin | None = None
    if source is not None:
        most = agent.bounds.max_history_bytes
        taken = read_history(committer.store, source, request.turn, has_input=content is not None, max_bytes=most)
        history, origin = taken.messages, taken.origin
    if content is not None:
        check_content_for(agent.model_name, agent.api, content, "input")
    check_history_for(agent.model_name, agent.api, history or ())

    def begin(run_id: str) -> tuple[Change, Run]:
        change = loop.begin_run(
            agent,
            run_id,
            content,
            history=history,
            metadata=metadata,
            limits=limits,
            now=committer.now(),
            owner=request.owner,
            origin=origin,
        )
        state = RunState(change.record, version=1, last_seq=len(change.events))
        return change, Run.of(state, to_json(change.messages))

    run_id = request.run_id or new_id(committer.now())
    change, run = begin(run_id)
    if permit is not None:
        permit(run)
    if key is not None:
        known_id = key.bind(committer.store, run_id)
        if known_id != run_id:  # made by an earlier request, or bound by one that died before it made the run
            change, run = begin(known_id)
    if quotas is not None:
        if (key is not None or request.run_id is not None) and committer.store.loads([run.id]) != [None]:
            return Started(run.id, None)  # the same request again, whatever the quota is by now
        quotas.admit(request.owner, run.id)
    if committer.create(change):
        return Started(run.id, run)
    if quotas is not None and committer.store.was_deleted(run.id):
        quotas.leave(request.owner, run.id)
    _check_there(committer.store, run.id)
    return Started(run.id, None)


def _check_sources(request: StartRequest) -> None:
    """Check that a run is to begin with something, and with one thing only. Raises InvalidRequestError."""
    if request.from_run is None:
        if request.turn is not None:
            raise InvalidRequestError("turn is one of another run: give from_run, too")
        if request.agent is None:
            raise InvalidRequestError("agent is missing")
        if (request.input is None) == (request.messages is None):
            raise InvalidRequestError("give either input or messages")
        return
    check_text(request.from_run, "from_run")
    if not isinstance(request.from_run, str):
        raise InvalidRequestError("from_run must be the id of a run, a text")
    if request.messages is not None:
        raise InvalidRequestError("give messages or from, not both: from takes the messages of that run")
    turn = request.turn
    if turn is not None and (not isinstance(turn, int) or isinstance(turn, bool) or turn < 0):
        raise InvalidRequestError("turn must be a whole number from 0")


def _check_there(store: Store, run_id: str) -> None:
    """Raise RunNotFoundError where an idempotency key stands for a run that was deleted."""
    try:
        store.load(run_id)
    except RunNotFoundError:
        store.unlist(run_id)
        raise


def _bind(agents: Agents, request: StartRequest, source: RunState | None) -> BoundAgent:
    """Find the agent with the model that the request names, which must be one that the agent allows.

    Where it names no agent, it is that of the run to begin from.
    """
    name = request.agent
    if name is None:
        assert source is not None
        name = source.record.agent
    agent = agents.bind(name)
    if request.model is not None and request.model not in agent.allowed_models:
        text = f"agent {agent.name!r} allows {', '.join(agent.allowed_models)}, and not {request.model[:100]!r}"
        raise InvalidRequestError(f"model: {text}", errors=[{"path": "/model", "message": text}])
    return agents.bind(name, request.model)


@dataclass(frozen=True, slots=True)
class _StartKey:
    """The idempotency key of a start, its owner's own, and the digest of what is asked for under it."""

    name: str
    digest: str

    @classmethod
    def of(cls, request: StartRequest, metadata: Json, limits: Json) -> _StartKey | None:
        """Make the key of a request; None where it has none. Raises InvalidRequestError for what is no key."""
        if request.idempotency_key is None:
            return None
        body: Json = {
            "agent": request.agent,
            "given": request.input if request.messages is None else request.messages,
            "metadata": metadata,
            "limits": limits,
            "model": request.model,
        }
        if request.from_run is not None:
            body["from"] = [request.from_run, request.turn]
        key = check_idempotency_key(request.idempotency_key)
        if request.owner is not None:
            key = f"{request.owner}\0{key}"
        return cls(hashlib.sha256(key.encode()).hexdigest(), digest(body))

    def bind(self, store: Store, run_id: str) -> str:
        """Return the id of the run that the key stands for: `run_id`, or that of an earlier request.

        Raises IdempotencyConflictError where that asked for something else.
        """
        return self._checked(store.remember(self.name, self.digest, run_id))

    def find(self, store: Store) -> Started | None:
        """Find the run that an earlier request has made under the key; None where there is none, or not yet.

        Raises IdempotencyConflictError, and RunNotFoundError where the run was deleted.
        """
        bound = store.remembered(self.name)
        if bound is None:
            return None
        run_id = self._checked(bound)
        try:
            store.load(run_id)
        except RunNotFoundError:
            if store.was_deleted(run_id):
                raise
            return None  # whoever bound the key has died before it made the run
        return Started(run_id, None)

    def _checked(self, bound: tuple[str, str]) -> str:
        known_digest, run_id = bound
        if known_digest != self.digest:
            raise IdempotencyConflictError
        return run_id
