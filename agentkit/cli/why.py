"""`agentkit why`: prints why a run stands where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentkit.cli.options import callers_way
from agentkit.cli.showing import ago
from agentkit.cli.terminal import Terminal
from agentkit.cli.text import inline, one_line, plain
from agentkit.core.messages import Json
from agentkit.core.words import counted

__all__ = ["show_why"]


def show_why(found: Json, terminal: Terminal) -> None:
    """Print an answer of `GET /runs/{id}/why`."""
    about = [f"agent {inline(found['agent'])}", f"last changed {ago(found['since'])}"]
    about += [f"owner {inline(found['owner'])}"] if "owner" in found else []
    head = terminal.style(inline(found["runId"]), bold=True)
    terminal.line(f"{head}  {terminal.status(found['status'])}  {terminal.dim(', '.join(about))}")
    terminal.line(plain(found["summary"]))
    terminal.line(terminal.style(f"→ {plain(callers_way(found['todo']))}", fg="yellow"))
    for line in (*_steps(found), *_items(found), *_children(found), *_queues(found), *_errors(found)):
        terminal.line(f"  {line}")
    if "nextCheckAt" in found:
        terminal.line(f"  next check by a worker: {_when(found['nextCheckAt'], found['checkedAt'])}")


def _steps(found: Json) -> Iterator[str]:
    now = found["checkedAt"]
    for step in found["steps"]:
        name = f"tool {inline(step['toolName'])}" if "toolName" in step else "model call"
        parts = [f"step {step['number']}: {name}", f"attempt {step['attempt']}", step["state"].replace("_", " ")]
        parts += [f"lease ends {_when(step['leaseUntil'], now)}"] if "leaseUntil" in step else []
        parts += [f"due {_when(step['dueAt'], now)}"] if "dueAt" in step else []
        parts += [f"{counted(step['tries'], 'try', 'tries')} in vain"] if "tries" in step else []
        parts += [f"queue {inline(step['queue'])}"] if "queue" in step else []
        if "worker" in step:
            parts.append(f"worker {inline(step['worker'])}{'' if step.get('workerAlive') else ', which is gone'}")
        yield ", ".join(parts)


def _items(found: Json) -> Iterator[str]:
    for each in found["items"]:
        item: Any = each["item"]
        parts = [
            f"{inline(item['toolName'])} waits for an answer ({inline(item['kind'])}) since {ago(item['createdAt'])}"
        ]
        parts += [f"expires {_when(item['expiresAt'], found['checkedAt'])}"] if "expiresAt" in item else []
        parts += [f"you may {'' if each['mayAnswer'] else 'not '}answer it"] if "mayAnswer" in each else []
        parts.append(f"decisionId {inline(item['decisionId'])}")
        yield ", ".join(parts)


def _children(found: Json) -> Iterator[str]:
    for child in found["children"]:
        status = inline(child.get("status", "not there"))
        yield f"{inline(child['toolName'])} waits for run {inline(child['runId'])} of a sub-agent: {status}"


def _queues(found: Json) -> Iterator[str]:
    for queue in found.get("queues", ()):
        served = "served" if queue["served"] else "NOT SERVED"
        workers = f", by {', '.join(inline(name) for name in queue['workers'])}" if queue["workers"] else ""
        messages = counted(queue["messages"], "message waits", "messages wait")
        yield f"queue {inline(queue['name'])}: {served}{workers}, {messages}"


def _errors(found: Json) -> Iterator[str]:
    for error in found["errors"]:
        yield f"{ago(error['at'])}, {inline(error['event'])}: {one_line(error['message'], 160)}"


def _when(at: int, now: int) -> str:
    seconds = round((at - now) / 1000)
    return f"in {seconds} s" if seconds >= 0 else f"{-seconds} s ago"
