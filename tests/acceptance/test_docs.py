"""What the documentation shows is executed here, as it stands there."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.acceptance.stack import ROOT, environment
from tests.servers import free_port
from tests.waiting import wait_until

SHOWN_URL = "http://127.0.0.1:8000"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_example_of_decisions_does_what_its_page_says(tmp_path: Path) -> None:
    application, *people = BLOCK.findall((ROOT / "docs" / "decisions.md").read_text())[:6]
    (tmp_path / "shop.py").write_text(application)
    assert len(people) == 5
    assert SHOWN_URL in people[0]
    port = free_port()
    log = tmp_path / "dev.log"
    words = [sys.executable, "-c", "from agentkit.cli import main; main()", "dev", "--app", "shop:kit"]
    with log.open("wb") as out:
        dev = subprocess.Popen(
            [*words, "--port", str(port), "--data", str(tmp_path / "data")],
            cwd=tmp_path,
            env=environment(HOME=str(tmp_path)),
            stdout=out,
            stderr=out,
        )
    try:
        wait_until(lambda: "Ctrl-C stops everything" in log.read_text(), timeout=30, what="agentkit dev's banner")
        names: dict[str, Any] = {}
        for block in people:
            exec(block.replace(SHOWN_URL, f"http://127.0.0.1:{port}"), names)
        names["client"].close()
    finally:
        dev.send_signal(signal.SIGINT)
        dev.wait(20)
