"""`agentkit run` and `agentkit runs …`: runs of a server, from a terminal."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import click

from agentkit.cli.decisions import Answer, ask_for_answer
from agentkit.cli.terminal import RunView, Terminal
from agentkit.cli.text import inline, one_line, plain
from agentkit.client import ApiError, Client
from agentkit.core.messages import Json, text_of_json

__all__ = [
    "answer_decision",
    "extend",
    "fork",
    "list_decisions",
    "list_runs",
    "resume",
    "retry",
    "show_how_to_answer",
    "show_run",
    "watch",
]

EXIT_COMPLETED, EXIT_FAILED, EXIT_WAITING = 0, 1, 3
_ANSWERED_ELSEWHERE = ("run_not_paused", "decision_not_found", "decision_conflict", "decision_expired")


def watch(client: Client, run: Json, terminal: Terminal) -> int:
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
    except EOFError:
        terminal.line()
        show_how_to_answer(client, run_id)
        return EXIT_WAITING
    except KeyboardInterrupt:
        terminal.line()
        click.echo(f"The run goes on. To follow its events:\n  agentkit runs events {run_id}", err=True)
        return 130


def show_how_to_answer(client: Client, run_id: str) -> None:
    """Print the commands that answer the pending items of a run."""
    pending = client.get(run_id)["pending"]
    click.echo("The run stays paused until it is answered:", err=True)
    for item in pending:
        example = (
            "--result 'RESULT'"
            if item["kind"] == "client_execute"
            else shlex.quote(inline(_example(item.get("schema"))))
        )
        which = f" --decision-id {item['decisionId']}" if len(pending) > 1 else ""
        click.echo(f"  agentkit runs resume {inline(run_id)} {example}{which}", err=True)


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


def _answer(client: Client, run_id: str, item: Mapping[str, Any], view: RunView, terminal: Terminal) -> None:
    """Ask for the answer to one pending item until the server accepts it, or the item is answered otherwise."""
    terminal.line()
    _show_item(item, view, terminal)
    while True:
        answer = ask_for_answer(item, lambda prompt: _ask(prompt, terminal), lambda text: _show(text, terminal))
        try:
            _send(client, run_id, item, answer)
        except ApiError as error:
            if error.code in _ANSWERED_ELSEWHERE:
                terminal.line(terminal.style(f"  no answer needed any more: {plain(error.detail)}", fg="yellow"))
            elif error.status in (400, 422):
                _show_errors(error, terminal)
                continue
            elif error.status == 403 and "approvals" in item:
                terminal.line(terminal.style(f"  others must decide: {plain(error.detail)}", fg="yellow"))
            else:
                raise
        terminal.line()
        return


def _show_item(item: Mapping[str, Any], view: RunView, terminal: Terminal) -> None:
    """Print what an answer to the item decides about: the call, why it is asked, who has decided, and until when.

    Arguments that those who have voted have edited are shown in place of the model's: another vote is for them.
    """
    edited = _proposed_input(item)
    view.call(item["toolName"], item["input"] if edited is None else edited)
    if item.get("reason"):
        terminal.line(terminal.style(f"  {inline(item['reason'])}", fg="yellow"))
    if "approvals" in item:
        terminal.line(terminal.style(f"  {inline(_votes(item))}", fg="yellow"))
    if "expiresAt" in item:
        terminal.line(terminal.dim(f"  expires in {_seconds_left(item)} s"))


def resume(
    client: Client,
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
        _show_item(items[0], RunView(terminal), terminal)
        tool_call_id, decision_id = items[0]["toolCallId"], items[0]["decisionId"]
        answer = _for_item(items[0], answer)
    return client.resume(run_id, **_arguments(answer), tool_call_id=tool_call_id, decision_id=decision_id)


def _send(client: Client, run_id: str, item: Mapping[str, Any], answer: Answer) -> None:
    arguments = _arguments(_for_item(item, answer))
    client.resume(run_id, **arguments, tool_call_id=item["toolCallId"], decision_id=item["decisionId"])


def _arguments(answer: Answer) -> Any:
    """Return the arguments of `Client.resume` that give an answer."""
    optional = {"input": answer.input, "remember": answer.remember or None}
    return {answer.kind: answer.value, **{name: value for name, value in optional.items() if value is not None}}


def _for_item(item: Mapping[str, Any], answer: Answer) -> Answer:
    """Return the answer with the arguments that were shown, where those who have voted have edited them."""
    edited = _proposed_input(item) if answer.kind == "decision" and answer.input is None else None
    return answer if edited is None else dataclasses.replace(answer, input=edited)


def _proposed_input(item: Mapping[str, Any]) -> Json | None:
    proposed: Json | None = item.get("proposal", {}).get("input")
    return proposed


def _votes(item: Mapping[str, Any]) -> str:
    """Say how many principals must decide, and who has decided what."""
    needs = f"needs the same decision of {item['approvals']} principals"
    if not item.get("votes"):
        return needs
    names = ", ".join(vote["decidedBy"] for vote in item["votes"])
    proposal = item["proposal"]
    edited = ", with these arguments in place of the model's" if "input" in proposal else ""
    return f"{needs}; {names} gave {json.dumps(proposal['decision'], ensure_ascii=False)}{edited}"


def _show_errors(error: ApiError, terminal: Terminal) -> None:
    problems = [f"{inline(one['path'] or 'the whole value')}: {inline(one['message'])}" for one in error.errors] or [
        error.detail
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


def extend(client: Client, run_id: str, decision_id: str | None, by: float) -> Json:
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


def retry(client: Client, run_id: str, model: str | None) -> Json:
    """Start a run that goes on from another's last whole turn, with that one's metadata, and return it."""
    return client.start(from_run=run_id, model=model, metadata=_metadata_of(client, run_id))


def fork(
    client: Client, run_id: str, input: str | None, turn: int | None, agent: str | None, model: str | None
) -> Json:
    """Start a run that begins with another's messages up to the end of `turn`, with its metadata, and return it."""
    metadata = _metadata_of(client, run_id)
    return client.start(agent, input, from_run=run_id, turn=turn, model=model, metadata=metadata)


def _metadata_of(client: Client, run_id: str) -> Json | None:
    """Return a run's metadata, which its tools may need; the server takes over nothing but messages."""
    return client.get(run_id)["metadata"] or None


# -- listing and showing runs


def list_runs(client: Client, terminal: Terminal, status: str | None, agent: str | None, limit: int) -> None:
    """Print a table of runs, newest first, `limit` at most."""
    rows = [("ID", "AGENT", "STATUS", "TURN", "TOKENS", "STARTED", "WAITS FOR")]
    for run in islice(client.runs(status=status, agent=agent), limit):
        waits = ", ".join(inline(item["toolName"]) for item in run["pending"])
        tokens = f"{run['usage']['totalTokens']:,}"
        rows.append(
            (
                inline(run["id"]),
                inline(run["agent"]),
                inline(run["status"]),
                str(run["turn"]),
                tokens,
                _ago(run["createdAt"]),
                waits,
            )
        )
    if len(rows) == 1:
        terminal.line("No runs.")
        return
    _print_table(terminal, rows, status_column=2)


def _print_table(terminal: Terminal, rows: Sequence[Sequence[str]], status_column: int | None = None) -> None:
    """Print rows of cells below their titles, the first row."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if number and status_column is not None:
            status = row[status_column]
            cells[status_column] = terminal.status(status) + " " * (widths[status_column] - len(status))
        line = "  ".join(cells).rstrip()
        terminal.line(line if number else terminal.dim(line))


def list_decisions(
    client: Client, terminal: Terminal, state: str, filters: Mapping[str, str | None], limit: int
) -> None:
    """Print a table of pending items, oldest first, or of answers, newest first; `limit` at most."""
    answered = state == "resolved"
    rows = [("ID", "AGENT", "TOOL", "KIND", "OWNER", *(("ANSWER", "BY", "WHEN") if answered else ("SINCE", "TITLE")))]
    found: Any = client.decisions(state="resolved" if answered else "pending", **filters)
    for item in islice(found, limit):
        about = [inline(item[name] or "-") for name in ("decisionId", "agent", "toolName", "kind", "owner")]
        if answered:
            about += [inline(item["outcome"]), inline(item["decidedBy"] or "-"), _ago(item["decidedAt"])]
        else:
            about += [_ago(item["createdAt"]), one_line(item.get("title", ""), 40)]
        rows.append(tuple(about))
    if len(rows) == 1:
        terminal.line("No answers." if answered else "Nothing waits.")
        return
    _print_table(terminal, rows)


def answer_decision(client: Client, decision_id: str, answer: Answer | None, terminal: Terminal) -> Json:
    """Show a pending item of whichever run, answer it, and return the run. Without an `answer` it is asked for.

    Raises click.ClickException where there is no such item, and where no answer was entered.
    """
    item = next((each for each in client.decisions() if each["decisionId"] == decision_id), None)
    if item is None:
        raise click.ClickException(f"no item {decision_id} waits in a run that you may read: see agentkit decisions ls")
    run_id = item["runId"]
    if answer is not None:
        _show_item(item, RunView(terminal), terminal)
        arguments = _arguments(_for_item(item, answer))
        return client.resume(run_id, **arguments, decision_id=decision_id)
    try:
        _answer(client, run_id, item, RunView(terminal), terminal)
    except EOFError:
        raise click.ClickException(f"the item {decision_id} was not answered") from None
    return client.get(run_id)


def show_run(run: Json, terminal: Terminal) -> None:
    """Print one run: its state, its conversation and its pending items."""
    terminal.line(f"{terminal.style(inline(run['id']), bold=True)}  {terminal.status(run['status'])}")
    used = f"turn {run['turn']}, {run['usage']['totalTokens']:,} tokens, {run['lastSeq']} events"
    about = f"{inline(run['agent'])} ({inline(run['model'])}), started {_ago(run['createdAt'])}, {used}"
    terminal.line(terminal.dim(about))
    if run.get("origin"):
        origin = run["origin"]
        terminal.line(terminal.dim(f"from run {inline(origin['runId'])}, up to the end of turn {origin['turn']}"))
    if run["metadata"]:
        terminal.line(terminal.dim(f"metadata {one_line(run['metadata'])}"))
    view = RunView(terminal)
    terminal.line()
    for message in run["messages"]:
        _show_message(message, view, terminal)
    for item in run["pending"]:
        who = f"◆ {inline(item['toolName'])} waits for an answer ({inline(item['kind'])})"
        terminal.line(terminal.style(who, fg="yellow"))
        _show_item(item, view, terminal)
        terminal.line(terminal.dim(f"  decisionId {inline(item['decisionId'])}"))
    if run.get("error"):
        terminal.line(terminal.style(f"✗ {inline(run['error']['code'])}: {plain(run['error']['message'])}", fg="red"))


def _show_message(message: Any, view: RunView, terminal: Terminal) -> None:
    if message["role"] == "user":
        terminal.line(terminal.style(f"> {plain(text_of_json(message))}", bold=True))
    elif message["role"] == "toolResult":
        style: dict[str, Any] = {"fg": "red"} if message["isError"] else {"dim": True}
        terminal.line("  " + terminal.style(f"└ {one_line(text_of_json(message)) or '(nothing)'}", **style))
    else:
        for block in message["content"]:
            if block["type"] == "toolCall":
                view.call(block["name"], block["arguments"])
            elif block["type"] == "thinking":
                terminal.line(terminal.dim(plain(block["thinking"])))
            else:
                terminal.line(plain(block["text"]))


def _seconds_left(item: Mapping[str, Any]) -> int:
    expires_at: int = item["expiresAt"]
    return max(0, round(expires_at / 1000 - time.time()))


def _ago(when: int) -> str:
    seconds = max(0, round(time.time() - when / 1000))
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {name} ago"
    return f"{seconds} s ago"
