"""docs/tutorial/first-refund.md, applied to the application that it begins with and executed line by line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.acceptance.program import Program
from tests.acceptance.stack import ROOT, environment
from tests.servers import ValkeyServer, free_port
from tests.waiting import wait_until

PAGE = (ROOT / "docs" / "tutorial" / "first-refund.md").read_text()
FILES = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
DIFFS = re.findall(r"^```diff\n--- (\w+\.py)\n (.*?)\n(\+.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def store() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


def test_the_page_counts_its_lines_right() -> None:
    written = [line for line in FILES["agents.py"].splitlines() if line.strip()]
    added = sum(addition.count("\n") + 1 for _, _, addition in DIFFS)
    commands = sum(len(block.splitlines()) for block in COMMANDS)
    counts = f"**one new file of {len(written)} lines, {added} lines in yours, {commands} commands.**"
    assert counts in PAGE.replace("\n", " "), counts


@pytest.mark.timeout(90)
def test_an_application_that_is_there_gets_to_its_first_approved_refund(tmp_path: Path, store: ValkeyServer) -> None:
    port = free_port()

    def here(text: str) -> str:
        """The text for this machine: its store, broker and port."""
        return text.replace("redis://localhost:6379/1", store.database(1)).replace("8000", str(port))

    for name, text in FILES.items():
        (tmp_path / name).write_text(here(text))
    for name, place, addition in DIFFS:
        text = (tmp_path / name).read_text()
        assert text.count(here(place) + "\n") == 1, f"{name} has no one line {place!r}"
        added = re.sub(r"^\+", "", addition, flags=re.MULTILINE)
        (tmp_path / name).write_text(text.replace(here(place) + "\n", f"{here(place)}\n{added}\n"))

    install, worker_command, web_command, ask, approve = COMMANDS
    assert distribution(install.split()[-1]).metadata["Name"] == install.split()[-1]
    env = environment(
        AGENTKIT_REDIS_URL=store.url,
        PYTHONPATH=str(ROOT),
        HOME=str(tmp_path),
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    )
    worker = Program(here(worker_command), "[tasks]", env, tmp_path)
    web = Program(here(web_command), "Running on", env, tmp_path)
    ledger = tmp_path / "paid_back.txt"

    def shell(commands: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", here(commands) + '\necho "\nRUN=${RUN}"'],
            cwd=tmp_path,
            env=env,
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.stdout

    began = time.monotonic()
    try:
        worker.launch()
        web.start()
        env["RUN"] = shell(ask).rpartition("RUN=")[2].strip()
        show = ask.splitlines()[-1]
        wait_until(lambda: '"status":"paused"' in shell(show), timeout=30, what="the run to pause", every=0.1)
        assert not ledger.exists()
        shell(approve)
        wait_until(lambda: '"status":"completed"' in shell(show), timeout=30, what="the run to end", every=0.1)
        assert ledger.read_text() == "A-1001 4999\n"
        assert time.monotonic() - began < 60
    finally:
        web.kill()
        worker.kill()
