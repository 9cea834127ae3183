"""Logs once, when a process starts, what the store is and what in its settings loses runs; `/readyz` tells of that."""

from __future__ import annotations

import logging
import threading

from agentkit.core.backoff import Backoff
from agentkit.errors import StoreError, StoreUnavailableError
from agentkit.store.protocol import Store

__all__ = ["warn_of_store"]

log = logging.getLogger(__name__)

_BACKOFF = Backoff(base=2.0, cap=10.0)


def warn_of_store(store: Store) -> threading.Thread:
    """Check the store in a thread of its own, so that one that is away stops no process from starting."""
    thread = threading.Thread(target=_warn, args=(store,), name="agentkit-warnings", daemon=True)
    thread.start()
    return thread


def _warn(store: Store) -> None:
    attempt = 0
    while True:
        attempt += 1
        try:
            health = store.check()
        except StoreUnavailableError as error:
            if attempt == 1:
                log.warning("the store is not there yet, and is checked again: %s", error)
        except StoreError as error:
            log.error("%s", error)
            return
        else:
            if health.version:
                log.info("the store is %s", health.version)
            if health.warnings:
                log.warning("the store may lose runs: %s", "; ".join(health.warnings))
            return
        threading.Event().wait(_BACKOFF.delay(attempt))
