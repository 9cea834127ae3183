"""The commands and their options. The modules beside this one do the work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from agentkit.cli import runs as run_commands
from agentkit.cli.approvals import audit, decisions
from agentkit.cli.options import answer_options, print_status, read_answer, server_options
from agentkit.cli.terminal import Terminal
from agentkit.cli.text import inline, json_text
from agentkit.client import Client, ServerUnreachableError
from agentkit.errors import AgentKitError

__all__ = ["cli", "main"]

F = TypeVar("F", bound=Callable[..., Any])


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program `agentkit`.

    Exit status: 0 success, 1 failure, 2 wrong usage, 3 the run waits for a decision, 130 Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 gets question marks, not a traceback
    try:
        status = cli.main(arguments, prog_name="agentkit", standalone_mode=False)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "agentkit"
        _fail(f"{error.format_message().rstrip('.')} (see {command} --help)", 2)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except ServerUnreachableError as error:
        _fail(f"{error}; start one with `agentkit dev`, or name another with --url", 1)
    except AgentKitError as error:
        _fail(error.message, 1)
    except BrokenPipeError:  # `agentkit runs events ID | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> NoReturn:
    click.echo(f"agentkit: {inline(' '.join(message.split()))}", err=True)
    sys.exit(status)


def _watch_option(command: F) -> F:
    text = "Print its events and ask for its decisions, as `agentkit run` does."
    return click.option("--watch", is_flag=True, help=text)(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("agentkit-celery"), message="agentkit %(version)s")
def cli() -> None:
    """Durable agent runs that wait for people: start them, watch them, decide for them.

    \b
    agentkit dev                                       the whole stack on this machine, with an example
    agentkit run support "Please refund order A-1001"  a run in the terminal
    agentkit runs ls                                   the runs of the server
    agentkit decisions ls                              what waits for people
    """


@cli.command()
@click.option("--app", metavar="MODULE:KIT", help="Your AgentKit.  [default: AGENTKIT_APP, else an example]")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the web server listens.")
@click.option("--data", metavar="DIR", type=click.Path(path_type=Path), help="[default: AGENTKIT_DATA_DIR, .agentkit]")
@click.option("-v", "--verbose", is_flag=True, help="Show what worker and web server log, not only warnings.")
def dev(app: str | None, port: int, host: str, data: Path | None, verbose: bool) -> int:
    """Start store, worker and web server together; Ctrl-C stops them all.

    The store is an embedded Valkey server that keeps its data in the data folder, or the server that
    AGENTKIT_REDIS_URL names. A process that dies is restarted.
    """
    from agentkit.cli.dev import run_dev

    return run_dev(app, host, port, data, verbose, Terminal())


@cli.command()
def demo() -> int:
    """Watch a run survive the death of its worker and its web server.

    Takes about ten seconds, on a temporary stack of its own.
    """
    from agentkit.cli.demo import run_demo

    return run_demo(Terminal())


@cli.command()
@click.argument("agent")
@click.argument("input")
@click.option("--model", metavar="PROVIDER:MODEL", help="Model to use in place of the agent's.")
@server_options
def run(client: Client, agent: str, input: str, model: str | None) -> int:
    """Run AGENT on INPUT, print its events, and ask for its decisions.

    A decision is asked for field by field; one line of JSON answers all fields, and `/reject REASON` refuses.
    Ctrl-C leaves the run running.

    \b
    Exit status: 0 completed, 1 failed or aborted, 3 paused without an answer.
    """
    return run_commands.watch(client, client.start(agent, input, model=model), Terminal())


@cli.group()
def runs() -> None:
    """List, show, follow, answer, abort, retry, fork and delete runs."""


@runs.command("ls")
@click.option("--status", type=click.Choice(["queued", "running", "paused", "completed", "failed", "aborted"]))
@click.option("--agent", metavar="NAME")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1))
@server_options
def ls(client: Client, status: str | None, agent: str | None, limit: int) -> None:
    """List runs, newest first."""
    run_commands.list_runs(client, Terminal(), status, agent, limit)


@runs.command("show")
@click.argument("run_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print the run as the server returns it.")
@server_options
def show(client: Client, run_id: str, as_json: bool) -> None:
    """Show one run and its conversation."""
    found = client.get(run_id)
    if as_json:
        click.echo(json_text(found, indent=2))
    else:
        run_commands.show_run(found, Terminal())


@runs.command("events")
@click.argument("run_id", metavar="ID")
@click.option("--after", default=0, type=click.IntRange(0), metavar="N", help="Only events with a higher seq.")
@click.option("--follow/--no-follow", default=True, help="Wait for further events.  [default: follow]")
@server_options
def events(client: Client, run_id: str, after: int, follow: bool) -> None:
    """Print a run's events, one line of JSON each, until it ends."""
    last = client.get(run_id)["lastSeq"]
    client.retry_seconds = float("inf") if follow else 0
    if not follow and after >= last:
        return
    for event in client.events(run_id, after):
        click.echo(json_text(event))
        if not follow and event.get("seq", last) >= last:
            return


@runs.command("abort")
@click.argument("run_id", metavar="ID")
@click.option("--reason", metavar="TEXT")
@server_options
def abort(client: Client, run_id: str, reason: str | None) -> None:
    """Abort a run. Does nothing to a run that has ended."""
    print_status(client.abort(run_id, reason))


@runs.command("retry")
@click.argument("run_id", metavar="ID")
@click.option("--model", metavar="PROVIDER:MODEL", help="Model to use in place of the agent's.")
@_watch_option
@server_options
def retry(client: Client, run_id: str, model: str | None, watch: bool) -> int | None:
    """Try a failed or aborted run once more, as a new run.

    It begins with the messages of the old one up to the end of its last whole turn, and has its agent and metadata.
    """
    return _started(client, run_commands.retry(client, run_id, model), watch)


@runs.command("fork")
@click.argument("run_id", metavar="ID")
@click.argument("input", metavar="[INPUT]", required=False)
@click.option(
    "--turn", type=click.IntRange(0), metavar="N", help="The last turn to keep.  [default: the last whole one]"
)
@click.option("--agent", metavar="NAME", help="Agent to use in place of the run's.")
@click.option("--model", metavar="PROVIDER:MODEL", help="Model to use in place of the agent's.")
@_watch_option
@server_options
def fork(
    client: Client,
    run_id: str,
    input: str | None,
    turn: int | None,
    agent: str | None,
    model: str | None,
    watch: bool,
) -> int | None:
    """Start a new run with the messages of a run that has ended, up to the end of a turn, and then INPUT.

    Without INPUT the model goes on from there.

    \b
    agentkit runs fork ID --turn 2 "Take the train instead"
    """
    return _started(client, run_commands.fork(client, run_id, input, turn, agent, model), watch)


@runs.command("rm")
@click.argument("run_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Abort what has not ended first.")
@server_options
def remove(client: Client, run_ids: Sequence[str], force: bool) -> None:
    """Delete runs that have ended, each with the runs of its sub-agents."""
    for run_id in run_ids:
        client.delete(run_id, force=force)
        Terminal().line(f"{inline(run_id)}  deleted")


@runs.command("extend")
@click.argument("run_id", metavar="ID")
@click.option("--decision-id", metavar="ID", help="The item; may be left out where only one expires.")
@click.option("--by", required=True, type=float, metavar="SECONDS", help="Seconds to add to the item's expiry.")
@server_options
def extend(client: Client, run_id: str, decision_id: str | None, by: float) -> None:
    """Move the expiry of a pending item.

    \b
    agentkit runs extend ID --by 3600
    """
    print_status(run_commands.extend(client, run_id, decision_id, by))


@runs.command("resume")
@click.argument("run_id", metavar="ID")
@answer_options
@click.option("--tool-call-id", metavar="ID", help="The item, where several are pending.")
@click.option("--decision-id", metavar="ID", help="The item, where several are pending.")
@server_options
def resume(
    client: Client,
    run_id: str,
    decision: str | None,
    reject: str | None,
    result: str | None,
    input: str | None,
    remember: bool,
    tool_call_id: str | None,
    decision_id: str | None,
) -> None:
    """Answer a pending item of a run; JSON is the decision.

    \b
    agentkit runs resume ID '{"approved": true}'
    agentkit runs resume ID --reject "too much"
    """
    answer = read_answer(decision, reject, result, input, remember)
    print_status(run_commands.resume(client, run_id, answer, Terminal(), tool_call_id, decision_id))


def _started(client: Client, run: dict[str, Any], watch: bool) -> int | None:
    """Print the run that was started, and watch it where that is wanted; the exit status of that."""
    print_status(run)
    return run_commands.watch(client, run, Terminal()) if watch else None


cli.add_command(decisions)
cli.add_command(audit)
