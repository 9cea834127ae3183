"""What the commands print of runs and of pending items: tables, and one of each as a whole."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from agentkit.cli.backend import Backend
from agentkit.cli.filters import Wanted
from agentkit.cli.terminal import RunView, Terminal
from agentkit.cli.text import inline, json_text, one_line, plain
from agentkit.core.messages import Json, text_of_json

__all__ = ["ago", "list_decisions", "list_runs", "print_runs", "print_table", "proposed_input", "show_item", "show_run"]


def list_runs(backend: Backend, terminal: Terminal, wanted: Wanted, limit: int, form: str) -> None:
    """Print runs, newest first, `limit` at most: a "table", a "json" list, or a line of JSON for each, "jsonl"."""
    found = islice(backend.runs(**wanted), limit)
    if form == "jsonl":
        for run in found:
            terminal.line(json_text(run))
        return
    runs = list(found)
    if form == "json":
        terminal.line(json_text(runs, indent=2))
    elif runs:
        print_runs(terminal, runs)
    else:
        terminal.line("No runs.")


def print_runs(terminal: Terminal, runs: Iterable[Json]) -> None:
    """Print a table of runs."""
    rows = [["ID", "AGENT", "STATUS", "TURN", "TOKENS", "STARTED", "WAITS FOR, OR ERROR"]]
    for run in runs:
        waits = [inline(item["toolName"]) for item in run["pending"]]
        waits += [inline(run["error"]["code"])] if run.get("error") else []
        about = [inline(run["id"]), inline(run["agent"]), inline(run["status"]), str(run["turn"])]
        about += [f"{run['usage']['totalTokens']:,}", ago(run["createdAt"]), ", ".join(waits)]
        rows.append(about)
    print_table(terminal, rows, status_column=2)


def list_decisions(
    backend: Backend, terminal: Terminal, state: str, filters: Mapping[str, str | None], limit: int
) -> None:
    """Print a table of pending items, oldest first, or of answers, newest first; `limit` at most."""
    answered = state == "resolved"
    rows = [("ID", "AGENT", "TOOL", "KIND", "OWNER", *(("ANSWER", "BY", "WHEN") if answered else ("SINCE", "TITLE")))]
    found: Any = backend.decisions(state="resolved" if answered else "pending", **filters)
    for item in islice(found, limit):
        about = [inline(item[name] or "-") for name in ("decisionId", "agent", "toolName", "kind", "owner")]
        if answered:
            about += [inline(item["outcome"]), inline(item["decidedBy"] or "-"), ago(item["decidedAt"])]
        else:
            about += [ago(item["createdAt"]), one_line(item.get("title", ""), 40)]
        rows.append(tuple(about))
    if len(rows) == 1:
        terminal.line("No answers." if answered else "Nothing waits.")
        return
    print_table(terminal, rows)


def show_run(run: Json, terminal: Terminal) -> None:
    """Print one run: its state, its conversation and its pending items."""
    terminal.line(f"{terminal.style(inline(run['id']), bold=True)}  {terminal.status(run['status'])}")
    used = f"turn {run['turn']}, {run['usage']['totalTokens']:,} tokens, {run['lastSeq']} events"
    about = f"{inline(run['agent'])} ({inline(run['model'])}), started {ago(run['createdAt'])}, {used}"
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
        show_item(item, view, terminal)
        terminal.line(terminal.dim(f"  decisionId {inline(item['decisionId'])}"))
    if run.get("error"):
        terminal.line(terminal.style(f"✗ {inline(run['error']['code'])}: {plain(run['error']['message'])}", fg="red"))


def print_table(terminal: Terminal, rows: Sequence[Sequence[str]], status_column: int | None = None) -> None:
    """Print rows of cells below their titles, the first row."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if number and status_column is not None:
            status = row[status_column]
            cells[status_column] = terminal.status(status) + " " * (widths[status_column] - len(status))
        line = "  ".join(cells).rstrip()
        terminal.line(line if number else terminal.dim(line))


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


def show_item(item: Mapping[str, Any], view: RunView, terminal: Terminal) -> None:
    """Print what an answer to the item decides about: the call, why it is asked, who has decided, and until when.

    Arguments that those who have voted have edited are shown in place of the model's: another vote is for them.
    """
    edited = proposed_input(item)
    view.call(item["toolName"], item["input"] if edited is None else edited)
    if item.get("reason"):
        terminal.line(terminal.style(f"  {inline(item['reason'])}", fg="yellow"))
    if "approvals" in item:
        terminal.line(terminal.style(f"  {inline(_votes(item))}", fg="yellow"))
    if "expiresAt" in item:
        terminal.line(terminal.dim(f"  expires in {_seconds_left(item)} s"))


def proposed_input(item: Mapping[str, Any]) -> Json | None:
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


def _seconds_left(item: Mapping[str, Any]) -> int:
    expires_at: int = item["expiresAt"]
    return max(0, round(expires_at / 1000 - time.time()))


def ago(when: int) -> str:
    seconds = max(0, round(time.time() - when / 1000))
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {name} ago"
    return f"{seconds} s ago"
