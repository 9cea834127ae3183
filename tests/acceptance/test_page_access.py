"""The page for everybody: axe finds nothing, the keyboard is enough, and 200 % zoom hides nothing. A real Chromium."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.acceptance.chat_page import Tab
from tests.acceptance.model import script
from tests.acceptance.stack import Stack
from tests.axe import violations
from tests.turns import call

DESKTOP = {"viewport": {"width": 1280, "height": 800}}
LOOKS: dict[str, dict[str, Any]] = {
    "desktop": DESKTOP,
    "dark": {**DESKTOP, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 640}, "has_touch": True},
    "200 %": {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2},
}
PIXEL = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
TEXT = """# Report

### Deeper than it should be

- [x] done
- [ ] to do

| Day | Cents |
| --- | --- |
| 2026-11-29 | 1,234,567.00 |

```python
def answer() -> int:
    return 42
```

A note.[^1] **Bold**, *slanted* and [a link](https://example.com).

> Said by somebody.

[^1]: The note itself.
"""


@pytest.fixture
def told(stack: Stack) -> str:
    """The id of a run with everything in it that a thread may show."""
    asked = {
        "role": "assistant",
        "content": [{"type": "toolCall", "id": "c", "name": "look_up", "arguments": {"a": 1}}],
    }
    messages = [
        {"role": "user", "content": [{"type": "image", "data": PIXEL, "mimeType": "image/gif"}]},
        asked,
        {"role": "toolResult", "toolCallId": "c", "toolName": "look_up", "content": [{"type": "text", "text": "{}"}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Well."}, {"type": "text", "text": TEXT}]},
        {"role": "user", "content": script([call("look_up", order_id="A-1")], TEXT)},
    ]
    response = stack.web_b.http.post("/runs", json={"agent": "support", "messages": messages})
    assert response.status_code == 202, response.text
    run_id: str = response.json()["id"]
    stack.wait_for(run_id, "completed")
    return run_id


def fits(tab: Tab) -> bool:
    """Whether nothing has to be scrolled sideways."""
    return bool(tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize("look", list(LOOKS))
def test_axe_finds_nothing_in_a_chat(open_tab: Callable[..., Tab], told: str, look: str) -> None:
    tab = open_tab("/", **LOOKS[look])
    expect(tab.page.get_by_label("Message")).to_be_visible()
    assert violations(tab.page) == []
    tab.page.goto(f"{tab.page.url}?run={told}")
    expect(tab.page.locator(".hljs-keyword").first).to_be_visible()
    for details in tab.page.locator("details").all():
        details.evaluate("element => { element.open = true }")
    tab.press("Search in this chat")
    tab.page.get_by_role("searchbox").fill("note")
    assert violations(tab.page) == []
    assert fits(tab)
    tab.page.get_by_role("button", name="Edit this message").first.click()
    assert violations(tab.page) == []


@pytest.mark.parametrize("look", list(LOOKS))
@pytest.mark.parametrize("name", ["tall", "way", "yes_or_no"])
def test_axe_finds_nothing_in_a_decision(open_tab: Callable[..., Tab], stack: Stack, look: str, name: str) -> None:
    run_id = stack.web_a.begin("clerk", script([call(name)], "So be it."))
    stack.wait_for(run_id, "paused")
    tab = open_tab(f"/?run={run_id}", **LOOKS[look])
    expect(tab.decision.get_by_role("button").last).to_be_visible()
    assert violations(tab.page) == []
    if name != "yes_or_no":
        tab.press("Submit")
        expect(tab.decision.get_by_role("alert")).not_to_be_empty()
    tab.press("Reject …")
    assert violations(tab.page) == []
    assert fits(tab)
    stack.web_a.abort(run_id)


@pytest.mark.parametrize("look", list(LOOKS))
@pytest.mark.parametrize("view", ["waiting", "runs", "runs/{}", "system"])
def test_axe_finds_nothing_in_another_view(open_tab: Callable[..., Tab], told: str, look: str, view: str) -> None:
    tab = open_tab(f"/#/{view.format(told)}", **LOOKS[look])
    expect(tab.page.get_by_role("heading", level=1)).to_be_visible()
    tab.page.wait_for_load_state("networkidle")
    assert violations(tab.page) == []
    assert fits(tab)


def test_the_keyboard_is_enough(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab("/#/system")
    keyboard = tab.page.keyboard
    expect(tab.page.get_by_role("heading", level=1, name="System")).to_be_visible()
    keyboard.press("Tab")
    expect(tab.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    expect(tab.page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    keyboard.press("Tab")  # New chat
    keyboard.press("Tab")
    expect(tab.page.get_by_role("link", name="Waiting")).to_be_focused()
    keyboard.press("Enter")
    expect(tab.page.get_by_role("heading", level=1, name="Waiting")).to_be_focused()
    tab.page.goto(tab.page.url.partition("#")[0])
    tab.page.get_by_label("Agent", exact=True).select_option("support")
    tab.page.get_by_label("Message").focus()
    keyboard.insert_text(script([call("refund", order_id="A-1", cents=500)], "It is done."))
    keyboard.press("Enter")
    expect(tab.decision.get_by_role("button", name="Approve")).to_be_visible()
    for _ in range(30):
        keyboard.press("Shift+Tab")
        if tab.decision.get_by_role("button", name="Approve").evaluate("e => e === document.activeElement"):
            break
    keyboard.press("Enter")
    tab.expect_answer("It is done.")
    expect(tab.page.get_by_label("Message")).to_be_focused()
