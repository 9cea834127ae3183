"""The turns that may be named, and the messages up to them, against what the log of a random run says of both."""

from __future__ import annotations

import random
from typing import Any

import pytest

from agentkit import InvalidRequestError, ScriptedModel
from agentkit.core.messages import Json
from agentkit.errors import ProviderError
from agentkit.store.memory import MemoryStore
from tests.apps import App
from tests.tools import YES, look, refund
from tests.turns import call


def random_run(dice: random.Random, app: App, **start: Any) -> Any:
    """Carry a run to its end, with messages sent into it, answers, failures and perhaps an abort on the way."""
    run_id = app.kit.start(**start).id
    for _ in range(200):
        run = app.kit.get(run_id)
        if run.ended:
            break
        act = dice.random()
        if act < 0.06:
            app.kit.abort(run_id)
            app.queue.enqueued.clear()
        elif act < 0.2:
            app.kit.send(run_id, f"message {act:.3f}", "steer" if act < 0.13 else "followUp")
        elif run.pending:
            app.kit.resume(run_id, YES, decision_id=run.pending[0]["decisionId"])
        elif app.queue.enqueued:
            app.queue.enqueued.sort(key=lambda _: dice.random())
            app.execute_next()
    return app.check(run_id)


def whole_turns(log: list[Json]) -> list[list[Json]]:
    """The messages that there were at the end of each whole turn, as the log says it."""
    messages: list[Json] = list(log[0]["messages"])
    found = []
    for event in log:
        if event["type"] == "message_end":
            messages.append(event["message"])
        elif event["type"] == "turn_end":
            answer = event["message"]
            calls = [block for block in answer["content"] if block["type"] == "toolCall"]
            if answer["stopReason"] not in ("error", "aborted") and len(calls) == len(event["toolResults"]):
                found.append(list(messages))
    return found


def beginning(log: list[Json]) -> list[Json]:
    """The messages before the first turn."""
    messages: list[Json] = list(log[0]["messages"])
    for event in log:
        if event["type"] == "turn_start":
            break
        if event["type"] == "message_end":
            messages.append(event["message"])
    return messages


@pytest.mark.parametrize("seed", range(40))
def test_each_turn_of_a_random_run_can_be_forked_as_its_log_has_it(seed: int) -> None:
    dice = random.Random(seed)

    def answer(messages: list[Any]) -> Any:
        if dice.random() < 0.12:
            raise ProviderError("overloaded", status=529)
        if dice.random() < 0.35:
            return "well"
        return [dice.choice([call("look", what="x"), call("refund", cents=1)]) for _ in range(dice.randint(1, 4))]

    app = App(model=ScriptedModel(answer), tools=[look, refund], store=MemoryStore())
    source = random_run(dice, app, agent="a", input="go")
    for generation in range(3):
        log = app.log(source.id)
        turns = whole_turns(log)
        for turn in range(len(turns) + 3):
            fork: Any = {"input": "more", "from_run": source.id, "turn": turn}
            if 0 < turn <= len(turns):
                run_id = app.kit.start(**fork).id
                assert app.log(run_id)[0]["messages"] == turns[turn - 1], f"turn {turn} of generation {generation}"
            elif turn == len(turns) == 0:
                run_id = app.kit.start(**fork).id
                assert app.log(run_id)[0]["messages"] == beginning(log)
            else:
                with pytest.raises(InvalidRequestError):
                    app.kit.start(**fork)
        app.queue.enqueued.clear()
        last = turns[-1] if turns else beginning(log)
        due = last + [message for message in source.messages[len(last) :] if message["role"] == "user"]
        if due[-1]["role"] == "assistant":
            with pytest.raises(InvalidRequestError):
                app.kit.start(from_run=source.id)
        else:
            assert app.log(app.kit.start(from_run=source.id).id)[0]["messages"] == due
            app.queue.enqueued.clear()
        source = random_run(dice, app, input="more", from_run=source.id)
        assert source.origin["turn"] == len(turns)
        assert app.log(source.id)[0]["messages"] == last
