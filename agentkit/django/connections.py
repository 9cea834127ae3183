"""When the connections that Django holds for a thread are given back: around steps, and before what lasts for hours.

Never within a transaction: there the thread is a test's, whose transaction is to be there for all that the test does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

from agentkit.hooks import StepInfo

__all__ = ["around_step", "release_connections"]


@contextmanager
def around_step(_step: StepInfo) -> Iterator[None]:
    """Do around each step what Django does around each request: `AgentKit(…, around_step=around_step)`.

    Connections that were lost, or are older than CONN_MAX_AGE, are closed before and after it, as by Django's
    `close_old_connections`, but for those within a transaction.
    """
    _close_old_connections()
    try:
        yield
    finally:
        _close_old_connections()


def release_connections() -> None:
    """Close this thread's connections to the databases; Django opens one again where it is needed."""
    for connection in _free_connections():
        connection.close()


def _close_old_connections() -> None:
    for connection in _free_connections():
        connection.close_if_unusable_or_obsolete()


def _free_connections() -> list[Any]:
    return [connection for connection in connections.all(initialized_only=True) if not connection.in_atomic_block]
