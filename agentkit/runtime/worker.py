"""What this process is as a worker: its name, and what its heartbeat says of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from importlib.metadata import version

from agentkit.core.ids import now_ms
from agentkit.core.record import SCHEMA_VERSION
from agentkit.core.workers import MAX_QUEUES, Worker

__all__ = ["this_worker"]


def this_worker(node: str = "", pool: str = "", concurrency: int = 0, queues: Sequence[str] = ()) -> Worker:
    """Describe the worker that this process is, or forks the processes of; see `Worker`."""
    host, pid = socket.gethostname(), os.getpid()
    return Worker(
        name=f"{host}:{pid}",
        node=node,
        host=host,
        pid=pid,
        version=version("agentkit-celery"),
        schema_version=SCHEMA_VERSION,
        pool=pool,
        concurrency=concurrency,
        queues=tuple(queues)[:MAX_QUEUES],
        started_at=now_ms(),
    )
