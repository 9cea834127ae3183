"""`agentkit export` and `agentkit import`: the runs of a store into a file, and out of it into a store.

Both work on the store itself. An export has everything in it that was stored, so that its file is as confidential as
the store: nobody but its owner may read it. It appears under its name when it is whole.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import click

from agentkit.cli.backend import Direct
from agentkit.cli.bulk import Progress
from agentkit.cli.filters import Wanted
from agentkit.cli.text import plain
from agentkit.codec import key_fingerprint
from agentkit.core.words import counted
from agentkit.errors import ConfigurationError, RunNotFoundError
from agentkit.runtime.backup import Export
from agentkit.runtime.restore import Import

__all__ = ["export_runs", "import_runs"]

STANDARD = "-"


def export_runs(backend: Direct, file: str, run_ids: Sequence[str], wanted: Wanted) -> int:
    """Write runs into a file, or to the standard output; the exit status. Without ids and filters, all there is.

    Raises click.UsageError for both, RunNotFoundError, and ConfigurationError for a file that cannot be written.
    """
    if run_ids and wanted:
        raise click.UsageError("give --run, or options that select runs, not both")
    ids: Sequence[str] | None = list(run_ids) or None
    for run_id, found in zip(run_ids, backend.kit.store.loads(run_ids) if run_ids else (), strict=True):
        if found is None:
            raise RunNotFoundError(f"there is no run {run_id}")
    if wanted:
        ids = [run["id"] for run in backend.runs(**wanted)][::-1]

    def write(out: BinaryIO) -> Export:
        export = Export(
            backend.kit.store, out, version("agentkit-celery"), _keys(backend), _say, Progress("exported").at
        )
        export.write(ids)
        return export

    if file == STANDARD:
        done = write(sys.stdout.buffer)
        sys.stdout.buffer.flush()
    else:
        done = _whole_or_not_at_all(Path(file), write)
    parts = [f"{counted(done.written, 'run', 'runs')} exported"]
    parts += [f"{done.unread:,} of them as they are stored, for they cannot be read here"] if done.unread else []
    parts += [f"{done.failed:,} failed"] if done.failed else []
    click.echo("; ".join(parts), err=True)
    return 1 if done.failed else 0


def _whole_or_not_at_all(path: Path, write: Callable[[BinaryIO], Export]) -> Export:
    try:
        number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # for its owner alone
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
    try:
        with open(number, "wb") as out:
            done = write(out)
            out.flush()
            os.fsync(out.fileno())
        os.replace(name, path)
    except BaseException as error:
        with suppress(FileNotFoundError):
            os.unlink(name)
        if isinstance(error, OSError):
            raise ConfigurationError(f"{path} could not be written: {error.strerror}") from error
        raise
    return done


def import_runs(backend: Direct, file: str, *, skip_existing: bool, dry_run: bool) -> int:
    """Put the runs of a file, or of the standard input, into the store; the exit status.

    Raises ImportRefusedError where runs are there already, and ConfigurationError for a file that cannot be read.
    """
    work = Import(
        backend.kit.store,
        _keys(backend),
        skip_existing=skip_existing,
        dry_run=dry_run,
        say=_say,
        progress=Progress("read").at,
    )
    if file == STANDARD:
        work.read(sys.stdin.buffer)
    else:
        with _opened(Path(file)) as lines:
            work.read(lines)
    parts = [f"{counted(work.imported, 'run', 'runs')} {'would be imported' if dry_run else 'imported'}"]
    parts += [f"{work.there:,} had been imported before" if work.there else ""]
    parts += [f"{work.skipped:,} left out, which are in the store or were deleted from it" if work.skipped else ""]
    parts += [f"{work.expired:,} left out, whose time is over" if work.expired else ""]
    parts += [f"{work.failed:,} failed" if work.failed else ""]
    click.echo("; ".join(filter(None, parts)), err=True)
    return 1 if work.failed else 0


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error


def _keys(backend: Direct) -> list[str]:
    return [key_fingerprint(key) for key in backend.kit.settings.encryption_keys]


def _say(line: str) -> None:
    click.echo(f"agentkit: {plain(line)}", err=True)
