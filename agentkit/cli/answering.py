"""A run in the terminal: its events as they come, and the answers that a person gives to what it asks."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import sys
from collections.abc import Mapping
from typing import Any

import click

from agentkit.cli.backend import Backend
from agentkit.cli.decisions import Answer, ask_for_answer
from agentkit.cli.options import callers_way
from agentkit.cli.showing import proposed_input, show_item
from agentkit.cli.terminal import RunView, Terminal
from agentkit.cli.text import inline, plain
from agentkit.client import ApiError
from agentkit.core.messages import Json
from agentkit.errors import AgentKitError, InvalidRequestError, ValidationError

__all__ = ["answer_decision", "extend", "resume", "show_how_to_go_on", "watch"]

EXIT_COMPLETED, EXIT_FAILED, EXIT_WAITING, EXIT_INTERRUPTED = 0, 1, 3, 130
_ANSWERED_ELSEWHERE = ("run_not_paused", "decision_not_found", "decision_conflict", "decision_expired")
_REFUSED = ("invalid_request", "decision_invalid", "input_invalid")
"""The errors after which another answer may be taken."""


def watch(client: Backend, run: Json, terminal: Terminal) -> int:
    """Print a run's events until it ends, and ask for every decision. Returns the exit status."""
    client.retry_seconds = math.inf  # the run exists and goes on while the web process is down
    view = RunView(terminal, show_user=False)
    run_id = run["id"]
    try:
        while True:
            for event in client.events(run_id, view.last_seq, until_pause=True):
                view.feed(event)
            run = client.get(run_id)
            if run["status"] in ("completed", "failed", "aborted"):
                return EXIT_COMPLETED if run["status"] == "completed" else EXIT_FAILED
            for item in run["pending"]:
                _answer(client, run_id, item, view, terminal)
    except (EOFError, KeyboardInterrupt) as stop:
        terminal.line()
        client.retry_seconds = 0
        show_how_to_go_on(client, run_id)
        return EXIT_WAITING if isinstance(stop, EOFError) else EXIT_INTERRUPTED


def show_how_to_go_on(client: Backend, run_id: str) -> None:
    """Print the commands that answer the pending items of a run, or where there are none the one that follows it."""
    pending = client.get(run_id)["pending"]
    if not pending:
        follow = f"{callers_way('agentkit runs events')} {inline(run_id)}"
        click.echo(f"The run goes on. To follow its events:\n  {follow}", err=True)
        return
    click.echo("The run stays paused until it is answered:", err=True)
    for item in pending:
        example = (
            "--result 'RESULT'"
            if item["kind"] == "client_execute"
            else shlex.quote(inline(_example(item.get("schema"))))
        )
        which = f" --decision-id {item['decisionId']}" if len(pending) > 1 else ""
        click.echo(f"  {callers_way('agentkit runs resume')} {inline(run_id)} {example}{which}", err=True)


def _example(schema: Any) -> str:
    """Return a decision of about the right shape, as JSON to be edited by hand."""
    if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
        return "JSON"
    samples = {"boolean": True, "string": "…", "integer": 0, "number": 0}
    fields: Json = schema["properties"]
    value: Json = {}
    for name in schema.get("required") or fields:
        field = fields.get(name, {})
        value[name] = field["enum"][0] if field.get("enum") else samples.get(str(field.get("type")))
    return json.dumps(value, ensure_ascii=False)


def _answer(client: Backend, run_id: str, item: Mapping[str, Any], view: RunView, terminal: Terminal) -> None:
    """Ask for the answer to one pending item until the server accepts it, or the item is answered otherwise."""
    terminal.line()
    show_item(item, view, terminal)
    while True:
        answer = ask_for_answer(item, lambda prompt: _ask(prompt, terminal), lambda text: _show(text, terminal))
        try:
            _send(client, run_id, item, answer)
        except AgentKitError as error:
            if error.code in _ANSWERED_ELSEWHERE:
                terminal.line(terminal.style(f"  no answer needed any more: {plain(error.message)}", fg="yellow"))
            elif error.code in _REFUSED:
                _show_errors(error, terminal)
                continue
            elif error.code == "forbidden" and "approvals" in item:
                terminal.line(terminal.style(f"  others must decide: {plain(error.message)}", fg="yellow"))
            else:
                raise
        terminal.line()
        return


def resume(
    client: Backend,
    run_id: str,
    answer: Answer,
    terminal: Terminal,
    tool_call_id: str | None = None,
    decision_id: str | None = None,
) -> Json:
    """Show the pending item that `answer` is for, answer it by its name, and return the run.

    Where it is not clear which item is meant, the server says so.
    """
    wanted = (("toolCallId", tool_call_id), ("decisionId", decision_id))
    pending = client.get(run_id)["pending"]
    items = [item for item in pending if all(value in (None, item[key]) for key, value in wanted)]
    if len(items) == 1:
        show_item(items[0], RunView(terminal), terminal)
        tool_call_id, decision_id = items[0]["toolCallId"], items[0]["decisionId"]
        answer = _for_item(items[0], answer)
    return client.resume(run_id, **_arguments(answer), tool_call_id=tool_call_id, decision_id=decision_id)


def _send(client: Backend, run_id: str, item: Mapping[str, Any], answer: Answer) -> None:
    arguments = _arguments(_for_item(item, answer))
    client.resume(run_id, **arguments, tool_call_id=item["toolCallId"], decision_id=item["decisionId"])


def _arguments(answer: Answer) -> Any:
    """Return the arguments of `Client.resume` that give an answer."""
    optional = {"input": answer.input, "remember": answer.remember or None}
    return {answer.kind: answer.value, **{name: value for name, value in optional.items() if value is not None}}


def _for_item(item: Mapping[str, Any], answer: Answer) -> Answer:
    """Return the answer with the arguments that were shown, where those who have voted have edited them."""
    edited = proposed_input(item) if answer.kind == "decision" and answer.input is None else None
    return answer if edited is None else dataclasses.replace(answer, input=edited)


def _show_errors(error: AgentKitError, terminal: Terminal) -> None:
    errors = error.errors if isinstance(error, ApiError | ValidationError | InvalidRequestError) else ()
    problems = [f"{inline(one['path'] or 'the whole value')}: {inline(one['message'])}" for one in errors] or [
        error.message
    ]
    for problem in problems:
        terminal.line(terminal.style(f"  {plain(problem)}", fg="red"))


def _ask(prompt: str, terminal: Terminal) -> str:
    about, _, question = prompt.rpartition("\n")
    if about:
        _show(about, terminal)
    terminal.write("  " + terminal.style(inline(question), fg="yellow"))
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    line = line.rstrip("\r\n")
    if not sys.stdin.isatty():
        terminal.line(line)  # a terminal has echoed it already
    return line


def _show(text: str, terminal: Terminal) -> None:
    for line in text.split("\n"):
        terminal.line(terminal.dim(f"  {plain(line)}"))


def extend(client: Backend, run_id: str, decision_id: str | None, by: float) -> Json:
    """Move the expiry of a pending item `by` seconds and return the run.

    Without a `decision_id` it is the only item that expires. Raises click.UsageError where that is not one.
    """
    if not 0 < by < math.inf:
        raise click.UsageError("--by must be a number of seconds above 0")
    if decision_id is None:
        expiring = [item for item in client.get(run_id)["pending"] if "expiresAt" in item]
        if len(expiring) != 1:
            if not expiring:
                raise click.UsageError("no pending item of the run expires: there is no expiry to move")
            named = ", ".join(f"{item['decisionId']} ({inline(item['toolName'])})" for item in expiring)
            raise click.UsageError(f"several items expire: {named}; name one by --decision-id")
        decision_id = expiring[0]["decisionId"]
        run_id = expiring[0].get("runId", run_id)  # an item of a sub-agent's run is answered there
    return client.extend(run_id, decision_id, by)


def answer_decision(client: Backend, decision_id: str, answer: Answer | None, terminal: Terminal) -> Json:
    """Show a pending item of whichever run, answer it, and return the run. Without an `answer` it is asked for.

    Raises click.ClickException where there is no such item, and where no answer was entered.
    """
    item = next((each for each in client.decisions() if each["decisionId"] == decision_id), None)
    if item is None:
        see = callers_way("agentkit decisions ls")
        raise click.ClickException(f"no item {decision_id} waits in a run that you may read: see {see}")
    run_id = item["runId"]
    if answer is not None:
        show_item(item, RunView(terminal), terminal)
        arguments = _arguments(_for_item(item, answer))
        return client.resume(run_id, **arguments, decision_id=decision_id)
    try:
        _answer(client, run_id, item, RunView(terminal), terminal)
    except EOFError:
        raise click.ClickException(f"the item {decision_id} was not answered") from None
    return client.get(run_id)
