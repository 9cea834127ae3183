"""What a worker says of itself with its heartbeat, for whoever operates an installation."""

from __future__ import annotations

import msgspec

__all__ = ["MAX_QUEUES", "Worker"]

MAX_QUEUES = 50
"""How many of its queues a worker names."""


class Worker(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A worker as its last heartbeat had it. Versions may say more or less: unknown fields are passed over.

    `name`: host and process id. `node`: Celery's name of it. `version`: of agentkit. `schema_version`: of the records
    that it writes. `queues`: those that it consumes, `MAX_QUEUES` at the most. `started_at`: ms since the Unix epoch.
    `clock_ms`: by how much its machine's clock is ahead of the store's.
    """

    name: str
    node: str = ""
    host: str = ""
    pid: int = 0
    version: str = ""
    schema_version: int = 0
    pool: str = ""
    concurrency: int = 0
    queues: tuple[str, ...] = ()
    started_at: int = 0
    clock_ms: int = 0
