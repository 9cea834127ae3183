"""A browser's own EventSource, which knows nothing of agentkit, on a run that has seen trouble."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.acceptance.model import script
from tests.acceptance.stack import Stack
from tests.browser import chromium
from tests.turns import call
from tests.waiting import wait_until

FOLLOW = """url => {
    window.events = [];
    window.opened = 0;
    window.source = new EventSource(url);
    source.onopen = () => { opened += 1 };
    source.onmessage = message => events.push({...JSON.parse(message.data), lastEventId: message.lastEventId});
}"""
CLOSED = 2


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as browser:
        yield browser.new_page()


def test_it_gets_every_event_once_and_stops_for_good_though_the_web_process_was_killed(
    stack: Stack, page: Page
) -> None:
    message = script([call("refund", order_id="A1", cents=5)], "It is done, and here is a longer answer.", delay=0.05)
    run_id = stack.web_a.begin("support", message)
    page.goto(f"http://127.0.0.1:{stack.web_a.port}/healthz")
    page.evaluate(FOLLOW, f"/runs/{run_id}/events")

    def seen() -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = page.evaluate("events")
        return events

    wait_until(lambda: any(event["type"] == "agent_pause" for event in seen()), what="the pause", every=0.05)
    stack.web_a.kill()
    stack.web_b.resume(run_id, decision={"approved": True})
    wait_until(lambda: page.evaluate("source.readyState") == 0, what="the browser to notice", every=0.05)
    stack.web_a.start()
    wait_until(lambda: page.evaluate("source.readyState") == CLOSED, timeout=20, what="the end", every=0.05)
    log = stack.checked(run_id)
    assert seen() == [{**event, "lastEventId": str(event["seq"])} for event in log]
    assert page.evaluate("opened") >= 2
