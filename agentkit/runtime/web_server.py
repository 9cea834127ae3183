"""Which web server serves this process, gunicorn or uvicorn; whether it is stopping; and how to end it.

Neither is imported. Both are found through their SIGTERM handler, a bound method: a handler of ours would be replaced
where the application is loaded before the server, and neither offers a hook that is called for every kind of stop.
"""

from __future__ import annotations

import importlib
import signal
import sys
from typing import Any

__all__ = ["end_server", "gunicorn_worker", "is_served", "stopping", "uvicorn_server"]

_UVICORN_STARTUP_FAILURE = 3
"""The exit status after which `uvicorn --workers` starts no other process in place of this one."""

_worker: Any = None
_server: Any = None


def gunicorn_worker() -> Any:
    """Return the gunicorn worker object of this process, or None outside gunicorn."""
    global _worker
    if _worker is None:
        owner = _signal_handler("gunicorn")
        if hasattr(owner, "alive"):  # the arbiter of a preloaded application has no `alive`
            _worker = owner
    return _worker


def uvicorn_server() -> Any:
    """Return the uvicorn server object of this process, or None outside uvicorn."""
    global _server
    if _server is None and "uvicorn.server" in sys.modules:
        owner = _signal_handler("uvicorn")
        if hasattr(owner, "should_exit") and hasattr(owner, "server_state"):  # the supervisor of several serves nothing
            _server = owner
    return _server


def _signal_handler(package: str) -> Any:
    """Return the object whose method handles SIGTERM, where its class is one of `package`."""
    owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return owner if package in {base.__module__.partition(".")[0] for base in type(owner).__mro__} else None


def is_served() -> bool:
    """Return whether this process is one of gunicorn's or uvicorn's, whose stop can be noticed."""
    return gunicorn_worker() is not None or uvicorn_server() is not None


def stopping() -> bool:
    """Return whether the web server is stopping this process: streams should end, and their clients reconnect."""
    server = uvicorn_server()
    if server is not None:  # one that has served as many requests as it may closes its sockets, and is not to exit
        return bool(server.should_exit) or (server.started and not any(each.is_serving() for each in server.servers))
    worker = gunicorn_worker()
    return worker is not None and not worker.alive


def end_server(text: str) -> None:
    """End a gunicorn or uvicorn that is being started, with one line in place of a traceback; return outside both."""
    if gunicorn_worker() is not None:
        # Its worker prints the line, and its master starts no other.
        raise importlib.import_module("gunicorn.errors").AppImportError(text)
    if "gunicorn.arbiter" in sys.modules and "gunicorn" in sys.argv[0]:  # preloaded, in the master
        raise SystemExit(text)
    if uvicorn_server() is not None:
        sys.stderr.write(f"{text}\n")
        raise SystemExit(_UVICORN_STARTUP_FAILURE)
