"""What really happened, written by the processes themselves: one JSON line per event in a file that they share.

A line is appended by one write, so it is there, whole, however its writer ends.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["Ledger"]


class Ledger:
    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def add(self, **entry: Any) -> None:
        """Write an entry, with the pid of its writer."""
        line = json.dumps({**entry, "pid": os.getpid()}) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def entries(self, **like: Any) -> list[dict[str, Any]]:
        """The entries that have these values, oldest first."""
        if not self.path.exists():
            return []
        entries = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [entry for entry in entries if like.items() <= entry.items()]
