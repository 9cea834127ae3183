"""The same done to many runs: found first, shown, confirmed, and done one after the other, whatever becomes of one.

What was interrupted goes on when the same command is given again: runs that have been ended or deleted are found no
more, and a retry has an idempotency key that is its run's, so that none is started twice.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import click

from agentkit.cli.backend import Backend, place_of
from agentkit.cli.filters import Wanted
from agentkit.cli.showing import print_runs
from agentkit.cli.terminal import Terminal
from agentkit.cli.text import inline, one_line
from agentkit.client import ServerUnreachableError
from agentkit.core.messages import Json
from agentkit.core.words import counted
from agentkit.errors import AgentKitError, StoreUnavailableError

__all__ = ["Bulk", "Outcome", "Progress", "Selection"]

SHOWN = 10
"""How many of the runs are shown before anything is done."""
_PATIENCE_SECONDS = 60.0
"""How long work that has begun waits for a server or a store that is away, as in a deploy."""
_PROGRESS_SECONDS = 5.0
_TAKEN_BACK = ("run_not_found", "run_not_terminal")
"""What the server says of a run that somebody else has deleted, or brought on, since it was found."""


class Progress:
    """Says on the error output now and then how far long work is."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._next = time.monotonic() + _PROGRESS_SECONDS

    def at(self, count: int, of: int | None = None) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _PROGRESS_SECONDS
            click.echo(f"{self._what} {count:,}{'' if of is None else f' of {of:,}'} runs", err=True)


@dataclass(frozen=True)
class Selection:
    """Which runs: those of these ids, or all that have what is `wanted`; `all` has to be said where that is nothing."""

    ids: Sequence[str]
    wanted: Wanted
    all: bool = False

    def __post_init__(self) -> None:
        if self.ids and (self.wanted or self.all):
            raise click.UsageError("give ids, or options that select runs, not both")
        if not (self.ids or self.wanted or self.all):
            raise click.UsageError("say which runs: ids, options that select some, or --all")


@dataclass(frozen=True)
class Outcome:
    """What became of a run. `text` is printed beside its id. `left_out`: nothing could be done, or had to be."""

    text: str
    left_out: bool = False


@dataclass(frozen=True)
class Bulk:
    """Something to be done to each of many runs.

    `verb` and `done`, as in "abort" and "aborted". `statuses`: those of the runs that it can be done to. `act`: does it
    to one run. `admits`: which of those that are found it is for.
    """

    verb: str
    done: str
    statuses: Sequence[str]
    act: Callable[[str], Outcome]
    admits: Callable[[Json], bool] = field(default=lambda run: True)

    def run(
        self, backend: Backend, selection: Selection, terminal: Terminal, *, dry_run: bool = False, yes: bool = False
    ) -> int:
        """Find the runs, show them, ask, and do it to each; the exit status.

        Ids are taken at their word: nothing is asked. Raises click.UsageError where nobody is there to be asked.
        """
        if selection.ids and not dry_run:
            return self._do(backend, selection.ids, terminal, named=True)
        found = self._find(backend, selection, terminal)
        if not found:
            terminal.line("No runs.")
            return 0
        count = counted(len(found), "run", "runs")
        click.echo(f"{count} of {inline(place_of(backend))} would be {self.done}.", err=True)
        if dry_run:
            return 0
        if not yes and not self._confirmed(len(found)):
            click.echo("Nothing was done.", err=True)
            return 1
        return self._do(backend, found, terminal, named=False)

    def _find(self, backend: Backend, selection: Selection, terminal: Terminal) -> list[str]:
        """Find the runs and show the newest of them; their ids, the oldest first: a parent before its sub-agents'."""
        progress = Progress("found")
        ids: dict[str, None] = {}
        shown: list[Json] = []
        for run in self._matching(backend, selection):
            backend.retry_seconds = _PATIENCE_SECONDS
            if run["id"] in ids or not self.admits(run):
                continue
            ids[run["id"]] = None
            if len(shown) < SHOWN:
                shown.append(run)
            progress.at(len(ids))
        if shown:
            print_runs(terminal, shown)
        if len(ids) > len(shown):
            terminal.line(terminal.dim(f"… and {len(ids) - len(shown):,} more"))
        return sorted(ids)

    def _matching(self, backend: Backend, selection: Selection) -> Iterable[Json]:
        for run_id in selection.ids:
            run = backend.get(run_id)
            if run["status"] in self.statuses:
                yield run
        if selection.ids:
            return
        wanted = dict(selection.wanted)
        status = wanted.pop("status", None)
        if status is not None and status not in self.statuses:
            raise click.UsageError(
                f"a run that is {status} cannot be {self.done}: --status may be {', '.join(self.statuses)}"
            )
        for each in self.statuses if status is None else [status]:
            yield from backend.runs(status=each, **wanted)

    def _confirmed(self, count: int) -> bool:
        if not sys.stdin.isatty():
            raise click.UsageError(f"nothing was done: nobody is at a terminal to confirm it; add --yes to {self.verb}")
        return click.confirm(f"{self.verb.capitalize()} {counted(count, 'run', 'runs')}?", err=True)

    def _do(self, backend: Backend, ids: Sequence[str], terminal: Terminal, *, named: bool) -> int:
        """Do it to each run, and say how many it were in the end. `named`: somebody has named each of them."""
        progress = Progress(self.done)
        done = left_out = failed = 0
        try:
            for run_id in ids:
                try:
                    outcome = self.act(run_id)
                except (ServerUnreachableError, StoreUnavailableError):
                    raise  # nothing that comes after could be done
                except AgentKitError as error:
                    if error.code in _TAKEN_BACK and not named:
                        left_out += 1
                    else:
                        failed += 1
                    click.echo(f"agentkit: {inline(run_id)}: {one_line(error.message, 1000)}", err=True)
                    continue
                finally:
                    backend.retry_seconds = _PATIENCE_SECONDS  # the first call has shown whether anything answers
                left_out += outcome.left_out
                done += not outcome.left_out
                terminal.line(f"{inline(run_id)}  {outcome.text}")
                progress.at(done + left_out + failed, len(ids))
        finally:
            count = done + left_out + failed
            if len(ids) > 1 or not named:
                self._sum_up(done, left_out, failed, len(ids) - count)
        return 1 if failed else 0

    def _sum_up(self, done: int, left_out: int, failed: int, left: int) -> None:
        parts = [f"{counted(done, 'run', 'runs')} {self.done}"]
        parts += [f"{left_out:,} left out, which had ended or gone"] if left_out else []
        parts += [f"{failed:,} failed"] if failed else []
        parts += [f"{left:,} not come to: the same command goes on with them"] if left else []
        click.echo("; ".join(parts), err=True)
