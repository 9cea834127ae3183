"""Counts what runs do, by what this process reports of them (`reports.py`): steps, tokens, ends, answers.

It decides what counts as what, and bounds the labels: an agent or a model that the application does not declare, which
a stored run may name, is "other".
"""

from __future__ import annotations

from agentkit.core import metrics as m
from agentkit.core.events import RUN_ERROR_CODES
from agentkit.core.record import Change, StepKind
from agentkit.errors import AgentKitError
from agentkit.runtime.commit import Agents
from agentkit.runtime.metrics import Metrics
from agentkit.runtime.reports import Observer, RecoveryReason, StepReport

__all__ = ["RunMetrics"]


class RunMetrics(Observer):
    """Of one process."""

    def __init__(self, metrics: Metrics, agents: Agents) -> None:
        self._metrics = metrics
        self._agents = agents
        self._models: dict[str, frozenset[str]] = {}
        """The models that each agent may use, of those agents that were met."""

    def step_ended(self, report: StepReport) -> None:
        kind, add = report.kind, self._metrics.add
        add(m.STEPS, kind, self._agent(report.agent), report.outcome)
        if report.outcome in ("returned", "waits"):
            return  # nothing was executed, and it waits on
        self._metrics.observe(m.STEP_SECONDS, kind, value=report.seconds)
        if report.attempt == 1:
            self._metrics.observe(m.STEP_WAIT, kind, value=report.wait_seconds)
        model = self._model(report.agent, report.model)
        if report.usage is not None:
            usage = report.usage
            add(m.TOKENS, model, "input", amount=usage.input)
            add(m.TOKENS, model, "output", amount=usage.output)
            add(m.TOKENS, model, "cache_read", amount=usage.cache_read)
            add(m.TOKENS, model, "cache_write", amount=usage.cache_write)
            add(m.COST, model, amount=usage.cost.total)
        given_up = report.outcome == "failed"
        for call in report.failed_calls[: -1 if given_up else None]:
            add(m.MODEL_RETRIES, call.provider, "none" if call.status is None else str(call.status))

    def changed(self, change: Change, *, in_step: bool) -> None:
        record, before = change.record, change.before
        if before is None:
            self._metrics.add(m.RUNS_STARTED, self._agent(record.agent))
        if record.terminal and (before is None or not before.terminal):
            code = "" if record.error is None else record.error.code
            code = code if code in RUN_ERROR_CODES or not code else m.OTHER
            self._metrics.add(m.RUNS_ENDED, self._agent(record.agent), str(record.status), code)
        for resolution in change.resolutions:
            self._metrics.add(m.DECISIONS, "remembered" if resolution.remembered else resolution.outcome)

    def recovered(self, run_id: str, number: int, kind: StepKind, reason: RecoveryReason) -> None:
        self._metrics.add(m.RECOVERED_STEPS, reason)

    def _agent(self, name: str) -> str:
        return name if self._declares(name) else m.OTHER

    def _model(self, agent: str, model: str | None) -> str:
        return model if model is not None and self._declares(agent) and model in self._models[agent] else m.OTHER

    def _declares(self, agent: str) -> bool:
        if agent not in self._models:
            try:
                self._models[agent] = frozenset(self._agents.bind(agent).allowed_models)
            except AgentKitError:
                return False  # and not remembered: there may be any number of them
        return True
