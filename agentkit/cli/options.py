"""What the commands share: the options that say where the runs are, and those that give an answer."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable
from typing import Any, TypeVar, cast

import click

from agentkit.cli.backend import Backend, Direct
from agentkit.cli.decisions import Answer
from agentkit.cli.terminal import Terminal
from agentkit.cli.text import inline
from agentkit.client import Client
from agentkit.core import strictjson
from agentkit.errors import ConfigurationError
from agentkit.settings import Settings, parse_setting

__all__ = ["answer_options", "callers_way", "print_status", "read_answer", "server_options", "store_option"]

F = TypeVar("F", bound=Callable[..., Any])

_COMMAND = re.compile(r"\bagentkit (?:(?:decisions|runs) [a-z]+|doctor|why)\b")
"""A command of `server_options` in a text."""


def server_options(command: F) -> F:
    """Add the options that say where the runs are, and pass the command what reaches them, as its first argument."""

    @functools.wraps(command)
    def call(*args: Any, url: str | None, token: str | None, direct: bool, app: str | None, **kwargs: Any) -> Any:
        with _backend(url, token, direct, app) as backend:
            return command(backend, *args, **kwargs)

    options = (
        click.option("--url", metavar="URL", help="The server.  [default: AGENTKIT_URL, else http://127.0.0.1:8000]"),
        click.option(
            "--token",
            metavar="TOKEN",
            help="Sent as a bearer token. Other users of this machine can read it here.  [default: AGENTKIT_TOKEN]",
        ),
        click.option(
            "--direct",
            is_flag=True,
            help="Ask the store of AGENTKIT_APP, else of AGENTKIT_REDIS_URL, in place of a server.",
        ),
        click.option("--app", metavar="MODULE:KIT", help="Ask the store of this AgentKit, in place of a server."),
    )
    wrapped: Any = call
    for option in reversed(options):
        wrapped = option(wrapped)
    return cast(F, wrapped)


def store_option(command: F) -> F:
    """Add the option that says where the store is, and pass the command what reaches it, as its first argument."""

    @functools.wraps(command)
    def call(*args: Any, app: str | None, **kwargs: Any) -> Any:
        with Direct.open(app) as backend:
            return command(backend, *args, **kwargs)

    text = "The AgentKit whose store it is.  [default: AGENTKIT_APP, else the store of AGENTKIT_REDIS_URL]"
    return cast(F, click.option("--app", metavar="MODULE:KIT", help=text)(call))


def callers_way(text: str) -> str:
    """Add to the commands in a text the options by which this one was told where the runs are.

    Not the token: what is printed may be read by others. A text of a server names no options, as it knows none.
    """
    context = click.get_current_context(silent=True)
    given = {} if context is None else context.params
    words = "".join(f" --{name} {shlex.quote(given[name])}" for name in ("url", "app") if given.get(name))
    words += " --direct" if given.get("direct") else ""
    return _COMMAND.sub(lambda command: command[0] + words, text)


def _backend(url: str | None, token: str | None, direct: bool, app: str | None) -> Backend:
    if not direct and app is None:
        return _client(url, token)
    if url is not None or token is not None:
        raise click.UsageError("--url and --token name a server, --direct and --app do without: give one of the two")
    return Direct.open(app)


def _client(url: str | None, token: str | None) -> Client:
    settings = Settings.from_env()
    try:
        url = settings.url if url is None else parse_setting("url", url, "--url")
        token = settings.token if token is None else parse_setting("token", token, "--token")
    except ConfigurationError as error:
        raise click.UsageError(error.message) from error
    return Client(url, retry_seconds=0, headers={"Authorization": f"Bearer {token}"} if token else None)


def answer_options(command: F) -> F:
    """Add the argument and the options that give the answer to a pending item, for `read_answer`."""
    options = (
        click.argument("decision", metavar="[JSON]", required=False),
        click.option("--reject", metavar="REASON", help="Reject the item, for this reason."),
        click.option("--result", metavar="JSON", help="The result of a tool that runs at the client."),
        click.option("--input", metavar="JSON", help="Arguments in place of the model's."),
        click.option(
            "--remember", is_flag=True, help="Answer later calls of the tool in the run alike, where it allows that."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def read_answer(
    decision: str | None, reject: str | None, result: str | None, input: str | None, remember: bool
) -> Answer:
    """Make an answer of what the options of `answer_options` say. Raises click.UsageError where that is not one."""
    answers = [value for value in (decision, reject, result) if value is not None]
    if len(answers) != 1:
        raise click.UsageError("give exactly one of a decision in JSON, --reject REASON and --result JSON")
    edited = None if input is None else _json(input, "--input")
    answer = Answer("reject", reject, edited, remember)
    if decision is not None:
        answer = Answer("decision", _json(decision, "the decision"), edited, remember)
    elif result is not None:
        answer = Answer("result", _json(result, "--result"), edited, remember)
    return answer


def _json(text: str, what: str) -> Any:
    try:
        return strictjson.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{what} is not valid JSON ({error}): {text}") from error


def print_status(run: dict[str, Any]) -> None:
    """Print a run's id and its status."""
    terminal = Terminal()
    terminal.line(f"{inline(run['id'])}  {terminal.status(run['status'])}")
