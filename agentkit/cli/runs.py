"""The commands `agentkit runs …`. The modules beside this one do the work."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import click

from agentkit.cli import answering
from agentkit.cli.backend import Backend
from agentkit.cli.bulk import Bulk, Outcome, Selection
from agentkit.cli.filters import Wanted, filter_options
from agentkit.cli.options import answer_options, print_status, read_answer, server_options
from agentkit.cli.showing import list_runs, show_run
from agentkit.cli.terminal import Terminal
from agentkit.cli.text import inline, json_text
from agentkit.core.messages import Json

__all__ = ["runs"]

F = TypeVar("F", bound=Callable[..., Any])

_LIVE, _ENDED = ("queued", "running", "paused"), ("completed", "failed", "aborted")


def _selection_options(command: F) -> F:
    """Add the ids and the options that select runs, and pass the command its `selection`."""

    @functools.wraps(command)
    def call(*args: Any, run_ids: Sequence[str], wanted: Wanted, everything: bool, **kwargs: Any) -> Any:
        return command(*args, selection=Selection(run_ids, wanted, everything), **kwargs)

    everything = click.option("--all", "everything", is_flag=True, help="All runs, where no other option selects some.")
    ids = click.argument("run_ids", metavar="[ID]...", nargs=-1)
    return cast(F, ids(filter_options(everything(call))))


def _bulk_options(command: F) -> F:
    """Add what a command has that changes many runs."""
    dry_run = click.option("--dry-run", is_flag=True, help="Only show which runs these are.")
    yes = click.option("--yes", is_flag=True, help="Do not ask. Without a terminal, nothing is done otherwise.")
    return _selection_options(dry_run(yes(command)))


def _watch_option(command: F) -> F:
    text = "Print its events and ask for its decisions, as `agentkit run` does."
    return click.option("--watch", is_flag=True, help=text)(command)


@click.group()
def runs() -> None:
    """List, show, follow, answer, abort, retry, fork and delete runs."""


@runs.command("ls")
@filter_options
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1))
@click.option("--json", "form", flag_value="json", help="Print a list as JSON.")
@click.option("--jsonl", "form", flag_value="jsonl", help="Print a line of JSON for each.")
@server_options
def ls(backend: Backend, wanted: Wanted, limit: int, form: str | None) -> None:
    """List runs, newest first.

    \b
    agentkit runs ls --status failed --error provider_error --newer-than 1h
    agentkit runs ls --status paused --older-than 2d --metadata customer=42
    """
    list_runs(backend, Terminal(), wanted, limit, form or "table")


@runs.command("show")
@click.argument("run_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print the run as the server returns it.")
@server_options
def show(backend: Backend, run_id: str, as_json: bool) -> None:
    """Show one run and its conversation."""
    found = backend.get(run_id)
    if as_json:
        click.echo(json_text(found, indent=2))
    else:
        show_run(found, Terminal())


@runs.command("events")
@click.argument("run_id", metavar="ID")
@click.option("--after", default=0, type=click.IntRange(0), metavar="N", help="Only events with a higher seq.")
@click.option("--follow/--no-follow", default=True, help="Wait for further events.  [default: follow]")
@server_options
def events(backend: Backend, run_id: str, after: int, follow: bool) -> None:
    """Print a run's events, one line of JSON each, until it ends."""
    last = backend.get(run_id)["lastSeq"]
    backend.retry_seconds = float("inf") if follow else 0
    if not follow and after >= last:
        return
    for event in backend.events(run_id, after):
        click.echo(json_text(event))
        if not follow and event.get("seq", last) >= last:
            return


@runs.command("abort")
@_bulk_options
@click.option("--reason", metavar="TEXT")
@server_options
def abort(backend: Backend, selection: Selection, dry_run: bool, yes: bool, reason: str | None) -> int:
    """Abort runs: those of these IDs, or all that the options select. Does nothing to a run that has ended.

    \b
    agentkit runs abort ID
    agentkit runs abort --status queued --older-than 1d --dry-run
    """

    def act(run_id: str) -> Outcome:
        status = backend.abort(run_id, reason)["status"]
        if status == "aborted":
            return Outcome(Terminal().status(status))
        ended = status in _ENDED
        return Outcome(status if ended else "to be aborted by the worker that executes it", left_out=ended)

    work = Bulk("abort", "aborted", ("queued", "running", "paused"), act)
    return work.run(backend, selection, Terminal(), dry_run=dry_run, yes=yes)


@runs.command("retry")
@_bulk_options
@click.option("--model", metavar="PROVIDER:MODEL", help="Model to use in place of the agent's.")
@_watch_option
@server_options
def retry(
    backend: Backend, selection: Selection, dry_run: bool, yes: bool, model: str | None, watch: bool
) -> int | None:
    """Try failed and aborted runs once more, each as a new run.

    It begins with the messages of the old one up to the end of its last whole turn, and has its agent and metadata.
    Over HTTP it is yours, with --direct or --app its owner's.
    Runs that options select are retried once each, however often the command is given; those of sub-agents are not:
    their parent's retry starts them again.

    \b
    agentkit runs retry ID --watch
    agentkit runs retry --error provider_error --newer-than 2h --yes
    """
    if len(selection.ids) == 1 and not dry_run:
        return _started(backend, _retry(backend, selection.ids[0], model), watch)
    if watch:
        raise click.UsageError("--watch follows one run: give one ID")

    def act(run_id: str) -> Outcome:
        key = None if selection.ids else f"retry:{run_id}:{model or ''}"
        return Outcome(f"retried as {inline(_retry(backend, run_id, model, key)['id'])}")

    def admits(run: Json) -> bool:
        return "parentRunId" not in run

    work = Bulk("retry", "retried", ("failed", "aborted"), act, admits)
    return work.run(backend, selection, Terminal(), dry_run=dry_run, yes=yes)


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
    backend: Backend,
    run_id: str,
    input: str | None,
    turn: int | None,
    agent: str | None,
    model: str | None,
    watch: bool,
) -> int | None:
    """Start a new run with the messages of a run that has ended, up to the end of a turn, and then INPUT.

    Without INPUT the model goes on from there. Over HTTP it is yours, with --direct or --app its owner's.

    \b
    agentkit runs fork ID --turn 2 "Take the train instead"
    """
    return _started(backend, _fork(backend, run_id, input, turn, agent, model), watch)


@runs.command("delete")
@_bulk_options
@click.option("--force", is_flag=True, help="Abort what has not ended first.")
@server_options
def delete(backend: Backend, selection: Selection, dry_run: bool, yes: bool, force: bool) -> int:
    """Delete runs that have ended, each with the runs of its sub-agents.

    \b
    agentkit runs delete ID
    agentkit runs delete --owner ann --force --dry-run
    """

    def act(run_id: str) -> Outcome:
        backend.delete(run_id, force=force)
        return Outcome("deleted")

    work = Bulk("delete", "deleted", (*(_LIVE if force else ()), *_ENDED), act)
    return work.run(backend, selection, Terminal(), dry_run=dry_run, yes=yes)


@runs.command("extend")
@click.argument("run_id", metavar="ID")
@click.option("--decision-id", metavar="ID", help="The item; may be left out where only one expires.")
@click.option("--by", required=True, type=float, metavar="SECONDS", help="Seconds to add to the item's expiry.")
@server_options
def extend(backend: Backend, run_id: str, decision_id: str | None, by: float) -> None:
    """Move the expiry of a pending item.

    \b
    agentkit runs extend ID --by 3600
    """
    print_status(answering.extend(backend, run_id, decision_id, by))


@runs.command("resume")
@click.argument("run_id", metavar="ID")
@answer_options
@click.option("--tool-call-id", metavar="ID", help="The item, where several are pending.")
@click.option("--decision-id", metavar="ID", help="The item, where several are pending.")
@server_options
def resume(
    backend: Backend,
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
    print_status(answering.resume(backend, run_id, answer, Terminal(), tool_call_id, decision_id))


def _started(backend: Backend, run: dict[str, Any], watch: bool) -> int | None:
    """Print the run that was started, and watch it where that is wanted; the exit status of that."""
    print_status(run)
    return answering.watch(backend, run, Terminal()) if watch else None


def _retry(backend: Backend, run_id: str, model: str | None, key: str | None = None) -> Json:
    """Start a run that goes on from another's last whole turn, with that one's metadata, and return it."""
    return backend.start(from_run=run_id, model=model, metadata=_metadata_of(backend, run_id), idempotency_key=key)


def _fork(
    backend: Backend, run_id: str, input: str | None, turn: int | None, agent: str | None, model: str | None
) -> Json:
    """Start a run that begins with another's messages up to the end of `turn`, with its metadata, and return it."""
    metadata = _metadata_of(backend, run_id)
    return backend.start(agent, input, from_run=run_id, turn=turn, model=model, metadata=metadata)


def _metadata_of(backend: Backend, run_id: str) -> Json | None:
    """Return a run's metadata, which its tools may need; the server takes over nothing but messages."""
    return backend.get(run_id)["metadata"] or None
