"""Under gevent, a request is answered in a greenlet of its own, so that a stream's greenlet stays small.

A greenlet keeps the memory that its deepest call ever touched until it ends. Routing and answering a request goes
far deeper than sending a stream does, which then lasts for hours: done in another greenlet, that memory is free
again when the response is there. It is a tenth of what a watcher costs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

from agentkit.runtime.web_server import gunicorn_worker

__all__ = ["in_own_greenlet"]

Application = Callable[[Any, Any], Iterable[bytes]]


def in_own_greenlet(application: Application) -> Application:
    """Wrap a WSGI application: under gunicorn's gevent worker, each call runs in a greenlet of its own."""

    def call(environ: Any, start_response: Any) -> Iterable[bytes]:
        if type(gunicorn_worker()).__module__ != "gunicorn.workers.ggevent":
            return application(environ, start_response)
        outcome: list[Any] = []

        def answer() -> None:
            try:
                outcome.append(application(environ, start_response))
            except Exception as error:  # re-raised below for gunicorn; gevent would only report a failed greenlet
                outcome.append(error)

        importlib.import_module("gevent").spawn(answer).join()
        [result] = outcome
        if isinstance(result, Exception):
            raise result
        body: Iterable[bytes] = result
        return body

    return call
