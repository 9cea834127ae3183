"""The models that answer in a test in place of a kit's own, under the names of these.

Names, options and prices stay those of production, so that fallbacks, limits of cost and events are as they are there.
It knows nothing of runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from agentkit.agents import BoundAgent
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import Json, UserMessage, text_of
from agentkit.errors import ConfigurationError, ProviderError
from agentkit.providers import ModelObject
from agentkit.providers.choice import BoundModel
from agentkit.providers.protocol import Finish, ModelRequest, Part, Provider
from agentkit.providers.scripted import ScriptedModel, Turn

__all__ = ["AgentRequest", "Models", "StandIn"]


@dataclass(frozen=True, slots=True)
class AgentRequest(ModelRequest):
    """A model call as an agent made it in a test. `agent`: its name. `provider`: of the model that it asked for."""

    agent: str = ""
    provider: str = ""

    @property
    def text(self) -> str:
        """The text of the last user message; "" where there is none."""
        last = next((message for message in reversed(self.messages) if isinstance(message, UserMessage)), None)
        return "" if last is None else text_of(last)


StandIn = ModelObject | Sequence[Turn] | Callable[[AgentRequest], Turn]
"""What answers in place of a model: a ScriptedModel or another provider object, the turns of a ScriptedModel, or a
function that is passed each request and returns a turn, or raises ProviderError as a vendor that fails."""

_Record = Callable[[BaseException], None]


class Models:
    """The stand-ins of one test. `requests`: what was asked, in that order.

    `models`: one for all agents, or a mapping by agent; None for none. `record_error` is called with what is wrong with
    the test, and not with a vendor. Raises ConfigurationError for what is no model, and for agents that are not there.
    """

    def __init__(
        self, models: StandIn | Mapping[str, StandIn] | None, agents: Sequence[str], record_error: _Record
    ) -> None:
        self.requests: list[AgentRequest] = []
        self._record_error = record_error
        self._of_all: StandIn | None = None
        self._of_agent: dict[str, StandIn] = {}
        if isinstance(models, Mapping):
            if unknown := sorted(set(models) - set(agents)):
                known = ", ".join(sorted(agents))
                raise ConfigurationError(f"testing: model names the agent {unknown[0]!r}; the agents are: {known}")
            self._of_agent = {agent: _checked(model) for agent, model in models.items()}
        elif models is not None:
            self._of_all = _checked(models)

    def provider(self, agent: str, model: BoundModel) -> Provider:
        """Make the provider that answers for one model of an agent."""
        return _Provider(self, agent, model)

    def bind(self, bound: BoundAgent) -> BoundAgent:
        """Return the agent with these providers."""
        return bound.with_providers(lambda model: self.provider(bound.name, model))

    def stream(self, agent: str, model: BoundModel, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        """Answer a request in place of `model`."""
        values = {field.name: getattr(request, field.name) for field in fields(request)}
        seen = AgentRequest(**values, agent=agent, provider=model.provider.name)
        self.requests.append(seen)
        stand_in = self._of_agent.get(agent, self._of_all)
        try:
            if stand_in is None and model.provider.name != "scripted":
                raise ConfigurationError(
                    f"testing: agent {agent!r} called {model.full_name}, and no real model is called in a test: "
                    f'say what answers for it, as in kit.testing(model={{{agent!r}: ["an answer"]}})'
                )
            yield from _parts(stand_in, model, seen, cancel)
        except ProviderError:
            raise
        except Exception as error:
            self._record_error(error)
            raise


class _Provider:
    """Stands in for the provider of one model of an agent."""

    def __init__(self, models: Models, agent: str, model: BoundModel) -> None:
        self.name = model.provider.name
        self._models = models
        self._agent = agent
        self._model = model

    @property
    def api(self) -> str:
        return self._model.api

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        return self._models.stream(self._agent, self._model, request, cancel)


def _parts(stand_in: StandIn | None, model: BoundModel, request: AgentRequest, cancel: Cancellation) -> Iterator[Part]:
    """Yield the answer of a stand-in, or of a scripted model of the application where there is none."""
    if stand_in is None:
        yield from model.provider.stream(request, cancel)
        return
    if not hasattr(stand_in, "stream"):
        turn = cast(Callable[[AgentRequest], Turn], stand_in)(request)
        stand_in = ScriptedModel(lambda _: turn)
    answering = cast(ModelObject, stand_in)
    for part in answering.stream(replace(request, model=answering.model), cancel):
        # The price of the answer is that of the model that was asked for.
        yield replace(part, model=None) if isinstance(part, Finish) else part


def _checked(model: Any) -> StandIn:
    """Return a stand-in; turns as a ScriptedModel. Raises ConfigurationError for what is none."""
    if hasattr(model, "stream") or callable(model):
        return cast(StandIn, model)
    if isinstance(model, Sequence) and not isinstance(model, str | bytes):
        return ScriptedModel(cast(Sequence[str | list[Json]], model))
    raise ConfigurationError(
        f"testing: {model!r} is no model: give a ScriptedModel or a list of its turns, or a function of the request"
    )
