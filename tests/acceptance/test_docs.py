"""What the documentation shows is executed here, as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.stack import ROOT, environment
from tests.fences import blocks
from tests.servers import free_port
from tests.waiting import wait_until

AGENTKIT = (sys.executable, "-c", "from agentkit.cli import main; main()")
SHOWN_URL = "http://127.0.0.1:8000"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@contextmanager
def dev(folder: Path, app: str) -> Iterator[tuple[int, str]]:
    """`agentkit dev` in a folder: the port of its web server, and its banner."""
    port = free_port()
    log = folder / "dev.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*AGENTKIT, "dev", "--app", app, "--port", str(port), "--data", str(folder / "data")],
            cwd=folder,
            env=environment(HOME=str(folder)),
            stdout=out,
            stderr=out,
        )
    try:
        wait_until(lambda: "Ctrl-C stops everything" in log.read_text(), timeout=60, what="agentkit dev's banner")
        yield port, log.read_text()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def test_the_example_of_decisions_does_what_its_page_says(tmp_path: Path) -> None:
    application, *people = BLOCK.findall((ROOT / "docs" / "how-to" / "approvals.md").read_text())[:6]
    (tmp_path / "shop.py").write_text(application)
    assert len(people) == 5
    assert SHOWN_URL in people[0]
    with dev(tmp_path, "shop:kit") as (port, _):
        names: dict[str, Any] = {}
        for block in people:
            exec(block.replace(SHOWN_URL, f"http://127.0.0.1:{port}"), names)
        names["client"].close()


@pytest.mark.timeout(300)
def test_the_ten_minutes_of_the_tutorial_are_as_the_page_says(tmp_path: Path) -> None:
    page = blocks("docs/tutorial/ten-minutes.md")
    [application] = [block.text for block in page if block.language == "python"]
    shown = [line for block in page if block.language == "sh" for line in block.text.splitlines()]
    *install, start, ask, refund, waiting, answer, completed, pack, kill, running, why = shown
    assert [line.split()[-1] for line in install] == [".venv", ".venv/bin/activate", "'agentkit-celery[dev]'"]
    assert start == "agentkit dev --app desk:kit"
    (tmp_path / "desk.py").write_text(application)
    with dev(tmp_path, "desk:kit") as (port, banner):

        def command(line: str) -> subprocess.Popen[str]:
            return subprocess.Popen(
                [*AGENTKIT, *shlex.split(line)[1:]],
                cwd=tmp_path,
                env=environment(HOME=str(tmp_path), AGENTKIT_URL=f"http://127.0.0.1:{port}"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )

        def done(line: str, status: int = 0) -> str:
            process = command(line)
            out, _ = process.communicate(timeout=60)
            assert process.returncode == status, out
            return out

        assert "It is done: a brass compass, 49.99 EUR." in done(ask)
        done(refund, status=3)
        [item] = re.findall(r"^(\S{36}) .*refund", done(waiting), re.MULTILINE)
        done(answer.replace("ITEM", item))
        assert "no item" in done(answer.replace("ITEM", item), status=1)
        wait_until(lambda: done(completed).count("completed") == 2, timeout=60, what="the refund")

        packing = command(pack)
        assert packing.stdout is not None
        seen = ""
        while "● pack" not in seen:
            more = packing.stdout.read(1)
            assert more, seen
            seen += more
        [worker] = re.findall(r"worker .* pid (\d+)", banner)
        assert kill == "kill -9 WORKER"
        os.kill(int(worker), signal.SIGKILL)
        [run_id] = re.findall(r"^(\S{36}) ", done(running), re.MULTILINE)
        assert "lease ends in" in done(why.replace("ID", run_id))
        rest, _ = packing.communicate(timeout=150)
        assert packing.returncode == 0, seen + rest
        assert "It is done: packed A-1." in rest
