"""Renders a run in a terminal: events in, readable lines out.

It reads no input. Colours are for terminals alone, and not where NO_COLOR is set.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import click

from agentkit.cli.text import inline, one_line, plain, whole
from agentkit.core.struct import Json

__all__ = ["RunView", "Terminal"]

_STATUS = {"completed": "green", "failed": "red", "aborted": "red", "paused": "yellow"}
_LINE = 110
_LABEL = re.compile(r"[\w.-]+", re.ASCII)


class Terminal:
    """An output stream, with or without colours."""

    def __init__(self, out: TextIO | None = None, *, color: bool | None = None) -> None:
        self.out = out or sys.stdout
        self.color = self.out.isatty() and not os.environ.get("NO_COLOR") if color is None else color

    def style(self, text: str, **style: Any) -> str:
        return click.style(text, **style) if self.color else text

    def dim(self, text: str) -> str:
        return self.style(text, dim=True)

    def status(self, status: str) -> str:
        return self.style(inline(status), fg=_STATUS.get(status, "cyan"))

    def line(self, text: str = "") -> None:
        self.write(text + "\n")

    def write(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()


class RunView:
    """Prints a run's events as they are fed, in order. `show_user`: print the user's messages too."""

    def __init__(self, terminal: Terminal, *, show_user: bool = True) -> None:
        self._terminal = terminal
        self._show_user = show_user
        self._open = ""
        """The kind of text that the cursor stands behind: "text", "thinking", or "" at a line's begin."""
        self._streamed = False
        self.last_seq = 0

    def feed(self, event: Json) -> None:
        kind = event["type"]
        if kind == "message_update":
            self._update(event["assistantMessageEvent"])
        else:
            handler = getattr(self, f"_on_{kind}", None)
            if handler is not None:
                self._close()
                handler(event)
        self.last_seq = event["run"]["lastSeq"] if kind == "stream_reset" else event["seq"]

    def call(self, name: str, args: Mapping[str, Any]) -> None:
        """Print a tool call, all of it: a person may decide about it."""
        terminal = self._terminal
        head = f"{terminal.style('●', fg='cyan')} {terminal.style(inline(name), bold=True)}"
        shown = [(key if _LABEL.fullmatch(key) else whole(key)[0], whole(value)) for key, value in args.items()]
        width = sum(len(key) + 3 + len(lines[0]) for key, lines in shown)
        if width <= _LINE and all(len(lines) == 1 and "  " not in lines[0] for _, lines in shown):
            terminal.line("  ".join([head, *(f"{terminal.dim(key)} {lines[0]}" for key, lines in shown)]))
            return
        terminal.line(head)
        for key, lines in shown:
            if len(lines) == 1:
                terminal.line(f"    {terminal.dim(key)} {lines[0]}")
            else:
                terminal.line(f"    {terminal.dim(key)}")
                for line in lines:
                    terminal.line(f"    {terminal.dim('│')} {line}")

    # -- events

    def _update(self, update: Json) -> None:
        kind, _, phase = update["type"].partition("_")
        if phase != "delta" or kind not in ("text", "thinking"):
            return
        if self._open != kind:
            self._close()
            self._open = kind
        self._streamed = True
        delta = plain(update["delta"])
        self._terminal.write(self._terminal.dim(delta) if kind == "thinking" else delta)

    def _on_agent_start(self, event: Json) -> None:
        self._terminal.line(self._terminal.dim(f"run {inline(event['runId'])} of {inline(event['agent'])}"))
        for message in event["messages"]:
            self._user(message)

    def _on_message_start(self, event: Json) -> None:
        self._streamed = False

    def _on_message_end(self, event: Json) -> None:
        message = event["message"]
        self._user(message)
        if message["role"] != "assistant":
            return
        if not self._streamed:  # joined late: the deltas came before
            for block in message["content"]:
                if block["type"] == "text" and block["text"]:
                    self._terminal.line(plain(block["text"]))
        if message["stopReason"] in ("error", "aborted", "length"):
            why = message.get("errorMessage") or {"length": "the answer was cut at its limit"}.get(
                message["stopReason"], message["stopReason"]
            )
            self._terminal.line(self._terminal.style(one_line(why), fg="red"))

    def _on_message_discard(self, event: Json) -> None:
        self._terminal.line(
            self._terminal.dim(f"(the answer so far is discarded: {one_line(event['reason'])}; it starts again)")
        )

    def _on_model_retry(self, event: Json) -> None:
        seconds = event["delayMs"] / 1000
        line = f"(the model failed: {one_line(event['error'], 70)}; "
        line += f"attempt {event['attempt']} of {event['maxAttempts']} in {seconds:g} s)"
        self._terminal.line(self._terminal.style(line, fg="yellow"))

    def _on_model_wait(self, event: Json) -> None:
        line = f"(the model call waits: {one_line(event['reason'], 100)})"
        self._terminal.line(self._terminal.style(line, fg="yellow"))

    def _on_tool_execution_start(self, event: Json) -> None:
        self.call(event["toolName"], event["args"])

    def _on_tool_execution_update(self, event: Json) -> None:
        self._terminal.line(self._terminal.dim(f"  ┆ {one_line(event['partialResult'])}"))

    def _on_tool_execution_end(self, event: Json) -> None:
        content = event["result"]["content"]
        shown = " ".join(
            block["text"] if block["type"] == "text" else f"[{inline(block['type'])}]" for block in content
        )
        line = f"└ {one_line(shown) or '(nothing)'}"
        style: dict[str, Any] = {"fg": "red"} if event["isError"] else {"dim": True}
        self._terminal.line("  " + self._terminal.style(line, **style))

    def _on_tool_decision_resolved(self, event: Json) -> None:
        what = {"decided": one_line(event.get("decision"), 80), "rejected": one_line(event.get("reason") or "", 80)}
        by = f" by {one_line(event['decidedBy'], 40)}" if event.get("decidedBy") else ""
        terminal = self._terminal
        remembered = ", as remembered" if event.get("remembered") else ""
        remember = ", also for later calls" if event.get("remember") else ""
        line = f"◆ {inline(event['outcome'])}{by}{remembered}{remember}"
        terminal.line(f"{terminal.style(line, fg='yellow')}  {what.get(event['outcome'], '')}".rstrip())

    def _on_tool_decision_vote(self, event: Json) -> None:
        count = f"{event['votes']} of {event['approvals']}"
        terminal = self._terminal
        line = f"◆ {count} have decided, the last of them {one_line(event['decidedBy'], 40)}"
        terminal.line(f"{terminal.style(line, fg='yellow')}  {one_line(event['decision'], 80)}")

    def _on_agent_pause(self, event: Json) -> None:
        if event.get("reason"):
            self._terminal.line(self._terminal.style(one_line(event["reason"]), fg="red"))
        names = ", ".join(inline(item["toolName"]) for item in event["pending"])
        self._terminal.line(self._terminal.style(f"◆ paused: {names} waits for an answer", fg="yellow"))

    def _on_stream_reset(self, event: Json) -> None:
        self._terminal.line(self._terminal.dim("(older events are no longer kept)"))
        if event["run"]["status"] in ("completed", "failed", "aborted"):
            self._end(event["run"]["status"], event["run"]["usage"], event["run"].get("error"))

    def _on_agent_end(self, event: Json) -> None:
        self._end(event["status"], event["usage"], event.get("error"))

    # -- inside

    def _end(self, status: str, usage: Mapping[str, Any], error: Mapping[str, Any] | None) -> None:
        mark = "✓" if status == "completed" else "✗"
        color = _STATUS.get(status, "cyan")
        cost = usage["cost"]["total"]
        used = f"{usage['totalTokens']:,} tokens" + (f", ${cost:.4f}" if cost else "")
        self._terminal.line(
            self._terminal.style(f"{mark} {inline(status)}", fg=color) + self._terminal.dim(f"  {used}")
        )
        if error:
            line = f"  {inline(error['code'])}: {plain(error['message'])}"
            self._terminal.line(self._terminal.style(line, fg="red"))

    def _user(self, message: Mapping[str, Any]) -> None:
        if message["role"] != "user" or not self._show_user:
            return
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        text = " ".join(block["text"] if block["type"] == "text" else f"[{inline(block['type'])}]" for block in blocks)
        self._terminal.line(self._terminal.style(f"> {plain(text)}", bold=True))

    def _close(self) -> None:
        if self._open:
            self._terminal.line()
            self._open = ""
