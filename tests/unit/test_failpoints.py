"""Fault points: off they are not there at all, on they count."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from agentkit.runtime import failpoints
from agentkit.store.memory import MemoryStore


def test_where_all_is_off_a_guarded_thing_is_the_thing_itself() -> None:
    store = MemoryStore()
    assert failpoints.with_failpoints(store) is store
    failpoints.failpoint("before anything")


def test_the_process_dies_at_the_armed_passing_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "fault"
    deaths: list[tuple[int, int]] = []
    monkeypatch.setattr(failpoints, "_FILE", str(file))
    monkeypatch.setattr(os, "kill", lambda *death: deaths.append(death))
    store = failpoints.with_failpoints(MemoryStore())
    store.workers()
    file.write_text("after workers 2")
    store.workers()
    assert (file.read_text(), deaths) == ("after workers 1", [])
    store.backlog()
    assert store.workers() == []
    assert (file.read_text(), deaths) == ("", [(os.getpid(), signal.SIGKILL)])
    store.workers()
    assert len(deaths) == 1
