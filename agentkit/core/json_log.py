"""Log records as lines of JSON, with the ids of the step in which they were logged.

`AGENTKIT_LOG=json` has the workers and web processes that agentkit's own commands start use it. Elsewhere logging is
the application's, which names `agentkit.JsonFormatter` in its configuration.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Protocol

__all__ = ["JsonFormatter", "log_json", "use_json", "working_on"]


class _Step(Protocol):
    def log_fields(self) -> Mapping[str, Any]:
        """Make the fields of a record about the step."""
        ...


working_on: ContextVar[_Step | None] = ContextVar("agentkit_working_on", default=None)
"""The step that is executed; what tools and hooks log carries its ids."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "data", "tags"}
_SERVERS = ("gunicorn.error", "gunicorn.access", "uvicorn", "uvicorn.access", "uvicorn.error", "werkzeug")


class JsonFormatter(logging.Formatter):
    """Writes a record as one line: `time`, `level`, `logger`, `message`, its extra fields, and `exception`.

    Fields that are None are left out. Within a step, the line has its `run_id`, `step`, `agent`, `attempt` and so on.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        step = working_on.get()
        fields = {} if step is None else dict(step.log_fields())
        fields.update((name, value) for name, value in vars(record).items() if name not in _STANDARD)
        line.update((name, value) for name, value in fields.items() if value is not None and name not in line)
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, default=str)


def use_json(handlers: Iterable[logging.Handler]) -> None:
    """Have handlers write JSON."""
    for handler in handlers:
        handler.setFormatter(JsonFormatter())


def log_json() -> None:
    """Have this process, a web server, log JSON from INFO on, by the handlers that there are, else to stderr."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler(sys.stderr))
    if root.level == logging.WARNING:  # as it is where nobody has configured it
        root.setLevel(logging.INFO)
    for logger in [root, *map(logging.getLogger, _SERVERS)]:
        use_json(logger.handlers)
