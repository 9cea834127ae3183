"""Drives LangGraph with Postgres: worker processes of bench/rivals/langgraph_worker.py, told what to execute by pipes.

LangGraph has no queue, so the pipes stand for one: the cheapest there is, without durability, in LangGraph's favour.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import subprocess
import threading
from typing import Any

from bench.rivals import PYTHON
from bench.rivals.postgres import PostgresServer

__all__ = ["LangGraph"]


class LangGraph:
    """Worker processes on one Postgres; a run stays with none of them: what resumes may be another process."""

    def __init__(self, kind: str, postgres: PostgresServer, processes: int = 2, **env: str) -> None:
        self._postgres = postgres
        self._events: dict[int, queue.Queue[dict[str, Any]]] = {0: queue.Queue()}
        self._numbers = itertools.count(1)
        self._turns = itertools.count()
        command = [str(PYTHON), "-m", "bench.rivals.langgraph_worker", kind, postgres.url]
        self._processes = []
        for _ in range(processes):  # one after the other: the first makes the tables
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **env}
            )
            self._processes.append(process)
            threading.Thread(target=self._read, args=(process,), daemon=True).start()
            self._events[0].get(timeout=60)

    def __enter__(self) -> LangGraph:
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self._processes:
            process.terminate()
            process.wait(30)

    def pids(self) -> list[int]:
        return [*(process.pid for process in self._processes), *self._postgres.pids()]

    def start(self) -> int:
        """Start a run; its number. `wait` tells of it."""
        number = next(self._numbers)
        self._events[number] = queue.Queue()
        self._send(number, "start")
        return number

    def resume(self, number: int) -> None:
        self._send(number, "resume")

    def wait(self, number: int, event: str, timeout: float = 120) -> dict[str, Any]:
        """Wait until a run has this event, "paused", "token" or "done"."""
        while True:
            came = self._events[number].get(timeout=timeout)
            if came["event"] == event:
                return came

    def _send(self, number: int, act: str) -> None:
        process = self._processes[next(self._turns) % len(self._processes)]
        assert process.stdin is not None
        process.stdin.write(json.dumps({"id": number, "act": act}) + "\n")
        process.stdin.flush()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            came = json.loads(line)
            self._events[came["id"]].put(came)
