"""Log records as lines of JSON, with the ids of the step that they were logged in."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from agentkit import JsonFormatter, tool
from agentkit.core import json_log
from tests.apps import App
from tests.turns import call

log = logging.getLogger("shop")


@pytest.fixture
def lines() -> Iterator[Any]:
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in output.getvalue().splitlines()]
    root.removeHandler(handler)
    root.setLevel(level)


def test_a_record_is_one_line_with_its_fields_and_its_exception(lines: Any) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("it %s", "failed", extra={"order": "A-1", "nothing": None, "odd": object})
    [line] = lines()
    assert (line["level"], line["logger"], line["message"], line["order"]) == ("ERROR", "shop", "it failed", "A-1")
    assert "nothing" not in line
    assert "ValueError: two\nlines" in line["exception"]
    assert line["time"].endswith("+00:00")


def test_what_a_tool_logs_carries_the_ids_of_its_step_and_nothing_does_afterwards(lines: Any) -> None:
    @tool
    def look() -> str:
        """Look."""
        log.info("looking")
        return ""

    @tool
    async def look_later() -> str:
        """Look."""
        log.info("looking")
        return ""

    app = App([call("look"), call("look_later")], "ok", tools=[look, look_later])
    run_id = app.run()
    log.info("after")
    *inside, after = [line for line in lines() if line["logger"] == "shop"]
    assert sorted((line["run_id"], line["step"], line["tool"], line["turn"]) for line in inside) == [
        (run_id, 2, "look", 1),
        (run_id, 3, "look_later", 1),
    ]
    assert "run_id" not in after


def test_a_web_process_of_ours_logs_json_by_the_handlers_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    root, server = logging.RootLogger(logging.WARNING), logging.getLoggerClass()("gunicorn.error")
    server.addHandler(logging.StreamHandler())
    named = {"": root, "gunicorn.error": server}
    monkeypatch.setattr(
        json_log.logging, "getLogger", lambda name="": named.get(name) or logging.getLoggerClass()(name)
    )
    json_log.log_json()
    assert root.level == logging.INFO
    handlers = [*root.handlers, *server.handlers]
    assert [type(handler.formatter) for handler in handlers] == [JsonFormatter, JsonFormatter]
