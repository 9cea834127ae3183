"""Which runs a command is about: its options, and the arguments of `Client.runs` that they stand for."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import click

from agentkit.core.record import Status

__all__ = ["Wanted", "filter_options", "read_seconds"]

F = TypeVar("F", bound=Callable[..., Any])

Wanted = Mapping[str, Any]
"""Arguments of `Client.runs`; empty where nothing was asked for."""

_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d{1,9})(|s|m|min|h|d|w)")


def filter_options(command: F) -> F:
    """Add the options that select runs, and pass the command what they say as `wanted`."""

    @functools.wraps(command)
    def call(
        *args: Any,
        older_than: float | None,
        newer_than: float | None,
        metadata: Sequence[tuple[str, str]],
        **kwargs: Any,
    ) -> Any:
        wanted = {name: kwargs.pop(name) for name in ("status", "agent", "owner", "error", "text")}
        now = time.time()
        wanted["until"] = None if older_than is None else round((now - older_than) * 1000)
        wanted["since"] = None if newer_than is None else round((now - newer_than) * 1000)
        wanted["metadata"] = dict(metadata) or None
        return command(*args, wanted={name: value for name, value in wanted.items() if value is not None}, **kwargs)

    options = (
        click.option("--status", type=click.Choice([str(status) for status in Status])),
        click.option("--agent", metavar="NAME"),
        click.option("--owner", metavar="PRINCIPAL"),
        click.option("--older-than", metavar="TIME", type=_duration, help="Created so long ago or earlier: 90s, 2d."),
        click.option("--newer-than", metavar="TIME", type=_duration, help="Created less long ago: 15m, 3h."),
        click.option("--error", metavar="CODE", help="Ended with this error, as in provider_error."),
        click.option("--text", metavar="TEXT", help="Part of the id or of metadata.title."),
        click.option(
            "--metadata", metavar="KEY=VALUE", multiple=True, type=_pair, help="Has this metadata; repeatable."
        ),
    )
    wrapped: Any = call
    for option in reversed(options):
        wrapped = option(wrapped)
    return cast(F, wrapped)


def read_seconds(text: str) -> float:
    """Read a length of time, a whole number with s, m, h, d or w behind it, as seconds. Raises ValueError."""
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(text)
    return float(int(match[1]) * _UNITS[match[2]])


def _duration(text: str) -> float:
    try:
        return read_seconds(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no length of time, as in 90s, 15m, 3h, 2d or 1w") from None


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not (key and sign):
        raise click.BadParameter(f"{text!r} is not KEY=VALUE")
    return key, value
