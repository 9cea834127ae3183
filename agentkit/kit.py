"""The kit: an application's agents, and what can be done with their runs.

Start, resume, abort and read runs, from any process that has the same agents and reaches the same store.
It knows neither Celery nor Flask: due steps are enqueued by a `StepQueue`, and the web layer calls this.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from agentkit.agents import Agent, BoundAgent, RetryPolicy
from agentkit.codec import Codec, FernetCodec
from agentkit.core import event_loop, strictjson
from agentkit.core.audit import AnsweredItem
from agentkit.core.calls import ClientResult
from agentkit.core.doctor import Doctor
from agentkit.core.events import ItemKind, PendingItem
from agentkit.core.forks import ForkSafeLock
from agentkit.core.inbox import InboxItem, ItemFilter, PendingCount
from agentkit.core.messages import Json, check_content, check_text
from agentkit.core.notifications import RUN_ENDS, NotificationType
from agentkit.core.quotas import QuotaFunction
from agentkit.core.rates import Rate
from agentkit.core.ready import ReadyStep
from agentkit.core.record import StepKind
from agentkit.core.requests import check_extension, check_principal
from agentkit.core.run import Run
from agentkit.core.struct import encode, to_json
from agentkit.core.why import Why
from agentkit.core.workers import Worker
from agentkit.errors import (
    AgentKitError,
    AgentNotFoundError,
    ConfigurationError,
    InvalidRequestError,
    PayloadTooLargeError,
    RunNotFoundError,
)
from agentkit.hooks import AroundStep, Middleware
from agentkit.loop import Answer, client_result
from agentkit.providers.prices import require_prices
from agentkit.queue.protocol import InlineQueue, StepQueue
from agentkit.runs import RunHandle
from agentkit.runtime import commands, inbox, listing, tool_loop
from agentkit.runtime.answers import answers_page
from agentkit.runtime.doctor import examine
from agentkit.runtime.engine import Engine, celery_queue, redis_store
from agentkit.runtime.error_texts import ErrorTexts, Redact
from agentkit.runtime.handlers import HandlerFunction, Handlers, check_types
from agentkit.runtime.hooks import Hooks, run_end_handler
from agentkit.runtime.idempotency import CallKey, Permit, permitted
from agentkit.runtime.inbox import InboxFilter
from agentkit.runtime.inline import Inline, Substitute
from agentkit.runtime.metrics import Metrics
from agentkit.runtime.notifications import Recipient
from agentkit.runtime.quotas import check_quota_function
from agentkit.runtime.readiness import Prober
from agentkit.runtime.recovery import Recovery
from agentkit.runtime.reports import StepOutcome
from agentkit.runtime.rights import Authenticate, May, Rights
from agentkit.runtime.shutdown import Shutdown
from agentkit.runtime.starts import StartRequest, start
from agentkit.runtime.steps import Following, StepRunner
from agentkit.runtime.why import Inquiry
from agentkit.runtime.worker import this_worker
from agentkit.settings import Settings
from agentkit.store.memory import MemoryStore
from agentkit.store.protocol import Claim, Store, StoredResolution

if TYPE_CHECKING:
    from agentkit.testing.models import StandIn
    from agentkit.testing.session import Testing

__all__ = ["AgentKit", "Authenticate", "May", "load_app", "load_kit"]

T = TypeVar("T")
F = TypeVar("F", bound=HandlerFunction)


class AgentKit:
    """An application: its agents and where their runs live.

    `agents`: the definitions; unknown models are errors here, not when they run. `settings`: by default
    those of the environment (docs/reference/settings.md). `store` and `queue` are for tests and for other queues:
    by default Redis and Celery, connected on first use. `retry`: the policy of agents that have none.
    `authenticate` and `may` say who calls over HTTP and what they may do (docs/how-to/authenticate.md). What is called
    from Python is never asked. `client_history`: whether authenticated clients may send assistant messages and tool
    results. `redact`: a function of every error text that leaves the server, to models, people and clients; it returns
    the text that may. `codec`: encrypts what the store keeps of what people, models and tools wrote
    (docs/how-to/secure.md); without it `AGENTKIT_ENCRYPTION_KEYS` counts. All processes of an installation have the
    same. `around_step`: makes the context manager within which each model call and each tool is executed, say an
    application context; see `AroundStep`. `middleware`: hooks around model calls and tools, the first outermost, within
    `around_step` (docs/how-to/hooks.md). `remind_before`: how many seconds before a pending item expires its
    `decision.expiring` comes (docs/how-to/notifications.md); None for never. `rates`: what all workers together
    may ask of models. `quota`: a function of the principal, None for a run of nobody, that returns the Quota that it is
    held to, or None; it is asked at each start (docs/how-to/fair-shares.md for both). `operator`: whether a principal
    may see, over HTTP, workers, queues and the state of the installation; where there is `authenticate`, nobody may
    without it (docs/how-to/operate.md).
    """

    _needs_agents = True
    """False for who knows the store alone: its operator."""

    def __init__(
        self,
        agents: Iterable[Agent],
        *,
        settings: Settings | None = None,
        store: Store | None = None,
        queue: StepQueue | None = None,
        retry: RetryPolicy | None = None,
        authenticate: Authenticate | None = None,
        may: May | None = None,
        client_history: bool = False,
        redact: Redact | None = None,
        codec: Codec | None = None,
        around_step: AroundStep | None = None,
        middleware: Iterable[Middleware] = (),
        remind_before: float | None = None,
        rates: Iterable[Rate] = (),
        operator: Callable[[str], bool] | None = None,
        quota: QuotaFunction | None = None,
    ) -> None:
        self.settings = settings or Settings.from_env()
        self._retry = retry
        self._quota = check_quota_function(quota)
        self._rates = _checked_rates(rates)
        self.authenticate = authenticate
        self.client_history = client_history
        self._hooks = Hooks([*_tracing(self.settings), *middleware], around_step)
        self.texts = ErrorTexts(redact)
        self._handlers = Handlers()
        for hook in self._hooks.run_ends:
            self._handlers.add(RUN_ENDS, run_end_handler(hook))
        self._remind_before = _checked_seconds(remind_before, "remind_before")
        self._rights = Rights(authenticate, may, operator)
        self._agents: dict[str, BoundAgent] = {}
        for agent in agents:
            if agent.name in self._agents:
                raise ConfigurationError(f"two agents are named {agent.name!r}")
            self._agents[agent.name] = self._bound(agent)
        for agent in [bound.agent for bound in self._agents.values()]:
            self._add_sub_agents(agent)
        self._has_priorities = any(bound.agent.priority for bound in self._agents.values())
        if not self._agents and self._needs_agents:
            raise ConfigurationError("an AgentKit needs at least one agent")
        keys = self.settings.encryption_keys
        self._codec = codec if codec is not None or not keys else FernetCodec(keys)
        self._webhooks = _webhooks(self.settings)
        self._store = None if store is None else self._with_codec(store)
        self._queue = queue
        self._celery: Any = None
        self._made: tuple[int, Engine] | None = None
        self._inline: tuple[int, Engine] | None = None
        self._substitute: Substitute | None = None
        self._worker: Worker | None = None
        self._lock = ForkSafeLock()
        self._stop = Shutdown()

    # -- agents

    def _add_sub_agents(self, agent: Agent) -> None:
        """Agents that others use as tools are the application's too: their runs are carried out like any."""
        for child in (item.agent for item in agent.own_tools if item.agent is not None):
            known = self._agents.get(child.name)
            if known is None:
                self._agents[child.name] = self._bound(child)
                self._add_sub_agents(child)
            elif known.agent is not child:
                raise ConfigurationError(
                    f"two agents are named {child.name!r}, one of them as a tool of {agent.name!r}"
                )

    def _bound(self, agent: Agent) -> BoundAgent:
        for choice in agent.models:
            agent.bind_choice(choice)  # one that a start may name is known to exist
        models = [agent.bind_choice(choice) for choice in agent.choices]
        if agent.max_cost is not None:
            for model in models:
                require_prices(model.provider.name, model.name)
        return BoundAgent(agent, models, self._retry, self.settings.bounds, self.texts.redact)

    @property
    def agents(self) -> list[BoundAgent]:
        return list(self._agents.values())

    def bind(self, name: str, model: str | None = None) -> BoundAgent:
        """The agent of this name, with its own model or another. Raises AgentNotFoundError."""
        bound = self._agents.get(name)
        if bound is None:
            known = ", ".join(sorted(self._agents))
            raise AgentNotFoundError(f"there is no agent {name!r}; the agents are: {known}")
        if model is not None and model != bound.model_name:
            models = [bound.agent.bind(model)]
            bound = BoundAgent(bound.agent, models, self._retry, self.settings.bounds, self.texts.redact)
        return bound if self._substitute is None else self._substitute.bind(bound)

    # -- notifications

    def on(self, *types: NotificationType) -> Callable[[F], F]:
        """Have the decorated function called with the events of these types: docs/how-to/notifications.md.

        It takes one event, `{type, id, timestamp, data}`, and may be `async def`. It is called in a worker, at least
        once for each event, with the same `id` each time, and again with backoff for a day while it raises. All
        processes declare the same handlers: the module that makes the kit is the place.
        Raises ConfigurationError for a type that there is not, and for a function that does not take one event.
        """
        check_types(types)

        def declare(function: F) -> F:
            self._handlers.add(types, function)
            return function

        return declare

    def deliver(self, run_id: str, entry_id: str) -> bool:
        """Send one notification, if it is due and nobody else does; whether this kit has it."""
        return self._engine.notifications.deliver(run_id, entry_id)

    def has_recipient(self, entry_id: str) -> bool:
        """Whether it is to a handler or a webhook of this kit that a notification goes."""
        return self._engine.notifications.has_recipient(entry_id)

    def _recipients(self) -> Iterator[Recipient]:
        yield from self._handlers
        yield from self._webhooks

    # -- rights

    def permits(self, principal: str | None, action: str, run: Run, item: Json | None = None) -> bool:
        """Ask whether a principal may do something to a run, or to its pending item; see `May`.

        Raises ValueError for an action that `May` does not name.
        """
        return self._rights.permit(principal, action, run, item)

    def find_item(
        self, run_id: str, *, tool_call_id: str | None = None, decision_id: str | None = None
    ) -> tuple[Run, Json | None]:
        """Find a pending item and the run that owns it; see `commands.find_item`."""
        return commands.find_item(
            self._engine_of(run_id).store, run_id, tool_call_id=tool_call_id, decision_id=decision_id
        )

    # -- runs

    def start(
        self,
        agent: str | None = None,
        input: str | list[Json] | None = None,
        messages: list[Json] | None = None,
        metadata: Json | None = None,
        limits: Json | None = None,
        *,
        from_run: str | None = None,
        turn: int | None = None,
        model: str | None = None,
        idempotency_key: str | None = None,
        run_id: str | None = None,
        owner: str | None = None,
        permit: Callable[[Run], None] | None = None,
        permit_source: Callable[[str], None] | None = None,
    ) -> RunHandle:
        """Start a run of `agent`: `input` is the user message's content, or `messages` a history ending with one.

        With `from_run`, the id of a run that has ended, it begins with the messages of that run up to the end of its
        `turn`, by default the last whole one, and then the `input`; without one the model goes on from there, say where
        it failed. `agent` is by default that run's, which stays as it is; metadata and limits are not taken over.

        `metadata`: a JSON object up to 16 kB. `limits`: `{maxTurns, maxTokens, maxCost, timeout}`. `model`
        takes the place of the agent's. The same `idempotency_key` with the same arguments gives the same run.
        `run_id`: the id that it gets, for who must know it before; of a run that is there already, nothing is made.
        `owner`: the principal whose run it is; keys are each owner's own. `permit` is called with the run that would
        begin, and `permit_source` with `from_run` before that is read; what they raise is passed on, and nothing
        begins.
        Raises AgentNotFoundError, InvalidRequestError, IdempotencyConflictError, QuotaExceededError,
        StoreUnavailableError; with `from_run`
        RunNotFoundError, RunNotTerminalError, and PayloadTooLargeError over AGENTKIT_MAX_HISTORY_BYTES.
        """
        request = StartRequest(
            agent, input, messages, metadata, limits, model, idempotency_key, owner, from_run, turn, run_id
        )
        engine = self._engine if from_run is None else self._engine_of(from_run)
        started = start(engine.committer, request, permit, permit_source, engine.quotas)
        self._drain(engine, started.run_id)
        return RunHandle(engine.store, started.run_id, written=started.run)

    def run(
        self,
        agent: str,
        input: str | list[Json] | None = None,
        messages: list[Json] | None = None,
        metadata: Json | None = None,
        limits: Json | None = None,
    ) -> Run:
        """Execute a run here and now, in memory, until it ends or pauses: for scripts and tests.

        It can be resumed and read through this kit object as long as that lives. Several threads may call it.
        """
        engine = self._inline_engine()
        request = StartRequest(agent, input, messages, metadata, limits)
        started = start(engine.committer, request)
        self._drain(engine, started.run_id)
        return RunHandle(engine.store, started.run_id).run

    def resume(
        self,
        run_id: str,
        decision: Any = None,
        *,
        reject: str | None = None,
        result: Any = None,
        input: Json | None = None,
        tool_call_id: str | None = None,
        decision_id: str | None = None,
        decided_by: str | None = None,
        remember: bool = False,
        idempotency_key: str | None = None,
    ) -> RunHandle:
        """Answer a pending item: by `decision`, by `reject` (the reason), or by the `result` of a client-side tool.

        The ids may be left out when one item is pending. `input` replaces the tool's arguments. `decided_by`: the
        principal who answers. `remember`: later calls of the tool in the run are answered alike, where it allows that.
        The same answer again is harmless. Under the same `idempotency_key`, each principal's own, the same call is
        answered as the first time and does nothing, and another raises IdempotencyConflictError.
        Raises RunNotFoundError, RunNotPausedError, DecisionAmbiguousError,
        DecisionNotFoundError, DecisionConflictError, DecisionExpiredError, ToolNotRegisteredError,
        DecisionValidationError, InputValidationError and PayloadTooLargeError, and ForbiddenError where the tool needs
        several approvals, and this principal may not give one; none of these consumes the item.
        """
        if reject is not None:
            answer = Answer("reject", {"reason": reject}, input, decided_by, remember)
        elif result is not None:
            answer = Answer("result", result, input, decided_by, remember)
        else:
            answer = Answer("decision", decision, input, decided_by, remember)
        return self.answer(
            run_id,
            answer,
            tool_call_id=tool_call_id,
            decision_id=decision_id,
            idempotency_key=idempotency_key,
        )

    def answer(
        self,
        run_id: str,
        answer: Answer,
        *,
        tool_call_id: str | None = None,
        decision_id: str | None = None,
        idempotency_key: str | None = None,
        permit: Permit | None = None,
    ) -> RunHandle:
        """`resume` with an Answer. `permit` is asked before, unless the same call was done under the same key."""
        try:
            strictjson.check([answer.value, answer.input, answer.decided_by])
        except ValueError as error:
            raise InvalidRequestError(f"the answer cannot be kept: {error}") from error
        check_principal(answer.decided_by, "decided_by")
        if answer.kind == "result":
            answer = replace(answer, value=_checked_result(answer.value))
        self._check_size([answer.value, answer.input])
        request = ["resume", answer.kind, to_json(answer.value), answer.input, tool_call_id, decision_id]
        request += ["remember"] if answer.remember else []
        key = CallKey.of(idempotency_key, run_id, answer.decided_by, request)
        engine = self._engine_of(run_id)
        decision_id = permitted(engine.store, run_id, key, decision_id, permit)
        seq = commands.answer(
            engine.committer, run_id, answer, tool_call_id=tool_call_id, decision_id=decision_id, key=key
        )
        self._drain(engine, run_id)
        return RunHandle(engine.store, run_id, seq - 1)

    def _check_size(self, answer: Any) -> None:
        """Raise PayloadTooLargeError for an answer that is larger than a tool's result may be."""
        size, most = len(encode(answer)), self.settings.max_result_bytes
        if size > most:
            raise PayloadTooLargeError(
                f"the answer has {size} bytes, over the bound of {most} (AGENTKIT_MAX_RESULT_BYTES)"
            )

    def extend(
        self,
        run_id: str,
        decision_id: str,
        by: float,
        *,
        idempotency_key: str | None = None,
        caller: str | None = None,
        permit: Permit | None = None,
    ) -> RunHandle:
        """Give a pending item `by` seconds more: its `expiresAt` moves from where it is.

        `caller`: the principal that wants it, which `decisions` shows with the answer; `idempotency_key`, as for
        `resume`, is its own. `permit` as for `answer`. Raises IdempotencyConflictError, RunNotFoundError,
        RunNotPausedError, DecisionNotFoundError, DecisionExpiredError, and InvalidRequestError where the item never
        expires.
        """
        check_principal(caller, "caller")
        key = CallKey.of(idempotency_key, run_id, caller, ["extend", decision_id, check_extension(by)])
        engine = self._engine_of(run_id)
        permitted(engine.store, run_id, key, decision_id, permit)
        seq = commands.extend(engine.committer, run_id, decision_id, by, caller=caller, key=key)
        return RunHandle(engine.store, run_id, seq)

    def decisions(self, run_id: str) -> list[StoredResolution]:
        """How the run's items were answered, by whom and when, in that order. Raises RunNotFoundError."""
        store = self._engine_of(run_id).store
        store.load(run_id)
        return store.resolutions(run_id)

    def abort(self, run_id: str, reason: str | None = None, *, by: str | None = None) -> RunHandle:
        """End a run: at once where nothing executes, otherwise within a second. Harmless when repeated.

        `by`: the principal that wants it, which stands in the log with the `reason`.
        """
        if reason is not None:
            check_text(reason, "reason")
        check_principal(by, "by")
        engine = self._engine_of(run_id)
        since = commands.abort(engine.committer, run_id, reason, by=by)
        self._drain(engine, run_id)
        return RunHandle(engine.store, run_id, since)

    def send(
        self,
        run_id: str,
        message: str | list[Json],
        when: Literal["steer", "followUp"] = "followUp",
        *,
        idempotency_key: str | None = None,
        by: str | None = None,
    ) -> RunHandle:
        """Send a user message into a run: "steer" for its next model call, "followUp" for another turn at its end.

        `by`: the principal that sends it, which stands in the log; `idempotency_key`, as for `resume`, is its own.
        What waits is in the run's `queued`, and what never came into a turn in the `unsent` of its `agent_end`.
        Raises IdempotencyConflictError, InvalidRequestError, RunNotFoundError, RunNotPausedError for an ended run, and
        PayloadTooLargeError where too many messages wait in it, or too much.
        """
        content = check_content(message, "message")
        if when not in ("steer", "followUp"):
            raise InvalidRequestError("when must be 'steer' or 'followUp'")
        check_principal(by, "by")
        engine = self._engine_of(run_id)
        key = CallKey.of(idempotency_key, run_id, by, ["message", to_json(content), when])
        bounds = self.settings.bounds
        since = commands.send(engine.committer, run_id, content, when, by=by, bounds=bounds, key=key)
        return RunHandle(engine.store, run_id, since)

    def get(self, run_id: str) -> Run:
        """The run with its messages. Raises RunNotFoundError."""
        return self.handle(run_id).run

    def handle(self, run_id: str) -> RunHandle:
        """A handle on a run, whether it is there or not."""
        return RunHandle(self._engine_of(run_id).store, run_id)

    def delete(self, run_id: str, *, force: bool = False, by: str | None = None) -> None:
        """Delete a run that has ended, with the runs of its sub-agents; with `force` it is aborted first.

        `by`: the principal that wants it, which stands in the process's log. Made again after an error, it goes on
        where it was. Raises RunNotTerminalError without `force`, RunNotFoundError.
        """
        check_principal(by, "by")
        engine = self._engine_of(run_id)
        parent = engine.delete(run_id, force=force, by=by)
        if parent is not None:
            self._drain(engine, parent)

    def runs(
        self,
        status: str | None = None,
        agent: str | None = None,
        *,
        owner: str | None = None,
        since: int | None = None,
        until: int | None = None,
        text: str | None = None,
        error: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Iterator[Run]:
        """All runs, newest first, without their messages; those that `page` selects by the same arguments."""
        wanted = listing.Filter(
            owner, agent, status, since, text, until=until, error=error, metadata=dict(metadata or {})
        )
        return _all_pages(lambda cursor: listing.page(self._engine.store, wanted, 100, cursor))

    def page(
        self,
        *,
        status: str | None = None,
        agent: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        where: Callable[[Run], bool] = lambda run: True,
        owner: str | None = None,
        since: int | None = None,
        text: str | None = None,
        until: int | None = None,
        error: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> tuple[list[Run], str | None]:
        """Read up to `limit` runs older than `cursor`, newest first, and the cursor of the next page if there is more.

        `owner`: of this principal alone. `since`: created then (ms since the Unix epoch) or later; `until`: then or
        before. `text`: part of the id or of `metadata.title`. `error`: the code of the error with which it ended.
        `metadata`: values by key, each as text, or as its JSON where it is not a string.

        Owner, agent, status and times have an index; runs of the rest are sought among those that these leave. A page
        reads 1,000 runs at the most: where few of many are wanted, it may be short, or empty, and there is more all the
        same.
        """
        wanted = listing.Filter(
            owner, agent, status, since, text, where, until=until, error=error, metadata=dict(metadata or {})
        )
        return listing.page(self._engine.store, wanted, limit, cursor)

    def pending(
        self,
        *,
        kind: ItemKind | None = None,
        agent: str | None = None,
        tool: str | None = None,
        owner: str | None = None,
    ) -> Iterator[InboxItem]:
        """All pending items, oldest first, each with the `run_id` of the run that owns it, where it is answered.

        `kind`, `agent`, `tool` and the run's `owner` select some.
        """
        wanted = InboxFilter(ItemFilter(agent, tool, kind, owner))
        return _all_pages(lambda cursor: self.pending_page(wanted, limit=100, cursor=cursor))

    def answers(
        self,
        *,
        kind: ItemKind | None = None,
        agent: str | None = None,
        tool: str | None = None,
        owner: str | None = None,
    ) -> Iterator[AnsweredItem]:
        """All answers of the record, newest first, also of runs that are gone: who decided what, and when.

        `kind`, `agent`, `tool` and the run's `owner` select some. Answers are kept for `AGENTKIT_AUDIT_SECONDS`, and
        their `input`, `schema` and `title` as long as the run.
        """
        wanted = InboxFilter(ItemFilter(agent, tool, kind, owner))
        return _all_pages(lambda cursor: self.answers_page(wanted, limit=100, cursor=cursor))

    def answers_page(
        self, wanted: InboxFilter, *, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[AnsweredItem], str | None]:
        """Read up to `limit` answers before `cursor`, newest first, and the next page's cursor if there is more.

        A page reads 1,000 answers at the most, as `page` does runs.
        """
        return answers_page(self._engine.store, wanted, limit, cursor)

    def pending_page(
        self, wanted: InboxFilter, *, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[InboxItem], str | None]:
        """Read up to `limit` pending items after `cursor`, oldest first, and the next page's cursor if there is more.

        A page reads 1,000 items at the most, as `page` does runs.
        """
        return inbox.page(self._engine.store, wanted, limit, cursor)

    def count_pending(self, wanted: InboxFilter) -> PendingCount:
        """Count pending items, and find when the oldest was created."""
        return inbox.count(self._engine.store, wanted)

    def readable_by(self, principal: str | None, wanted: ItemFilter) -> InboxFilter:
        """Restrict a filter of items to those of runs that a principal may read."""
        if self._rights.is_open:
            return InboxFilter(wanted)
        only = self._rights.only_owner(principal)
        if only is None:
            return InboxFilter(wanted, lambda run: self.permits(principal, "read", run), principal)
        return InboxFilter(dataclasses.replace(wanted, owner=only), nothing=wanted.owner not in (None, only))

    def only_owner(self, principal: str | None) -> str | None:
        """Return the owner whose runs alone a principal may read; None where `may` decides, or all may read all."""
        return self._rights.only_owner(principal)

    # -- tests

    def testing(
        self, model: StandIn | Mapping[str, StandIn] | None = None, *, raise_tool_errors: bool = False
    ) -> Testing:
        """Make a context within which this kit needs no Redis, no workers and no provider.

        docs/how-to/test-an-agent.md shows it.

        `model`: what answers in place of all models: a ScriptedModel or its turns, or a function of the request; or a
        mapping of them by agent. `raise_tool_errors`: what tools raise is raised in the test, instead of told to the
        model. Raises ConfigurationError for a model that is none, and where the kit is in such a context already.
        """
        from agentkit.testing.session import Testing  # of the layer above: see the contract in pyproject.toml

        return Testing(self, model, raise_tool_errors=raise_tool_errors)

    def engine_with(self, store: Store, queue: StepQueue, settings: Settings, inline: Inline) -> Engine:
        """Make an engine with this kit's agents, texts, codec and `around_step`, on another store and queue."""
        return Engine(
            self._with_codec(store),
            queue,
            self,
            settings,
            texts=self.texts,
            hooks=self._hooks,
            inline=inline,
            recipients=lambda: self._handlers,
            remind_before=self._remind_before,
            rates=self._rates,
            quota=self._quota,
        )

    def substitute(self, substitute: Substitute | None) -> None:
        """Have another engine and other models stand in for this kit's, or, with None, no more.

        Raises ConfigurationError where something stands in for them already.
        """
        with self._lock:
            if substitute is not None and self._substitute is not None:
                raise ConfigurationError("this kit is under test already: leave its testing context before another")
            self._substitute = substitute

    # -- for operators

    def why(
        self, run_id: str, *, may_answer: Callable[[PendingItem], bool] | None = None, operator: bool = True
    ) -> Why:
        """Explain what a run waits for, since when, who can act, and what to do next.

        `may_answer`: whether the caller may answer an item. `operator`: whether workers and queues are named. Raises
        RunNotFoundError.
        """
        committer = self._engine_of(run_id).committer
        answered_by = self._rights.answered_by
        return Inquiry(committer, bool(self._agents), answered_by, may_answer, operator).why(run_id)

    def doctor(self, env: Mapping[str, str] = os.environ) -> Doctor:
        """Examine the installation: settings, store, broker, queues, workers, clocks, overdue and unreadable runs."""
        engine = self._engine
        return examine(self.settings, engine.store, engine.queue, engine.queues, env)

    def is_operator(self, principal: str | None) -> bool:
        """Whether a principal may see workers, queues and the state of the installation."""
        return self._rights.is_operator(principal)

    # -- what workers do

    def become_worker(self, node: str = "", pool: str = "", concurrency: int = 0, queues: Sequence[str] = ()) -> None:
        """Say that this process, and what it forks, is a worker; see `Worker`. Before its engine is first used."""
        self._worker = this_worker(node, pool, concurrency, queues)

    @property
    def store(self) -> Store:
        """The store of this process."""
        return self._engine.store

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that its agents and tools need workers for; none where the kit has a queue of its own."""
        return self._engine.queues

    def queue_of(self, agent: str, tool: str | None) -> str | None:
        """Return the queue that an agent's tool names, or else the agent; None where neither does, or is known."""
        bound = self._agents.get(agent)
        if bound is None:
            return None
        item = None if tool is None else bound.tool(tool)
        return (None if item is None else item.queue) or bound.agent.queue

    def priority_of(self, agent: str) -> int | None:
        """Return the priority of an agent, 0 for one that is not known; None where no agent of the kit has one."""
        if not self._has_priorities:
            return None
        bound = self._agents.get(agent)
        return 0 if bound is None else bound.agent.priority

    def send_by(self, celery_app: Any) -> None:
        """Have a Celery application send this kit's steps; `agentkit.tasks.install` calls it.

        One of the same name takes the earlier one's place: a factory has made the application again, as tests do.
        Raises ConfigurationError where the kit has a queue of its own, or an application of another name sends them.
        """
        if self._queue is not None:
            raise ConfigurationError(
                f"the steps of this kit are sent by the queue that it was made with, {self._queue!r:.80}: make it "
                "without queue= to install it into a Celery application"
            )
        if self._celery is not None and self._celery.main != celery_app.main:
            raise ConfigurationError(
                f"the steps of this kit are sent by the Celery application {self._celery.main!r} already: "
                f"it cannot be installed into {celery_app.main!r}, too"
            )
        with self._lock:
            self._celery, self._made = celery_app, None

    @property
    def sender(self) -> Any:
        """The Celery application that was given to send this kit's steps; None where it is one of our own."""
        return self._celery

    def served_queues(self) -> dict[str, bool]:
        """Whether a worker is there that executed something of each of `queues` lately."""
        store = self._engine.store
        served = store.served(self.queues) if store.workers() else []
        return {queue: queue in served for queue in self.queues}

    def execute(
        self,
        run_id: str,
        step: int,
        kind: StepKind = "model",
        queue: str | None = None,
        following: Following | None = None,
    ) -> StepOutcome | None:
        """Execute one step if it is due and nobody else does; see `StepRunner.run`."""
        return self.runner.run(run_id, step, kind, queue, following)

    def queued(self, queue: str) -> int:
        """Count the messages that wait in a queue; 0 where that is not known."""
        return self._engine.queue.queued(queue)

    def turns(
        self, run_id: str, step: int, kind: StepKind, queue: str | None, served: Sequence[str]
    ) -> Iterator[tuple[ReadyStep, str | None]]:
        """Yield the steps to execute on a message of a step, each with its queue, until one could be.

        `served`: the queues that this worker serves, of which the kit's own count. See `ReadySteps.turns`.
        """
        mine = self.queues
        return self.runner.turns(run_id, step, kind, queue, [name for name in served if name in mine])

    def claim(self, run_id: str, step: int, kind: StepKind, queue: str | None) -> Claim | None:
        """Claim a step that is then executed by `execute`, following the claim."""
        return self.runner.claim(run_id, step, kind, queue)

    def probed(self, queue: str) -> None:
        """Execute a probe of `queue`: note that this process serves it, if its event loop answers."""
        self._engine.served.probed(queue, lambda: event_loop.answers() and tool_loop.answers())

    def stop(self, *, at_once: bool = False) -> None:
        """Have this worker's unfinished model calls handed to others, after the grace or `at_once`; begin no more.

        For signal handlers: it takes no lock, and forked processes that have joined are reached too.
        """
        self._stop.request(at_once=at_once)

    def join_worker(self) -> None:
        """Make this process, forked by a worker's pool, stop when its parent is to stop."""
        self._stop.join()

    def broker_reachable(self) -> bool:
        """Whether messages reach the queue."""
        return self._engine.queue.reachable()

    @property
    def runner(self) -> StepRunner:
        """What executes steps in this process; made anew after a fork."""
        return self._engine.runner

    @property
    def metrics(self) -> Metrics:
        """What counts for /metrics in this process; made anew after a fork."""
        return self._engine.metrics

    def queue_lengths(self) -> dict[str, int] | None:
        """Count the messages that wait in each of `queues`; None where the broker is away."""
        return self._engine.queue_lengths()

    def prober(self) -> Prober:
        """What has the queues probed, for a worker to start."""
        return self._engine.prober()

    def recovery(self) -> Recovery:
        """What finds due and forgotten runs, for a worker to start."""
        return self._engine.recovery()

    def close(self) -> None:
        """Close the connections to the store that this process made for the kit; `with AgentKit(…) as kit:` does it.

        A store that was passed in stays open. A kit that is used again connects again. Within
        `testing` nothing is closed.
        """
        if self._substitute is not None:
            return
        with self._lock:
            made, self._made = self._made, None
        if made is not None and made[0] == os.getpid():
            made[1].metrics.close()
            if self._store is None:
                made[1].store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- inside

    @property
    def _engine(self) -> Engine:
        if (substitute := self._substitute) is not None:
            return substitute.engine
        with self._lock:
            if self._made is None or self._made[0] != os.getpid():
                store = self._store or self._with_codec(redis_store(self.settings))
                queue = self._queue or celery_queue(self.settings, getattr(store, "url", ""), self._celery)
                self._made = (
                    os.getpid(),
                    Engine(
                        store,
                        queue,
                        self,
                        self.settings,
                        self._stop,
                        self.texts,
                        lambda: () if self._queue is not None else self._names(queue),
                        self._hooks,
                        recipients=self._recipients,
                        remind_before=self._remind_before,
                        rates=self._rates,
                        worker=lambda: self._worker or this_worker(),
                        quota=self._quota,
                    ),
                )
            return self._made[1]

    def _names(self, queue: StepQueue) -> tuple[str, ...]:
        """List the broker's names of the queues that steps of the agents and their tools, and notifications, go to."""
        needed: dict[str, None] = {}
        for bound in self._agents.values():
            agent = bound.agent
            needed[queue.name("model", agent.queue)] = None
            needed.update({queue.name("tool", item.queue or agent.queue): None for item in agent.tools})
        if any(self._recipients()):
            needed[queue.notify_queue()] = None
        return tuple(needed)

    def _engine_of(self, run_id: str) -> Engine:
        if self._inline is not None and self._substitute is None:
            inline = self._inline_engine()
            try:
                inline.store.load(run_id)
            except RunNotFoundError:
                pass
            else:
                return inline
        return self._engine

    def _inline_engine(self) -> Engine:
        """The engine of `run`; a forked process has another one, with the runs that there were."""
        if (substitute := self._substitute) is not None:
            return substitute.engine
        with self._lock:
            if self._inline is None or self._inline[0] != os.getpid():
                store = self._with_codec(MemoryStore()) if self._inline is None else self._inline[1].store
                self._inline = (
                    os.getpid(),
                    Engine(
                        store,
                        InlineQueue(),
                        self,
                        self.settings,
                        texts=self.texts,
                        hooks=self._hooks,
                        recipients=lambda: self._handlers,
                        remind_before=self._remind_before,
                        rates=self._rates,
                    ),
                )
            return self._inline[1]

    def _with_codec(self, store: Store) -> Store:
        if self._codec is not None:
            store.use_codec(self._codec)
        return store

    def _drain(self, engine: Engine, run_id: str) -> None:
        """Execute what is due where no worker does: in the inline engine, or in a test's."""
        if (substitute := self._substitute) is not None and engine is substitute.engine:
            substitute.drain()
            return
        if self._inline is not None and engine is self._inline[1]:
            engine.drain(run_id)


def _tracing(settings: Settings) -> list[Middleware]:
    """Make the middleware of AGENTKIT_OTEL, which is outermost. Raises ConfigurationError without its extra."""
    if not settings.otel:
        return []
    from agentkit.hooks.otel_setup import Exporting  # of an extra

    return [Exporting()]


def _checked_seconds(value: float | None, name: str) -> float | None:
    """Check an option of a kit that is a number of seconds. Raises ConfigurationError."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10**9):
        raise ConfigurationError(f"{name} is a number of seconds above 0, not {value!r:.100}")
    return value


def _checked_rates(rates: Iterable[Rate]) -> tuple[Rate, ...]:
    """Check the rates of a kit. Raises ConfigurationError."""
    if not isinstance(rates, Iterable):
        raise ConfigurationError(
            f"rates must be a list, as in rates=[Rate('openai:*', requests=500)], not {rates!r:.100}"
        )
    found: dict[str, Rate] = {}
    for rate in rates:
        if not isinstance(rate, Rate):
            raise ConfigurationError(f"rates must be a list of Rate('openai:*', requests=500) and such: {rate!r:.100}")
        if rate.name in found:
            raise ConfigurationError(f"two rates are for {rate.model!r} in {rate.per:g} s: make one of them")
        found[rate.name] = rate
    return tuple(found.values())


def _webhooks(settings: Settings) -> Sequence[Recipient]:
    if not settings.webhooks:
        return ()
    from agentkit.client.webhooks import Webhook  # it loads the HTTP client, which a web process may not need

    return [Webhook(url, settings.webhook_secret) for url in settings.webhooks]


def _checked_result(value: Any) -> ClientResult:
    try:
        return client_result(value)
    except (TypeError, AgentKitError) as error:
        raise InvalidRequestError(f"result: {error}") from error


def load_kit(name: str | None) -> AgentKit:
    """Import the `AgentKit` that `AGENTKIT_APP=module:kit` names.

    The working directory can be imported from, as with Celery and Flask.

    Raises ConfigurationError that says what to set, or what is missing.
    """
    if not name:
        raise ConfigurationError("AGENTKIT_APP is not set: name your application, as in AGENTKIT_APP=shop.agents:kit")
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise
        raise ConfigurationError(f"AGENTKIT_APP={name}: there is no module {error.name!r}") from error
    kit = getattr(module, attribute, None)
    if not isinstance(kit, AgentKit):
        raise ConfigurationError(f"AGENTKIT_APP={name}: {module_name!r} has no AgentKit named {attribute!r}")
    return kit


def _all_pages(page: Callable[[str | None], tuple[list[T], str | None]]) -> Iterator[T]:
    """Yield what is on all pages; `page` reads the one at a cursor, and the next one's cursor."""
    cursor: str | None = None
    while True:
        found, cursor = page(cursor)
        yield from found
        if cursor is None:
            return


def load_app(name: str | None) -> AgentKit:
    """Load as `load_kit` does, for a process that cannot go on without its application.

    Raises ConfigurationError for whatever is wrong with it, with the file and line of an exception of its own code.
    """
    try:
        return load_kit(name)
    except AgentKitError:
        raise
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
        where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
        raise ConfigurationError(f"{name} cannot be loaded: {type(error).__name__}: {error}{where}") from error
