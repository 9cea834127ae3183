"""Under gevent, a request is answered in a greenlet of its own, so that a stream's stays small.

A greenlet keeps the memory that its deepest call ever touched until it ends. Routing and answering a request goes
far deeper than sending a stream does, which then lasts for hours: done in another greenlet, that memory is free
again when the response is there. It is a tenth of what a watcher costs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

from agentkit.server.streams import gunicorn_worker

__all__ = ["answered_apart"]

Application = Callable[[Any, Any], Iterable[bytes]]


def answered_apart(application: Application) -> Application:
    """The WSGI application, called in another greenlet where gunicorn's gevent worker serves it."""

    def call(environ: Any, start_response: Any) -> Iterable[bytes]:
        # A WebSocket lives inside its call: two greenlets for it would be one too many.
        if type(gunicorn_worker()).__module__ != "gunicorn.workers.ggevent" or "HTTP_UPGRADE" in environ:
            return application(environ, start_response)
        outcome: list[Any] = []

        def answer() -> None:
            try:
                outcome.append(application(environ, start_response))
            except Exception as error:  # raised where gunicorn sees it, and not reported as a greenlet's death
                outcome.append(error)

        importlib.import_module("gevent").spawn(answer).join()
        [result] = outcome
        if isinstance(result, Exception):
            raise result
        answered: Iterable[bytes] = result
        return answered

    return call
