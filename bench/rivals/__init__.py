"""What agentkit is measured against, a file per rival.

LangGraph, its Postgres and the readers of a vendor's wire have a virtual environment of their own, so that none of what
they need is ever installed beside agentkit. A module named `*_worker` runs there and knows nothing of agentkit; the
others drive it from the benchmark's process.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["INSTALL", "PYTHON", "missing"]

_VENV = Path("build", "rivals")
PYTHON = _VENV / "bin" / "python"
INSTALL = f"python3 -m venv {_VENV} && {_VENV}/bin/pip install -r bench/rivals/requirements.txt"


def missing() -> str:
    """Say in one line how to install the rivals; an empty text where they are there."""
    if PYTHON.exists():
        return ""
    return f"LangGraph is not measured: `make bench-rivals` installs it into {_VENV}, as does `{INSTALL}`"
