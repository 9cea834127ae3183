"""Whether this process is one of gunicorn's, and is being stopped. It imports nothing of gunicorn."""

from __future__ import annotations

import signal
from typing import Any

__all__ = ["gunicorn_worker", "stopping"]

_worker: Any = None


def gunicorn_worker() -> Any:
    """Return the gunicorn worker object of this process, or None outside gunicorn.

    It is found through its SIGTERM handler, a bound method. A handler of ours would be replaced where the application
    is preloaded, gunicorn's own hooks would have to be configured, and neither is called for `max_requests`.
    """
    global _worker
    if _worker is None:
        owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        bases = {base.__module__.partition(".")[0] for base in type(owner).__mro__}
        if "gunicorn" in bases and hasattr(owner, "alive"):  # the arbiter of a preloaded application has no `alive`
            _worker = owner
    return _worker


def stopping() -> bool:
    """Return whether gunicorn is stopping this process: streams should end, and their clients reconnect."""
    worker = gunicorn_worker()
    return worker is not None and not worker.alive
