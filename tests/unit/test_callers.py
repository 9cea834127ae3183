"""Who did what to a run stands in its own log, and in that of the process which did it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentkit import AgentKit, InvalidRequestError
from tests.apps import App, Silent, in_background

TWO_LINES = "ada\n2026-11-28 run x was deleted"
"""A principal whose name would be a second line of a log."""


def user_ends(app: App, run_id: str) -> list[tuple[Any, Any]]:
    """List the content and the sender of each user message in the run's log."""
    ends = [event for event in app.log(run_id) if event["type"] == "message_end"]
    return [(end["message"]["content"], end.get("by")) for end in ends if end["message"]["role"] == "user"]


def logged(caplog: pytest.LogCaptureFixture, run_id: str) -> list[str]:
    """List what was logged of a run at INFO by what callers do."""
    records = [record for record in caplog.records if record.name == "agentkit.runtime.commands"]
    assert all(record.levelname == "INFO" and run_id in record.getMessage() for record in records)
    return [record.getMessage() for record in records]


@pytest.fixture(autouse=True)
def _logged_at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="agentkit.runtime.commands")


def test_each_message_of_the_log_names_who_sent_it() -> None:
    model = Silent()
    app = App(model=model)
    run_id = app.start()
    app.kit.send(run_id, "before the first call", "steer", by="ada")
    thread = in_background(app.execute_next)
    assert model.reached.wait(5)
    app.kit.send(run_id, "while it streams", "steer", by="bob")
    app.kit.send(run_id, "at the end", by="cyd")
    app.kit.send(run_id, "by nobody who was named")
    assert app.kit.get(run_id).queued == [
        {"message": "while it streams", "when": "steer", "by": "bob"},
        {"message": "at the end", "when": "followUp", "by": "cyd"},
        {"message": "by nobody who was named", "when": "followUp"},
    ]
    app.kit.stop(at_once=True)
    thread.join(5)
    app.another_worker().work()
    app.check(run_id)
    assert user_ends(app, run_id) == [
        ("go", None),
        ("before the first call", "ada"),
        ("while it streams", "bob"),
        ("at the end", "cyd"),
        ("by nobody who was named", None),
    ]


def test_a_message_is_logged_with_its_run_and_its_sender_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    app = App("hello")
    run_id = app.start()
    app.kit.send(run_id, "secret", "steer", by=TWO_LINES, idempotency_key="k")
    app.kit.send(run_id, "secret", "steer", by=TWO_LINES, idempotency_key="k")  # changes nothing
    app.kit.send(run_id, "secret")
    assert logged(caplog, run_id) == [
        f"run {run_id}: a message (steer) was sent by 'ada\\n2026-11-28 run x was deleted'",
        f"run {run_id}: a message (followUp) was sent",
    ]


@pytest.mark.parametrize("by", [7, ["ada"], "\ud800"])
@pytest.mark.parametrize("act", [lambda kit, *args, **named: kit.send(*args, "hi", **named), AgentKit.abort])
def test_a_caller_that_is_no_text_is_refused(act: Callable[..., Any], by: Any) -> None:
    app = App("hello")
    run_id = app.start()
    with pytest.raises(InvalidRequestError, match="by"):
        act(app.kit, run_id, by=by)
    assert (app.kit.get(run_id).status, app.store.load(run_id).record.abort) == ("queued", None)


def ending(app: App, run_id: str) -> tuple[Any, ...]:
    last = app.log(run_id)[-1]
    assert (last["type"], last["status"]) == ("agent_end", "aborted")
    return last["error"]["message"], last.get("by")


def test_an_abort_of_a_run_that_nobody_holds_names_who_aborted(caplog: pytest.LogCaptureFixture) -> None:
    app = App("hello")
    run_id = app.start()
    app.kit.abort(run_id, "enough", by="ada")
    app.kit.abort(run_id, "again", by="bob")  # changes nothing
    app.check(run_id)
    assert ending(app, run_id) == ("enough", "ada")
    assert logged(caplog, run_id) == [f"run {run_id}: aborted by 'ada'"]


def test_an_abort_that_the_holder_of_a_step_carries_out_names_who_asked_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = Silent()
    app = App(model=model)
    run_id = app.start()
    thread = in_background(app.execute_next)
    assert model.reached.wait(5)
    app.kit.abort(run_id, "enough", by="ada")
    app.kit.abort(run_id, "again", by="bob")
    thread.join(5)
    app.check(run_id)
    assert ending(app, run_id) == ("enough", "ada")
    assert logged(caplog, run_id) == [
        f"run {run_id}: its abort was asked for by 'ada', and the holder of its step ends it"
    ]


def test_an_abort_by_nobody_who_was_named_names_nobody() -> None:
    app = App("hello")
    run_id = app.start()
    app.kit.abort(run_id)
    assert ending(app, run_id) == ("the run was aborted", None)
    assert "by" not in app.log(run_id)[-1]


def test_a_run_that_ends_by_itself_names_nobody() -> None:
    app = App("hello")
    run_id = app.run()
    assert "by" not in app.log(run_id)[-1]
