"""The checks of options that applications declare. Each raises ConfigurationError, which names whose option it is."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from agentkit.errors import ConfigurationError

__all__ = [
    "check_choice",
    "check_count",
    "check_flag",
    "check_plain_function",
    "check_seconds",
    "is_coroutine_function",
]


def check_choice(what: str, option: str, value: Any, choices: tuple[str | None, ...]) -> None:
    """Check that an option has one of the values that it takes."""
    if value not in choices:
        allowed = " or ".join(repr(choice) for choice in choices)
        raise ConfigurationError(f"{what}: {option} must be {allowed}, not {value!r}")


def check_seconds(what: str, option: str, value: Any) -> None:
    """Check that an option is a number of seconds over 0, or None."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ConfigurationError(f"{what}: {option} must be a positive number of seconds, not {value!r}")


def check_count(what: str, option: str, value: Any) -> None:
    """Check that an option is a whole number from 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{what}: {option} must be a whole number from 1, not {value!r}")


def check_flag(what: str, option: str, value: Any) -> None:
    """Check that an option is True or False."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{what}: {option} must be True or False, not {value!r}")


def check_plain_function(what: str, option: str, function: Any, *parameters: str) -> None:
    """Check that an option is a function that may be called with `parameters`, and whose result is no coroutine."""
    if not callable(function):
        raise ConfigurationError(f"{what}: {option} must be a function, not {function!r}")
    if is_coroutine_function(function):
        raise ConfigurationError(f"{what}: {option} must be a plain function: what it returns is not awaited")
    try:
        signature = inspect.signature(function)
    except ValueError:  # of something written in C that does not say
        return
    try:
        signature.bind(*parameters)
    except TypeError as error:
        raise ConfigurationError(f"{what}: {option} must take ({', '.join(parameters)}), not {signature}") from error


def is_coroutine_function(function: Callable[..., object]) -> bool:
    """Whether what is returned when it is called is to be awaited."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
