"""The commands `agentkit decisions …` and `agentkit audit …`: what waits for people, and what they have decided."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

from agentkit.cli import answering, showing
from agentkit.cli import audit as audit_work
from agentkit.cli.backend import Backend
from agentkit.cli.options import answer_options, print_status, read_answer, server_options
from agentkit.cli.terminal import Terminal
from agentkit.cli.text import inline
from agentkit.core.audit import BrokenChainError
from agentkit.core.words import counted
from agentkit.settings import Settings

__all__ = ["audit", "decisions"]


@click.group()
def decisions() -> None:
    """List what waits for people in all runs, and answer it."""


@decisions.command("ls")
@click.option("--state", type=click.Choice(["pending", "resolved"]), default="pending", show_default=True)
@click.option("--kind", type=click.Choice(["decision", "client_execute", "in_doubt"]))
@click.option("--agent", metavar="NAME")
@click.option("--tool", metavar="NAME")
@click.option("--owner", metavar="PRINCIPAL", help="Of the runs.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1))
@server_options
def list_decisions(
    backend: Backend,
    state: str,
    kind: str | None,
    agent: str | None,
    tool: str | None,
    owner: str | None,
    limit: int,
) -> None:
    """List pending items, the oldest first, or with `--state resolved` answers, the newest first."""
    filters = {"kind": kind, "agent": agent, "tool": tool, "owner": owner}
    showing.list_decisions(backend, Terminal(), state, filters, limit)


@decisions.command("answer")
@click.argument("decision_id", metavar="ID")
@answer_options
@server_options
def answer_decision(
    backend: Backend,
    decision_id: str,
    decision: str | None,
    reject: str | None,
    result: str | None,
    input: str | None,
    remember: bool,
) -> None:
    """Answer the pending item ID of whichever run; JSON is the decision.

    Without an answer it is asked for, field by field.

    \b
    agentkit decisions answer ID
    agentkit decisions answer ID '{"approved": true}'
    agentkit decisions answer ID --reject "too much"
    """
    asks = all(value is None for value in (decision, reject, result))
    if asks and (input is not None or remember):
        raise click.UsageError("--input and --remember need the decision beside them, in JSON")
    answer = None if asks else read_answer(decision, reject, result, input, remember)
    print_status(answering.answer_decision(backend, decision_id, answer, Terminal()))


@click.group()
def audit() -> None:
    """Export the record of answers, and check that nothing in it was changed."""


@audit.command("export")
@click.option("--since", metavar="TIME", help="A date or time of ISO 8601, in UTC: only from the first entry then on.")
def export(since: str | None) -> None:
    """Write the record of answers, a line of JSON each, to the standard output.

    It is read from the store that AGENTKIT_REDIS_URL names, with the codec of AGENTKIT_APP or AGENTKIT_ENCRYPTION_KEYS.

    \b
    agentkit audit export > answers.jsonl
    """
    start = None if since is None else audit_work.read_time(since)
    store = audit_work.open_store(Settings.from_env())
    try:
        audit_work.export(store, start, sys.stdout, _progress)
    except BrokenChainError as error:
        _fail(error)
    finally:
        store.close()


@audit.command("verify")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
def verify(file: Path) -> None:
    """Check that no entry of an export was changed, removed, added or moved. `-`: the standard input.

    It prints the hash of the last entry: kept elsewhere, it shows later that nothing up to there has changed.

    \b
    Exit status: 0 the chain holds, 1 it does not.
    """
    try:
        chain = audit_work.verify(file, _progress)
    except BrokenChainError as error:
        _fail(error)
    count = chain.last - chain.first + 1
    Terminal().line(
        f"the chain holds: {counted(count, 'entry', 'entries')}, {chain.first} to {chain.last}; "
        f"the hash of the last is {chain.head}"
    )
    if chain.first > 1:
        Terminal().line(f"it begins after entry {chain.first - 1}, whose hash was {chain.anchor}")


def _progress(text: str) -> None:
    click.echo(text, err=True)


def _fail(error: BrokenChainError) -> NoReturn:
    click.echo(f"agentkit: the chain does not hold: {inline(str(error))}", err=True)
    sys.exit(1)
