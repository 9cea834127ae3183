from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil


def test_the_demo_ends_well_and_leaves_nothing_behind(tmp_path: Path) -> None:
    # Settings of the person who plays it must not matter.
    env = {**os.environ, "TMPDIR": str(tmp_path), "AGENTKIT_REDIS_URL": "redis://127.0.0.1:1/0", "OPENAI_API_KEY": "x"}
    words = [sys.executable, "-c", "from agentkit.cli import main; main(['demo'])"]
    done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=50)
    assert done.returncode == 0, done
    assert done.stdout.count("  ✓ ") == 4
    killed = re.findall(r"kill -9 (\d+)", done.stdout)
    again = re.findall(r"restarted, pid (\d+)", done.stdout)
    assert len(killed) == len(again) == 2
    assert not any(psutil.pid_exists(int(pid)) for pid in again)
    assert list(tmp_path.iterdir()) == []
