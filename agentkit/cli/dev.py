"""`agentkit dev`: the development stack in one terminal, until Ctrl-C."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

from agentkit.cli.demo import run_demo
from agentkit.cli.stack import Plan, Stack, StartError, check_port, data_folder, free_port
from agentkit.cli.supervisor import StoppedError, Supervisor
from agentkit.cli.terminal import Terminal
from agentkit.cli.text import inline
from agentkit.errors import AgentKitError
from agentkit.kit import load_app
from agentkit.settings import Settings

__all__ = ["check_app", "run_dev", "this_program"]

EXAMPLE = "agentkit.cli.example:kit"
_COLORS = {"store": "blue", "worker": "magenta", "web": "cyan"}
_IGNORED_LINES = ("worker: Warm shutdown (MainProcess)",)


def run_dev(
    app: str | None, host: str, port: int, data: Path | None, verbose: bool, terminal: Terminal, *, demo: bool = False
) -> int:
    """Start the stack, print how to use it, and keep it running until a signal. Returns the exit status.

    With `demo` that is played first, where nothing is known by then that would stop the stack from starting.
    """
    settings = Settings.from_env()
    name = app or settings.app or EXAMPLE
    folder = (data or Path(settings.data_dir)).absolute()
    plan = Plan(
        app=name,
        host=host,
        port=port or free_port(host),
        data=folder,
        redis_url=settings.redis_url if os.environ.get("AGENTKIT_REDIS_URL", "").strip() else None,
        env=os.environ,
        verbose=verbose,
    )
    os.environ["AGENTKIT_DATA_DIR"] = str(folder)
    agents = check_app(name)

    def report(program: str, line: str) -> None:
        if line.strip() and line.strip() not in _IGNORED_LINES:
            terminal.line(terminal.style(f"{program:<6} │ ", fg=_COLORS.get(program)) + inline(line))

    def note(line: str) -> None:
        terminal.line(terminal.style(f"dev    │ {inline(line)}", fg="yellow"))

    with data_folder(folder) as lock:
        if demo:
            check_port(plan.host, plan.port)
            if status := run_demo(terminal):
                return status
        try:
            with Supervisor(report, note) as supervisor:
                stack = Stack(plan, supervisor, lock)
                terminal.line(terminal.dim("starting …"))
                try:
                    stack.start()
                    _banner(plan, stack, supervisor.pids(), agents, terminal)
                    while not supervisor.signals:
                        supervisor.run_once(1.0)
                except StoppedError:
                    pass
                terminal.line()
                terminal.line(terminal.dim("stopping … (Ctrl-C again kills at once)"))
        except BrokenPipeError:
            return 1  # the reader of our output has gone; everything is stopped
    terminal.line(terminal.dim("stopped"))
    return 0


def check_app(name: str) -> list[str]:
    """Load the application as its processes will, and return its agents' names. Raises StartError with the reason."""
    try:
        return [agent.name for agent in load_app(name).agents]
    except AgentKitError as error:
        raise StartError(error.message) from error


def _banner(plan: Plan, stack: Stack, pids: dict[str, int], agents: list[str], terminal: Terminal) -> None:
    store = _without_password(stack.redis_url)
    store_details = (
        f"pid {pids['store']}, data in {_short(plan.data)}" if "store" in pids else "from AGENTKIT_REDIS_URL"
    )
    rows = [
        ("app", plan.app, f"agents: {', '.join(agents)}"),
        ("web", plan.url, f"pid {pids['web']}"),
        ("worker", "celery, 32 threads", f"pid {pids['worker']}"),
        ("store", store, store_details),
    ]
    width = max(len(row[1]) for row in rows)
    terminal.line()
    terminal.line("  " + terminal.style("agentkit is running", fg="green", bold=True))
    terminal.line()
    for label, value, details in rows:
        terminal.line(f"  {terminal.dim(f'{label:<8}')}{value:<{width}}  {terminal.dim(details)}")
    terminal.line()
    terminal.line(f"  Open {plan.url}/ in a browser, or in another terminal:")
    terminal.line()
    for line in _suggestions(plan, agents[0]):
        terminal.line(f"    {line}" if line else "")
    terminal.line()
    terminal.line(terminal.dim("  Ctrl-C stops everything. A process that dies is restarted: try kill -9."))
    terminal.line()


def _suggestions(plan: Plan, agent: str) -> list[str]:
    text = other = "Hello"
    if plan.app == EXAMPLE:  # an order is refunded once, and README's session takes the first two
        text, other = "Please refund order A-1003", "Please refund order A-1004"
    url = "" if plan.url == Settings.url else f" --url {plan.url}"
    return [
        f'{this_program()} run {agent} "{text}"{url}',
        "",
        f"curl -N {plan.url}/runs -H 'Accept: text/event-stream' \\",
        f"  -H 'Content-Type: application/json' -d {json.dumps({'agent': agent, 'input': other})!r}",
        f"curl {plan.url}/runs/ID/resume \\",
        """  -H 'Content-Type: application/json' -d '{"decision": {"approved": true}}'""",
    ]


def this_program() -> str:
    """Return how a shell calls this program: by its path where `agentkit` is not on PATH, as in a closed venv."""
    script = Path(sys.argv[0])
    if script.name != "agentkit" or shutil.which("agentkit") is not None:
        return "agentkit"
    return shlex.quote(str(script.absolute()))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
