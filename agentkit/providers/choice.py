"""What an agent may name as a model: a name, a Model with its own connection, or an object that provides itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, NamedTuple

from agentkit.core.keywords import refuse_unknown_keywords
from agentkit.errors import ConfigurationError
from agentkit.providers import ModelObject, resolve
from agentkit.providers.connection import Connection, HeadersSource, KeySource
from agentkit.providers.protocol import Provider

__all__ = ["BoundModel", "Model", "ModelChoice", "bind_model", "full_name"]


@refuse_unknown_keywords
@dataclass(frozen=True)
class Model:
    """A model by its name `provider:model`, with what its calls take in place of the provider's settings.

    `base_url`, `api_key` and `headers` are those of Agent, for this model alone: it takes none of the agent's.
    `options` join the agent's, those of the same name in front. Raises ConfigurationError for whatever is declared
    wrongly.
    """

    name: str
    _: KW_ONLY
    base_url: str | None = field(default=None, repr=False)
    api_key: KeySource | None = field(default=None, repr=False)
    headers: HeadersSource | None = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    connection: Connection = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ConfigurationError(f"Model: the name must be a text provider:model, not {self.name!r}")
        if not isinstance(self.options, Mapping):
            raise ConfigurationError(f"Model {self.name!r}: options must be a mapping of the vendor's options")
        try:
            connection = Connection(self.base_url, self.api_key, self.headers)
        except ConfigurationError as error:
            raise ConfigurationError(f"Model {self.name!r}: {error}") from error
        object.__setattr__(self, "options", dict(self.options))
        object.__setattr__(self, "connection", connection)


ModelChoice = str | Model | ModelObject


class BoundModel(NamedTuple):
    """A model with the provider that answers for it. `name`: without the provider. `options`: of this model alone."""

    provider: Provider
    name: str
    connection: Connection = Connection()
    options: Mapping[str, Any] = {}

    @property
    def full_name(self) -> str:
        """The name with the provider's: `provider:model`."""
        return f"{self.provider.name}:{self.name}"

    @property
    def api(self) -> str:
        """The wire that its answers come on, as things are set now."""
        # Asked for each message: isinstance would compare with the protocol ManyWires anew each time.
        wire: Callable[[Connection, str], Provider] | None = getattr(self.provider, "wire", None)
        return self.provider.api if wire is None else wire(self.connection, self.name).api


def full_name(choice: ModelChoice) -> str:
    """Return `provider:model`."""
    if isinstance(choice, str):
        return choice
    return choice.name if isinstance(choice, Model) else f"{choice.name}:{choice.model}"


def bind_model(choice: ModelChoice, connection: Connection) -> BoundModel:
    """Find the provider of a model. `connection`: for one that has none of its own.

    Raises ConfigurationError as `resolve` does.
    """
    if isinstance(choice, Model):
        return BoundModel(*resolve(choice.name), choice.connection, choice.options)
    return BoundModel(*resolve(choice), connection)
