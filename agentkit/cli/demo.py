"""`agentkit demo`: one run of the example, whose worker and web server are killed while it waits for a person.

The stack is a temporary one, with data and ports of its own. The supervisor needs the main thread; the script of the
demo runs in another, which uses the web server over HTTP like any client.
"""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from agentkit.cli.stack import Plan, Stack, data_folder, free_port
from agentkit.cli.supervisor import StoppedError, Supervisor
from agentkit.cli.terminal import RunView, Terminal
from agentkit.client import Client
from agentkit.core.events import Event, fold
from agentkit.core.struct import Json, check, to_json
from agentkit.errors import AgentKitError

__all__ = ["run_demo"]

_INPUT = "Please refund order A-1001, it arrived broken."
_RETRY_SECONDS = 30.0


class _DemoFailedError(AgentKitError):
    """The demo did not end as it should."""

    code = "demo_failed"


def run_demo(terminal: Terminal) -> int:
    """Play the demo and return the exit status. It removes everything that it made."""
    started_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="agentkit-demo-") as folder:
        data = Path(folder)
        plan = Plan("agentkit.cli.example:kit", "127.0.0.1", free_port(), data, None, _environment(data))
        terminal.line(terminal.style("A run that survives", bold=True))
        terminal.line(terminal.dim("starting a temporary store, worker and web server …"))
        show_note: Callable[[str], None] = lambda line: terminal.line(terminal.dim(f"  {line}"))  # noqa: E731
        with data_folder(data) as lock, Supervisor(lambda _program, _line: None, show_note) as supervisor:
            script = _Script(plan, supervisor, terminal)
            try:
                Stack(plan, supervisor, lock).start()
                script.start()
                supervisor.wait(lambda: not script.is_alive(), math.inf, every=0.5)
            except StoppedError:
                return 130
        if script.failure is not None:
            raise script.failure
    seconds = time.monotonic() - started_at
    terminal.line(terminal.dim(f"The demo took {seconds:.0f} seconds and has removed all its files."))
    return 0


def _environment(data: Path) -> dict[str, str]:
    """Return the environment without the user's agentkit settings and without keys of models that cost money."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("AGENTKIT_", "OPENAI_"))}
    return {**env, "AGENTKIT_EXAMPLE_DB": str(data / "example.db"), "AGENTKIT_LEASE_SECONDS": "3"}


class _Script(threading.Thread):
    """The script of the demo. `failure`: the error that ended it early, None where it succeeded."""

    def __init__(self, plan: Plan, supervisor: Supervisor, terminal: Terminal) -> None:
        super().__init__(name="demo", daemon=True)
        self._plan = plan
        self._supervisor = supervisor
        self._terminal = terminal
        self._view = RunView(terminal)
        self._events: list[Json] = []
        self.failure: AgentKitError | None = None

    def run(self) -> None:
        try:
            with Client(self._plan.url, retry_seconds=_RETRY_SECONDS) as client:
                self._play(client)
        except AgentKitError as error:
            self.failure = error
        except Exception as error:
            self.failure = _DemoFailedError(f"the demo failed: {type(error).__name__}: {error}")
        finally:
            self._supervisor.wake()

    def _play(self, client: Client) -> None:
        self._heading("1", "A run starts, looks the order up, and needs a decision before it pays money back.")
        run_id = client.start("support", _INPUT)["id"]
        item = self._watch(client, run_id)["pending"][0]
        fields = ", ".join(f"{name}: {field['type']}" for name, field in item["schema"]["properties"].items())
        self._terminal.line(self._terminal.dim(f"  {item['toolName']} {item['input']}; decide {{{fields}}}"))

        self._heading("2", "While it waits, worker and web server are killed without warning.")
        self._kill(client, "worker", "web")

        self._heading("3", "A person decides, through the new web server; a new worker executes it.")
        decision = {"approved": True, "note": "broken on arrival"}
        seq = self._view.last_seq
        self._terminal.line(self._terminal.dim(f"  POST /runs/{run_id}/resume, then the events after seq {seq}"))
        client.resume(run_id, decision=decision, decision_id=item["decisionId"])
        run = self._watch(client, run_id)

        self._heading("4", "The result.")
        self._check(run)

    def _watch(self, client: Client, run_id: str) -> dict[str, Any]:
        for event in client.events(run_id, self._view.last_seq, until_pause=True):
            self._events.append(event)
            self._view.feed(event)
        return client.get(run_id)

    def _kill(self, client: Client, *names: str) -> None:
        before = self._supervisor.pids()
        for name in names:
            self._terminal.line(self._terminal.style(f"  kill -9 {before[name]}  ({name})", fg="red"))
        for name in names:
            os.kill(before[name], signal.SIGKILL)
        deadline = time.monotonic() + _RETRY_SECONDS
        while not self._is_restarted(client, before, names):
            if time.monotonic() > deadline:
                raise _DemoFailedError(
                    f"worker and web server were not ready again within {_RETRY_SECONDS:g} seconds: {client.ready()}"
                )
            time.sleep(0.1)

    def _is_restarted(self, client: Client, before: dict[str, int], names: tuple[str, ...]) -> bool:
        current = self._supervisor.pids()
        return all(current.get(name, before[name]) != before[name] for name in names) and client.ready() is True

    def _check(self, run: dict[str, Any]) -> None:
        with closing(sqlite3.connect(self._plan.data / "example.db")) as ledger:
            refunds = ledger.execute("SELECT order_id, cents FROM refunds").fetchall()
        seqs = [event["seq"] for event in self._events]
        folded = to_json(fold(check(self._events, list[Event])))
        facts = [
            (run["status"] == "completed", f"the run is {run['status']}, under the id that it began with"),
            (seqs == list(range(1, len(seqs) + 1)), f"{len(seqs)} events were read, with no gap and none twice"),
            (
                folded == run["messages"],
                f"folded, they are the run's {len(run['messages'])} messages",
            ),
            (refunds == [("A-1001", 4999)], f"the ledger has {len(refunds)} refund, of $49.99 for A-1001"),
        ]
        for is_true, text in facts:
            mark = self._terminal.style("✓", fg="green") if is_true else self._terminal.style("✗", fg="red")
            self._terminal.line(f"  {mark} {text}")
        self._terminal.line()
        if not all(is_true for is_true, _ in facts):
            raise _DemoFailedError("the demo did not end as it should: see the lines marked ✗ above")

    def _heading(self, number: str, title: str) -> None:
        self._terminal.line()
        self._terminal.line(self._terminal.style(f"{number}  {title}", bold=True))
        self._terminal.line()
