"""`agentkit doctor`: prints the state of an installation."""

from __future__ import annotations

from agentkit.cli.options import callers_way
from agentkit.cli.showing import ago, print_table
from agentkit.cli.terminal import Terminal
from agentkit.cli.text import inline, plain
from agentkit.core.messages import Json

__all__ = ["show_doctor"]

_COLORS = {"ok": "green", "warn": "yellow", "fail": "red"}


def show_doctor(found: Json, terminal: Terminal) -> None:
    """Print an answer of `GET /doctor`."""
    for finding in found["findings"]:
        mark = terminal.style(f"{finding['status']:4}", fg=_COLORS.get(finding["status"], "cyan"))
        terminal.line(f"{mark}  {inline(finding['name']):8}  {plain(finding['text'])}")
        if "todo" in finding:
            terminal.line(terminal.dim(f"      {'':8}  → {plain(callers_way(finding['todo']))}"))
    if found["workers"]:
        terminal.line()
        rows = [["WORKER", "NODE", "VERSION", "POOL", "QUEUES", "STARTED", "CLOCK"]]
        for worker in found["workers"]:
            pool = f"{worker['pool']} {worker.get('concurrency', 0) or ''}".strip() if "pool" in worker else ""
            rows.append(
                [
                    inline(worker["name"]),
                    inline(worker.get("node", "")),
                    inline(worker.get("version", "?")),
                    inline(pool),
                    inline(", ".join(worker.get("queues", ()))),
                    ago(worker["startedAt"]) if "startedAt" in worker else "",
                    f"{worker.get('clockMs', 0):+} ms",
                ]
            )
        print_table(terminal, rows)
