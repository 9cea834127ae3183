"""What `agentkit dev` prints of how to go on."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from agentkit.cli.dev import this_program


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program `agentkit` of a virtual environment, called by its path from the folder above."""
    path = tmp_path / "the venv" / "bin" / "agentkit"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\necho it runs\n")
    path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["the venv/bin/agentkit", "dev"])
    return path


def test_a_program_that_is_not_on_path_is_called_by_its_own(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shlex.split(this_program()) == [str(script)]
    elsewhere = tmp_path.parent
    assert subprocess.check_output(this_program(), shell=True, cwd=elsewhere, text=True) == "it runs\n"


def test_a_program_that_is_on_path_is_called_by_its_name(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(script.parent))
    assert this_program() == "agentkit"


def test_what_was_not_started_as_agentkit_names_no_other_program(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["-c", "dev"])
    assert this_program() == "agentkit"
