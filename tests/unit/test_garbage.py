"""A step's objects go with the step. What refers to itself in a circle would stay until Python looks for such."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator

import pytest

from agentkit import tool
from agentkit.core.messages import AssistantMessage, ToolResultMessage
from agentkit.core.record import RunRecord, RunState
from agentkit.runtime.event_buffer import EventBuffer
from agentkit.runtime.leases import Held
from agentkit.runtime.reading import AnswerReader
from agentkit.runtime.step_context import StepContext
from agentkit.store.protocol import Claim
from tests.apps import App
from tests.turns import call

OF_STEPS = (
    AnswerReader,
    AssistantMessage,
    Claim,
    EventBuffer,
    Held,
    RunRecord,
    RunState,
    StepContext,
    ToolResultMessage,
)
"""Threads of tests before may leave other things at any time."""


@pytest.fixture
def garbage() -> Iterator[list[object]]:
    """What is collected from here on, in place of being freed."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@tool
def look_up(order_id: str) -> str:
    """Look an order up."""
    return f"order {order_id}: paid"


@tool
async def look_further(order_id: str) -> str:
    """Look an order up, and wait."""
    return f"order {order_id}: paid twice"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of what tests before have left
def test_a_run_leaves_nothing_for_the_garbage_collector(garbage: list[object]) -> None:
    turns = [[call("look_up", order_id="A"), call("look_further", order_id="B")], [call("look_up", order_id="C")]]
    app = App(*turns, "Paid, and paid twice.", tools=[look_up, look_further])
    app.run()  # what a first run makes once
    gc.collect()
    garbage.clear()
    app.check(app.run())
    gc.collect()
    assert not Counter(type(each).__qualname__ for each in garbage if isinstance(each, OF_STEPS))
