"""Finds the provider that a model's name names. Knows their names and modules, not what they do.

Adapters are imported when first asked for: a process that calls no model loads no HTTP client.
"""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from agentkit.core.forks import ForkSafeLock
from agentkit.errors import ConfigurationError
from agentkit.providers.protocol import Provider

__all__ = ["ModelObject", "register_provider", "resolve"]


class ModelObject(Provider, Protocol):
    """A provider of one model, which an agent takes in place of a name, such as ScriptedModel."""

    model: str
    """The model's name without the provider."""


_ADAPTERS = {
    "anthropic": "agentkit.providers.anthropic:AnthropicProvider",
    "bedrock": "agentkit.providers.bedrock:BedrockProvider",
    "google": "agentkit.providers.google:GoogleProvider",
    "ollama": "agentkit.providers.ollama:OllamaProvider",
    "openai": "agentkit.providers.openai_wires:OpenAIWires",
    "openai-completions": "agentkit.providers.openai_wires:completions",
    "openai-responses": "agentkit.providers.openai_responses:OpenAIResponsesProvider",
    "scripted": "agentkit.providers.scripted:Scripts",
    "vertex": "agentkit.providers.vertex:VertexProvider",
}

_lock = ForkSafeLock()
_instances: dict[str, Provider] = {}


def resolve(model: str | ModelObject) -> tuple[Provider, str]:
    """Find the provider of a `provider:model` name, and the model's name without it. An object provides itself.

    There is one instance of a named provider per process. Raises ConfigurationError where the name has no colon, no
    model, or an unknown provider.
    """
    if not isinstance(model, str):
        return model, model.model
    prefix, colon, name = model.partition(":")
    if not colon or not name:
        raise ConfigurationError(f"the model {model!r} must be named provider:model, {_known()}")
    with _lock:
        if prefix not in _instances:
            _instances[prefix] = _load(prefix)
        return _instances[prefix], name


def register_provider(provider: Provider) -> None:
    """Make `provider` answer for models named `<provider.name>:…` in this process, also in place of a known one.

    `provider`: an object that implements `agentkit.providers.protocol.Provider`, say an OpenAIProvider with another
    name and URL. Call it in every process that executes or shows agents with such models.
    """
    with _lock:
        _instances[provider.name] = provider


def _load(prefix: str) -> Provider:
    if prefix not in _ADAPTERS:
        raise ConfigurationError(f"there is no model provider {prefix!r}, {_known()}")
    module, _, attribute = _ADAPTERS[prefix].partition(":")
    return cast(Provider, getattr(importlib.import_module(module), attribute)())


def _known() -> str:
    return "where provider is one of " + ", ".join(sorted({*_ADAPTERS, *_instances}))
