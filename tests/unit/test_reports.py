"""What a process reports of its steps and runs: once for each execution, with how it ended; and what its log says."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from agentkit import ProviderError, RetryPolicy, ToolError, tool
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import Usage
from agentkit.core.record import Change
from agentkit.providers.protocol import Finish, ModelRequest, Part, TextDelta
from agentkit.runtime.reports import Observer, StepReport
from tests.apps import App
from tests.turns import call


class Failing:
    """A model that fails `times` times, and answers then."""

    name = api = "failing"
    model = "m"

    def __init__(self, error: Exception, times: int = 1) -> None:
        self.error = error
        self.left = times

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        if self.left:
            self.left -= 1
            raise self.error
        yield TextDelta("fine")
        yield Finish("stop", Usage.of())


class Seen(Observer):
    def __init__(self, app: App) -> None:
        self.steps: list[StepReport] = []
        self.changes: list[tuple[str, bool]] = []
        app.kit._engine.observers.add(self)

    def step_ended(self, report: StepReport) -> None:
        self.steps.append(report)

    def changed(self, change: Change, *, in_step: bool) -> None:
        self.changes.append((change.record.status.value, in_step))

    @property
    def outcomes(self) -> list[str]:
        return [report.outcome for report in self.steps]


@tool
def add(a: int) -> str:
    """Add."""
    return str(a + 1)


@tool
def explode() -> str:
    """Explode."""
    raise ValueError("secret")


@tool
def refuse() -> str:
    """Refuse."""
    raise ToolError("there is no order A-1")


@tool(timeout=0.05)
async def slow() -> str:
    """Wait."""
    await asyncio.sleep(10)
    return ""


def test_each_step_is_reported_once_with_what_it_was() -> None:
    app = App([call("add", a=1)], "two", tools=[add])
    seen = Seen(app)
    run_id = app.run()
    assert [(s.number, s.kind, s.tool, s.attempt, s.turn, s.outcome) for s in seen.steps] == [
        (1, "model", None, 1, 1, "done"),
        (2, "tool", "add", 1, 1, "done"),
        (3, "model", None, 1, 2, "done"),
    ]
    first, second, last = seen.steps
    assert {s.run_id for s in seen.steps} == {run_id}
    assert first.model == "scripted:script"
    assert first.usage is not None
    assert first.usage.total_tokens > 0
    assert second.tool_call_id
    assert (first.status, last.status) == ("running", "completed")
    assert all(s.seconds >= 0 and s.wait_seconds >= 0 for s in seen.steps)
    assert seen.changes == [("queued", False), ("running", True), ("running", True), ("completed", True)]


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("explode", ValueError, r"ValueError \(reference .*\)"),
        ("refuse", ToolError, "there is no order A-1"),
        ("slow", None, "the tool 'slow' did not finish within 0.05 seconds .*"),
    ],
)
def test_a_tool_that_fails_is_an_error_of_its_step_alone(
    name: str, error: type[Exception] | None, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = App([call(name)], "ok", tools=[explode, refuse, slow])
    seen = Seen(app)
    run_id = app.run()
    assert app.check(run_id).status == "completed"
    assert seen.outcomes == ["done", "error", "done"]
    failed = seen.steps[1]
    assert error is None or isinstance(failed.exception, error)
    assert re.fullmatch(text, failed.error_text or "")
    [record] = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert fields(record) == {"run_id": run_id, "step": 2, "kind": "tool", "tool": name, "outcome": "error"}
    assert f"tool {name} failed" in record.getMessage()


def fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in ("run_id", "step", "kind", "tool", "outcome")}


def test_calls_side_by_side_are_reported_each() -> None:
    app = App([call("add", a=1), call("explode"), call("add", a=2)], "ok", tools=[add, explode])
    seen = Seen(app)
    app.run()
    assert sorted(seen.outcomes) == ["done", "done", "done", "done", "error"]


def test_a_failed_run_is_one_error_with_its_exception(caplog: pytest.LogCaptureFixture) -> None:
    app = App(model=Failing(ProviderError("overloaded", internal="of host h")))
    seen = Seen(app)
    run_id = app.run()
    [report] = seen.steps
    assert (report.outcome, report.error_code, report.error_text) == ("failed", "provider_error", "overloaded")
    assert [failed.error for failed in report.failed_calls] == ["ProviderError"]
    [record] = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert run_id in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ProviderError)


def test_what_is_retried_and_then_works_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    app = App(model=Failing(ProviderError("busy", retryable=True, status=529), times=1), retry=RetryPolicy(base=0.01))
    seen = Seen(app)
    app.run()
    assert [[f.status for f in s.failed_calls] for s in seen.steps] == [[529]]
    assert seen.outcomes == ["done"]
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


def test_an_attempt_that_crashes_is_a_warning_until_the_last(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(context: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("agentkit.runtime.steps.run_model_step", broken)
    app = App("hello", max_attempts=2)
    seen = Seen(app)
    run_id = app.start()
    for _ in range(2):
        with pytest.raises(KeyError):
            app.kit.execute(run_id, 1)
    assert seen.outcomes == ["crashed", "failed"]
    levels = [r.levelname for r in caplog.records if r.name == "agentkit.steps"]
    assert levels == ["WARNING", "ERROR"]


def test_a_run_that_fails_in_no_step_is_an_error_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    app = App("hello")
    run_id = app.start()
    app.kit.abort(run_id)
    [record] = [r for r in caplog.records if r.name == "agentkit.runs"]
    assert (record.levelname, record.status, record.code) == ("INFO", "aborted", "aborted")  # type: ignore[attr-defined]


def test_an_observer_that_fails_harms_no_run_and_no_other_observer(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Observer):
        def step_ended(self, report: StepReport) -> None:
            raise KeyError("a bug")

        def changed(self, change: Change, *, in_step: bool) -> None:
            raise KeyError("a bug")

    app = App("hello")
    app.kit._engine.observers.add(Broken())
    seen = Seen(app)
    run_id = app.run()
    assert app.check(run_id).status == "completed"
    assert seen.outcomes == ["done"]
    assert "an observer failed" in caplog.text


def test_no_line_holds_what_users_and_tools_wrote(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    app = App([call("add", a=4711)], "the answer is 4712", tools=[add])
    app.run()
    lines = [r.getMessage() + str(r.__dict__) for r in caplog.records if r.name.startswith("agentkit")]
    assert lines
    assert not [line for line in lines if "4711" in line or "4712" in line]
