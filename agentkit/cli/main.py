"""The commands and their options. The modules beside this one do the work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from agentkit.cli import answering
from agentkit.cli.approvals import audit, decisions
from agentkit.cli.backend import Backend, Direct, place_of
from agentkit.cli.doctor import show_doctor
from agentkit.cli.export import export_runs, import_runs
from agentkit.cli.filters import Wanted, filter_options
from agentkit.cli.options import server_options, store_option
from agentkit.cli.runs import runs
from agentkit.cli.terminal import Terminal
from agentkit.cli.text import inline, json_text
from agentkit.cli.why import show_why
from agentkit.client import ServerUnreachableError
from agentkit.errors import AgentKitError, ConfigurationError

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


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("agentkit-celery"), message="agentkit %(version)s")
def cli() -> None:
    """Durable agent runs that wait for people: start them, watch them, decide for them.

    \b
    agentkit dev                                       the whole stack on this machine, with an example
    agentkit run support "Please refund order A-1001"  a run in the terminal
    agentkit runs ls                                   the runs of the server
    agentkit decisions ls                              what waits for people
    agentkit why RUN                                   what a run waits for, and what to do
    agentkit mcp                                       an MCP server over the runs, on standard input and output
    agentkit doctor                                    whether store, broker, queues and workers are well
    agentkit export backup.jsonl                       all runs of the store into a file, for `agentkit import`
    """


@cli.command()
@click.option("--app", metavar="MODULE:KIT", help="Your AgentKit.  [default: AGENTKIT_APP, else an example]")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the web server listens.")
@click.option("--data", metavar="DIR", type=click.Path(path_type=Path), help="[default: AGENTKIT_DATA_DIR, .agentkit]")
@click.option("--demo", is_flag=True, help="Play `agentkit demo` first.")
@click.option("-v", "--verbose", is_flag=True, help="Show what worker and web server log, not only warnings.")
def dev(app: str | None, port: int, host: str, data: Path | None, demo: bool, verbose: bool) -> int:
    """Start store, worker and web server together; Ctrl-C stops them all.

    The store is an embedded Valkey server that keeps its data in the data folder, or the server that
    AGENTKIT_REDIS_URL names. A process that dies is restarted.
    """
    from agentkit.cli.dev import run_dev

    return run_dev(app, host, port, data, verbose, Terminal(), demo=demo)


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
def run(backend: Backend, agent: str, input: str, model: str | None) -> int:
    """Run AGENT on INPUT, print its events, and ask for its decisions.

    A decision is asked for field by field; one line of JSON answers all fields, and `/reject REASON` refuses.
    Ctrl-C leaves the run running.

    \b
    Exit status: 0 completed, 1 failed or aborted, 3 paused without an answer.
    """
    return answering.watch(backend, backend.start(agent, input, model=model), Terminal())


@cli.command()
@server_options
def mcp(backend: Backend) -> None:
    """Be an MCP server on standard input and output, for programs that start one: a desktop client, an editor.

    Its tools start runs, follow them, and list and answer what waits, with the rights of the token; with --direct or
    --app, all rights.
    """
    try:
        from agentkit.wires.mcp_tools import make_server
    except ImportError as error:
        raise ConfigurationError("`agentkit mcp` needs the MCP SDK: pip install 'agentkit-celery[mcp]'") from error
    make_server(lambda: backend).run()


@cli.command()
@click.argument("run_id", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="Print it as the server returns it.")
@server_options
def why(backend: Backend, run_id: str, as_json: bool) -> None:
    """Say what a run waits for, since when, who can act, and what to do next.

    \b
    agentkit why ID
    agentkit why ID --direct       without a web server
    """
    found = backend.why(run_id)
    if as_json:
        click.echo(json_text(found, indent=2))
    else:
        show_why(found, Terminal())


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as the server returns it.")
@server_options
def doctor(backend: Backend, as_json: bool) -> int:
    """Examine the installation: settings, store, broker, queues, workers, clocks, overdue and unreadable runs.

    Over HTTP it is the web process that looks; with --direct or --app this one does.

    \b
    Exit status: 0 all is well, perhaps with warnings, 1 something fails.
    """
    click.echo(f"Asking {inline(place_of(backend))} …", err=True)
    found = backend.doctor()
    if as_json:
        click.echo(json_text(found, indent=2))
    else:
        show_doctor(found, Terminal())
    return 1 if found["status"] == "fail" else 0


@cli.command("export")
@click.argument("file", default="-", metavar="[FILE]")
@click.option("--run", "run_ids", metavar="ID", multiple=True, help="Only this run; repeatable.")
@filter_options
@store_option
def export_command(backend: Direct, file: str, run_ids: Sequence[str], wanted: Wanted) -> int:
    """Write the runs of the store into FILE, or to the standard output, as `agentkit import` takes them.

    Without options these are all runs, each as it is at one moment, and the record of answers. Workers may go on
    meanwhile. What is encrypted in the store is so in the file, and anybody who reads the file can read the rest.

    \b
    agentkit export backup.jsonl
    (umask 077; agentkit export --owner ann | gzip > ann.jsonl.gz)
    """
    return export_runs(backend, file, run_ids, wanted)


@cli.command("import")
@click.argument("file", metavar="FILE")
@click.option("--dry-run", is_flag=True, help="Only read the file, and say what would be done.")
@click.option("--skip-existing", is_flag=True, help="Leave out runs that are in the store already.")
@store_option
def import_command(backend: Direct, file: str, dry_run: bool, skip_existing: bool) -> int:
    """Put the runs of FILE, or with - of the standard input, into the store: they go on where they were.

    A run that is in the store already stays as it is: then nothing is imported, and it is said which. What was
    interrupted goes on when the same command is given again.

    \b
    agentkit import backup.jsonl --dry-run
    agentkit import backup.jsonl
    """
    return import_runs(backend, file, skip_existing=skip_existing, dry_run=dry_run)


cli.add_command(runs)
cli.add_command(decisions)
cli.add_command(audit)
