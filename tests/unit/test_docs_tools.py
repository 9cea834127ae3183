"""The code of docs/how-to/tools.md runs, and does what the page says."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agentkit import ToolContext

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "tools.md"
CTX = ToolContext(run_id="r", tool_call_id="c", idempotency_key="k")


@pytest.fixture
def desk() -> Iterator[Any]:
    module = ModuleType("desk_of_the_page")
    sys.modules[module.__name__] = module
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    exec(compile(code, PAGE, "exec"), vars(module))
    yield module
    del sys.modules[module.__name__]


def test_the_first_tool_is_described_checked_and_gets_values(desk: Any) -> None:
    order = desk.order
    assert order.description == ("Order goods for the customer.\n\nOnly after the customer has agreed to the price.")
    described = {name: schema.get("description") for name, schema in order.parameters["properties"].items()}
    assert described == {
        "lines": "What to order.",
        "deliver_on": "The day on which the customer is at home.",
        "speed": None,
        "note": "What the driver should know.",
    }
    sent = {"lines": [{"sku": "AB-1", "count": 2}, {"sku": "AB-2"}], "deliver_on": "2026-01-02"}
    assert order.input_problems(sent) == []
    assert order.call(sent, CTX) == "3 pieces on 02 January, normal"
    bad = {"lines": [{"sku": "x", "count": 0}], "deliver_on": str(date(2026, 1, 2)), "note": "x" * 201}
    assert {problem["path"] for problem in order.input_problems(bad)} == {"/lines/0/sku", "/lines/0/count", "/note"}


def test_the_other_tools_do_what_the_page_says(desk: Any) -> None:
    assert desk.tag.call({"tags": "new,urgent"}, CTX) == "new and urgent"
    [refund] = desk.agent.tools
    assert refund.call({"cents": 5001}, CTX) == "that is too much"
    assert desk.rebuild.call({"catalogue": "spring"}, CTX) == "built spring"
