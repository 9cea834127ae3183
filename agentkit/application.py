"""Finds the application: the `AgentKit` that `AGENTKIT_APP=module:kit` names."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from agentkit.errors import ConfigurationError

__all__ = ["load_kit"]


def load_kit(name: str | None) -> Any:
    """The `AgentKit` of that name; Any, since importing its class here would reach up to its floor.

    The working directory can be imported from, as Celery and Flask allow it.

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
    if kit is None or not hasattr(kit, "execute"):
        raise ConfigurationError(f"AGENTKIT_APP={name}: {module_name!r} has no AgentKit named {attribute!r}")
    return kit
