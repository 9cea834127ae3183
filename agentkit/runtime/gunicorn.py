"""Whether this process is one of gunicorn's, and is being stopped; and how to end it. It needs no gunicorn."""

from __future__ import annotations

import importlib
import signal
import sys
from typing import Any

__all__ = ["end_gunicorn", "gunicorn_worker", "stopping"]

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


def end_gunicorn(text: str) -> None:
    """End a gunicorn that is being started, with one line in place of a traceback; return outside gunicorn."""
    if gunicorn_worker() is not None:
        # Its worker prints the line, and its master starts no other.
        raise importlib.import_module("gunicorn.errors").AppImportError(text)
    if "gunicorn.arbiter" in sys.modules and "gunicorn" in sys.argv[0]:  # preloaded, in the master
        raise SystemExit(text)
