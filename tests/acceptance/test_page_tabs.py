"""Several tabs of one browser, which makes six connections to a server: they share streams, and go on together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.acceptance.chat_page import Tab
from tests.acceptance.model import script
from tests.acceptance.stack import Stack
from tests.metrics import value
from tests.turns import call
from tests.waiting import wait_until

REFUND = call("refund", order_id="A-1", cents=500)


class Browsing:
    """One person's browser: its tabs know each other."""

    def __init__(self, context: BrowserContext, server: str) -> None:
        self.context = context
        self.tabs: list[Tab] = []
        self._server = server

    def open(self, path: str = "/") -> Tab:
        self.tabs.append(Tab(self.context, self._server + path))
        return self.tabs[-1]

    def streams(self) -> int:
        """How many event streams the server has open. It notices only after a while that one has been left."""
        return int(value(httpx.get(f"{self._server}/metrics").text, "agentkit_event_streams") or 0)


@pytest.fixture
def browsing(stack: Stack, browser: Browser) -> Iterator[Browsing]:
    with browser.new_context(locale="en-US") as context:
        person = Browsing(context, f"http://127.0.0.1:{stack.web_a.port}")
        yield person
        for tab in person.tabs:
            tab.close()


def test_eight_tabs_on_one_run_have_one_stream_and_all_see_the_approval(stack: Stack, browsing: Browsing) -> None:
    first = browsing.open()
    run_id = first.begin("support", script([REFUND], "It is done."))
    expect(first.decision).to_be_visible()
    others = [browsing.open(f"/?run={run_id}") for _ in range(7)]
    for tab in others:
        expect(tab.decision).to_be_visible()
    wait_until(
        lambda: browsing.streams() == 1, what="one stream", timeout=60
    )  # a server notices late that one was left
    others[-1].press("Approve")
    for tab in browsing.tabs:
        tab.expect_answer("It is done.")
    assert len(stack.ledger.entries(run=run_id, tool="refund")) == 1


def test_eight_tabs_on_eight_runs_all_load_and_an_approval_is_sent(stack: Stack, browsing: Browsing) -> None:
    runs = {}
    for number in range(8):
        tab = browsing.open()
        runs[tab.begin("support", script([REFUND], f"Number {number} is done."))] = tab
        expect(tab.decision).to_be_visible()
    for number, (run_id, tab) in enumerate(runs.items()):
        tab.page.bring_to_front()
        tab.press("Approve")
        tab.expect_answer(f"Number {number} is done.")
        assert len(stack.ledger.entries(run=run_id, tool="refund")) == 1


def test_the_tab_that_reads_may_be_closed(stack: Stack, browsing: Browsing) -> None:
    first = browsing.open()
    run_id = first.begin("support", script([REFUND], "It is done."))
    expect(first.decision).to_be_visible()
    second = browsing.open(f"/?run={run_id}")
    expect(second.decision).to_be_visible()
    browsing.tabs.remove(first)
    first.close()
    second.press("Approve")
    second.expect_answer("It is done.")


def test_a_conversation_that_goes_on_in_one_tab_goes_on_in_the_other(stack: Stack, browsing: Browsing) -> None:
    first = browsing.open()
    run_id = first.begin("support", script("The first answer."))
    first.expect_answer("The first answer.")
    second = browsing.open(f"/?run={run_id}")
    second.expect_answer("The first answer.")
    first.say(script("The second answer."))
    next_id = first.run_id(before=run_id)
    second.expect_answer("The second answer.")
    assert second.run_id(before=run_id) == next_id
    old_link = browsing.open(f"/?run={run_id}")
    old_link.expect_answer("The second answer.")
    assert old_link.run_id(before=run_id) == next_id
    assert first.texts() == second.texts() == old_link.texts()


def test_a_network_that_goes_is_said_within_five_seconds_and_one_that_comes_back_too(browsing: Browsing) -> None:
    tab = browsing.open()
    tab.begin("support", script([REFUND], "It is done."))
    expect(tab.decision).to_be_visible()
    lost = tab.page.get_by_text("The run goes on without it")
    _within(5, lambda: browsing.context.set_offline(True), lambda: lost.is_visible())
    _within(5, lambda: browsing.context.set_offline(False), lambda: not lost.is_visible())
    tab.press("Approve")
    tab.expect_answer("It is done.")


def _within(seconds: float, act: Callable[[], None], check: Callable[[], bool]) -> None:
    began = monotonic()
    act()
    wait_until(check, what="the page to say it", timeout=20)
    assert monotonic() - began < seconds
