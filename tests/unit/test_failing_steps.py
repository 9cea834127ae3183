"""What fails in a step ends the run with its cause, or is tried again; only a killed process is a poison step."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from agentkit import AgentKit, ConfigurationError, ProviderError, tool
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import Usage
from agentkit.providers.protocol import Finish, ModelRequest, Part, TextDelta
from tests.apps import App
from tests.turns import call

REFERENCE = r" \(reference [0-9a-f]{8}\)"


class Odd:
    """A third party's provider that raises, or answers what is none."""

    name = api = "odd"
    model = "m"

    def __init__(self, failure: Any) -> None:
        self.failure = failure
        self.calls = 0

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        self.calls += 1
        if isinstance(self.failure, Exception):
            raise self.failure
        yield TextDelta("well")
        yield from self.failure


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (ConfigurationError("set SECRET_SETTING"), "ConfigurationError" + REFERENCE),
        (TypeError("unsupported operand"), "TypeError" + REFERENCE),
        (KeyError("usage"), "KeyError" + REFERENCE),
        (RecursionError(), "RecursionError" + REFERENCE),
        (ProviderError("overloaded", internal="of host h"), "overloaded"),
        ([Finish("stop", None)], ".+" + REFERENCE),  # type: ignore[arg-type]
        ([Finish("stop", {"input": 5})], ".+" + REFERENCE),  # type: ignore[arg-type]
        ([Finish("stop", Usage(1, 1, 0, 0, 2, None))], ".+" + REFERENCE),  # type: ignore[arg-type]
        ([object()], ".+"),
        ([None, Finish("stop", Usage.of())], ".+"),
        ([], "the response ended before it was complete"),
    ],
    ids=lambda value: re.sub(r"0x[0-9a-f]+", "", repr(value))[:40],
)
def test_whatever_a_provider_does_wrong_ends_the_run_with_its_cause_after_one_call(failure: Any, message: str) -> None:
    model = Odd(failure)
    app = App(model=model)
    run = app.check(app.run())
    assert (run.status, run.error["code"], model.calls) == ("failed", "provider_error", 1)
    assert re.fullmatch(message, run.error["message"]), run.error["message"]
    assert "SECRET_SETTING" not in str(app.log(run.id))


def test_redact_has_the_last_word_on_every_text_that_leaves() -> None:
    @tool
    def look() -> str:
        """Look."""
        raise ValueError

    app = App([call("look")], "ok", tools=[look])
    app.kit = AgentKit(
        [app.agent], store=app.store, queue=app.queue, redact=lambda text: text.replace("ValueError", "trouble")
    )
    run = app.check(app.run())
    [result] = [message for message in run.messages if message["role"] == "toolResult"]
    assert re.fullmatch("trouble" + REFERENCE, result["content"][0]["text"])


@pytest.mark.parametrize("redact", [lambda text: 1 / 0, lambda text: text[99]])
def test_where_redact_fails_nothing_of_the_text_leaves(redact: Any) -> None:
    app = App(model=Odd(ProviderError("the vendor said a secret")))
    app.kit = AgentKit([app.agent], store=app.store, queue=app.queue, redact=redact)
    run = app.check(app.run())
    assert run.error == {"code": "provider_error", "message": "(left out)"}


class Broken:
    """An unexpected fault of the step itself: what it commits cannot be written, as often as it is told."""

    def __init__(self, app: App, times: int) -> None:
        self.left = times
        self._commit = app.store.commit
        app.store.commit = self

    def __call__(self, change: Any, version: int, lease: Any = None, *args: Any, **options: Any) -> Any:
        if lease is not None and self.left:
            self.left -= 1
            raise TypeError("an object that is no JSON")
        return self._commit(change, version, lease, *args, **options)


def test_a_step_that_fails_by_an_error_of_its_own_is_given_back_and_tried_again() -> None:
    app = App("hello")
    run_id = app.start()
    Broken(app, 1)
    with pytest.raises(TypeError):
        app.kit.execute(run_id, 1)
    state = app.store.load(run_id)
    assert (state.live, state.claimed) == ({}, frozenset({1}))
    app.kit.execute(run_id, 1)
    assert app.check(run_id).status == "completed"


def test_after_the_last_attempt_the_run_ends_with_the_cause() -> None:
    app = App("hello", max_attempts=3)
    run_id = app.start()
    Broken(app, 3)
    for _ in range(3):
        with pytest.raises(TypeError):
            app.kit.execute(run_id, 1)
    run = app.check(run_id)
    assert (run.status, run.error["code"]) == ("failed", "step_failed")
    assert re.fullmatch("step 1 failed 3 times: TypeError" + REFERENCE, run.error["message"])
