"""The application's functions that are called with notifications (`AgentKit.on`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from agentkit.core.messages import Json
from agentkit.core.notifications import NOTIFICATION_TYPES
from agentkit.errors import ConfigurationError
from agentkit.runtime.tool_loop import submit_tool

__all__ = ["Handler", "HandlerFunction", "Handlers"]

HandlerFunction = Callable[[Json], Any]
"""Takes an event `{type, id, timestamp, data}`; `def` or `async def`. What it returns is dropped."""


class Handler:
    """A function that is called with events of some types: a `Recipient`."""

    def __init__(self, name: str, function: HandlerFunction) -> None:
        self.name = name
        self.function = function
        self.types: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"the handler {self.name}"

    def send(self, event: Json, timestamp: int) -> None:
        """Call the function, an `async def` one on the event loop of tools. Raises what it raises."""

        async def call() -> Any:
            return await self.function(event)

        if _is_async(self.function):
            submit_tool(self.name, call).result()()
        else:
            self.function(event)


class Handlers:
    """The handlers of one kit, in the order of their declaration.

    A handler is found again by its name, in other processes and after a deploy: its module and qualified name, with a
    number behind it where there are several of one name.
    """

    def __init__(self) -> None:
        self._handlers: list[Handler] = []

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers)

    def add(self, types: Sequence[str], function: HandlerFunction) -> None:
        """Have `function` called with events of these types. Raises ConfigurationError for what cannot be called so."""
        _check_function(function)
        handler = next((each for each in self if each.function == function), None)
        if handler is None:
            handler = Handler(self._free_name(function), function)
            self._handlers.append(handler)
        handler.types |= frozenset(types)

    def _free_name(self, function: HandlerFunction) -> str:
        known = {each.name for each in self}
        base = name = _name_of(function)
        number = 1
        while name in known:
            number += 1
            name = f"{base}#{number}"
        return name


def check_types(types: Sequence[str]) -> None:
    """Raise ConfigurationError where these are no types of notifications."""
    known = ", ".join(NOTIFICATION_TYPES)
    if not types:
        raise ConfigurationError(f"on() names what the function is called with: {known}")
    for each in types:
        if each not in NOTIFICATION_TYPES:
            hint = " (write @kit.on(…), with types)" if callable(each) else ""
            raise ConfigurationError(f"there is no notification {each!r:.100}{hint}; there are {known}")


def _is_async(function: HandlerFunction) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _check_function(function: HandlerFunction) -> None:
    if not callable(function):
        raise ConfigurationError(f"a handler is a function of one event, not {function!r:.100}")
    try:
        inspect.signature(function).bind({})
    except ValueError:
        return  # a builtin, which shows no signature
    except TypeError as error:
        raise ConfigurationError(f"the handler {_name_of(function)} does not take one event: {error}") from None


def _name_of(function: HandlerFunction) -> str:
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"
