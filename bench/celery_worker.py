"""A Celery worker of the benchmarks: one process of threads, without what costs and nothing here needs."""

from __future__ import annotations

import os
import subprocess
import sys

__all__ = ["CeleryWorker"]


class CeleryWorker:
    def __init__(self, app: str, threads: int = 32, **env: str) -> None:
        command = [sys.executable, "-m", "celery", "-A", app, "worker", "-P", "threads", "-c", str(threads)]
        self._process = subprocess.Popen(
            [*command, "-l", "error", "--without-gossip", "--without-mingle"],
            env={**os.environ, "PYTHONWARNINGS": "ignore", **env},
            stdout=subprocess.DEVNULL,
        )

    def __enter__(self) -> CeleryWorker:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.wait(30)

    @property
    def pid(self) -> int:
        return self._process.pid
