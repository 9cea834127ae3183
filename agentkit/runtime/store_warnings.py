"""Logs once, when a process starts, which of the store's settings lose runs; `/readyz` shows them at any time."""

from __future__ import annotations

import logging
import threading

from agentkit.errors import StoreError, StoreUnavailableError
from agentkit.store.protocol import Store

__all__ = ["warn_of_store"]

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 5.0


def warn_of_store(store: Store) -> threading.Thread:
    """Check the store in a thread of its own, so that one that is away stops no process from starting."""
    thread = threading.Thread(target=_warn, args=(store,), name="agentkit-warnings", daemon=True)
    thread.start()
    return thread


def _warn(store: Store) -> None:
    is_reported = False
    while True:
        try:
            warnings = store.check().warnings
        except StoreUnavailableError as error:
            if not is_reported:
                is_reported = True
                log.warning("the store is not there yet: %s", error)
        except StoreError as error:
            log.error("%s", error)
            return
        else:
            if warnings:
                log.warning("the store may lose runs: %s", "; ".join(warnings))
            return
        threading.Event().wait(_AGAIN_SECONDS)
