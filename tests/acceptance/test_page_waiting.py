"""The page's view of all that waits: answered there, by whoever may, and live."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, expect

from tests.acceptance.chat_page import Tab
from tests.acceptance.model import script
from tests.acceptance.stack import Stack
from tests.accessibility import SCREENS, expect_accessible
from tests.turns import call

REFUND = call("refund", order_id="A-1", cents=500)
HOSTILE = "<img src=x onerror=alert(1)>\u202egnp.\u200b\x1b"
"""Markup, a right-to-left override, a space without a width and a control character."""


@pytest.fixture(autouse=True)
def nothing_waits(stack: Stack) -> None:
    """What other tests have left waiting is stopped."""
    for run in stack.web_a.http.get("/runs", params={"status": "paused", "limit": 200}).json()["runs"]:
        stack.web_a.abort(run["id"])


def ask(stack: Stack, *turns: object, agent: str = "support", title: str | None = None) -> str:
    """A run that waits for an answer."""
    metadata = {} if title is None else {"title": title}
    body = {"agent": agent, "input": script(*(turns or ([REFUND], "Done."))), "metadata": metadata}
    response = stack.web_a.http.post("/runs", json=body)
    assert response.status_code == 202, response.text
    run_id: str = response.json()["id"]
    stack.wait_for(run_id, "paused")
    return run_id


def notice(tab: Tab) -> Locator:
    return tab.page.locator(".view p[role=status]")


def test_what_waits_is_listed_oldest_first_and_answered_there(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    first = ask(stack, title="The first refund")
    second = ask(stack, title="The second refund")
    tab = open_tab("/#/waiting")
    expect(tab.page.locator(".item-of a")).to_have_text(["The first refund", "The second refund"])
    expect(tab.page.get_by_role("link", name="Waiting 2")).to_be_visible()
    expect(tab.page).to_have_title("(2) Waiting · agentkit")
    tab.decision.first.get_by_role("button", name="Approve").press("Enter")
    expect(tab.decision).to_have_count(1)
    expect(notice(tab)).to_have_text("Answered: refund.")
    expect(tab.decision).to_be_focused()
    expect(tab.page).to_have_title("(1) Waiting · agentkit")
    stack.wait_for(first, "completed")
    tab.press("Reject …")
    tab.decision.get_by_label("Why not?").fill("too much")
    tab.press("Reject")
    expect(notice(tab)).to_have_text("Answered: refund. Nothing waits any more.")
    expect(tab.page.get_by_role("heading", level=1)).to_be_focused()
    expect(tab.page.get_by_text("Nothing waits for an answer.")).to_be_visible()
    expect(tab.page).to_have_title("Waiting · agentkit")
    stack.wait_for(second, "completed")
    assert [len(stack.ledger.entries(run=run, tool="refund")) for run in (first, second)] == [1, 0]


def test_what_begins_to_wait_or_is_answered_elsewhere_shows_by_itself(
    stack: Stack, open_tab: Callable[..., Tab]
) -> None:
    tab = open_tab("/#/waiting")
    expect(tab.page.get_by_text("Nothing waits for an answer.")).to_be_visible()
    run_id = ask(stack)
    expect(tab.decision).to_be_visible(timeout=15_000)
    tab.press("Edit input")
    tab.decision.get_by_label("cents").fill("200")
    other = ask(stack)
    expect(tab.decision).to_have_count(2, timeout=15_000)
    expect(tab.decision.first.get_by_label("cents")).to_have_value("200")  # what one writes stays
    (item,) = stack.web_b.get(other)["pending"]
    stack.web_b.resume(other, decisionId=item["decisionId"], decision={"approved": True})
    expect(tab.decision).to_have_count(1, timeout=15_000)
    expect(notice(tab)).to_contain_text("refund waits no more: somebody else has answered it")
    tab.press("Approve")
    stack.wait_for(run_id, "completed")
    (result,) = [m for m in stack.web_b.get(run_id)["messages"] if m["role"] == "toolResult"]
    assert result["content"][0]["text"] == "refunded 200 for A-1"


def test_a_hidden_page_asks_for_nothing(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    ask(stack)
    tab = open_tab("/#/waiting")
    expect(tab.decision).to_be_visible()
    tab.page.evaluate("Object.defineProperty(document, 'hidden', {get: () => true})")
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    tab.page.wait_for_timeout(11_000)  # more than twice as long as a visible page waits
    assert not asked


def test_it_is_filtered_and_the_filters_are_in_the_address(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    ask(stack, title="A refund")
    ask(stack, [call("approve")], "Done.", agent="till", title="An approval")
    tab = open_tab("/#/waiting")
    titles = tab.page.locator(".item-of a")
    expect(titles).to_have_text(["A refund", "An approval"])
    tab.page.get_by_label("Agent").select_option("till")
    expect(titles).to_have_text(["An approval"])
    assert tab.page.url.endswith("#/waiting?agent=till")
    tab.page.get_by_label("Kind").select_option("in doubt")
    expect(tab.page.get_by_text("Nothing waits that these filters select.")).to_be_visible()
    tab.press("Clear filters")
    expect(titles).to_have_count(2)
    tab.page.get_by_label("Owner").fill("nobody")
    expect(titles).to_have_count(0)
    tab.page.reload()
    expect(tab.page.get_by_label("Owner")).to_have_value("nobody")
    expect(tab.page.get_by_text("Nothing waits that these filters select.")).to_be_visible()


def test_the_item_of_a_sub_agent_is_answered_where_it_belongs(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    question = script([REFUND], "The refund is made.")
    run_id = ask(stack, [call("support", input=question)], "All done.", agent="boss")
    tab = open_tab("/#/waiting")
    expect(tab.decision).to_have_count(1)
    expect(tab.decision).to_contain_text("Asked by the agent support")
    tab.press("Approve")
    expect(tab.decision).to_have_count(0)
    stack.wait_for(run_id, "completed")


def test_twenty_are_shown_and_more_on_demand(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    refunds = [call("refund", order_id=f"A-{n}", cents=n) for n in range(1, 26)]
    ask(stack, refunds, "Done.")
    tab = open_tab("/#/waiting")
    expect(tab.decision).to_have_count(20)
    tab.press("Show more")
    expect(tab.decision).to_have_count(25)
    expect(tab.page.get_by_role("button", name="Show more")).to_be_hidden()


def test_filters_that_the_server_does_not_take_can_be_cleared(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    ask(stack)
    tab = open_tab("/#/waiting?kind=nonsense")
    expect(tab.page.get_by_role("alert").get_by_text("The server does not take these filters.")).to_be_visible()
    tab.press("Show all")
    expect(tab.decision).to_be_visible()


@pytest.mark.parametrize("screen", list(SCREENS))
def test_everybody_can_use_it_whatever_texts_it_shows(stack: Stack, open_tab: Callable[..., Tab], screen: str) -> None:
    ask(stack, [call("refund", order_id=HOSTILE + "long" * 100, cents=1)], "Done.", title=HOSTILE)
    ask(stack, [call("approve")], "Done.", agent="till")
    tab = open_tab("/#/waiting", **SCREENS[screen])
    expect(tab.decision).to_have_count(2)
    expect(tab.page.locator(".item-of a").first).to_have_text(r"<img src=x onerror=alert(1)>\u202egnp.\u200b\x1b")
    expect(tab.decision.first).to_contain_text(r"\u202egnp.\u200b\x1b")
    expect_accessible(tab.page)


def answer(stack: Stack, run_id: str, **body: object) -> None:
    (item,) = stack.web_b.get(run_id)["pending"]
    response = stack.web_b.resume(run_id, decisionId=item["decisionId"], **body)
    assert response.status_code == 202, response.text
    stack.wait_for(run_id, "completed")


def test_how_items_were_answered_is_on_record_newest_first(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    answer(stack, ask(stack, title="An edited one"), decision={"approved": True}, input={"order_id": "B-2", "cents": 7})
    answer(stack, ask(stack, title="A refused one"), reject={"reason": "too much"})
    answer(stack, ask(stack, title="A declined one"), decision={"approved": False})
    tab = open_tab("/#/waiting")
    tab.page.get_by_role("link", name="Answered").press("Enter")
    rows = tab.page.locator(".rows > li")
    expect(tab.page.get_by_role("heading", level=1)).to_be_focused()
    for row, title, outcome in zip(
        range(3),
        ("A declined one", "A refused one", "An edited one"),
        ("declined", "rejected", "approved"),
        strict=True,
    ):
        expect(rows.nth(row)).to_contain_text(title, timeout=15_000)
        expect(rows.nth(row).locator(".verdict")).to_have_text(outcome)
    expect(rows.nth(1)).to_contain_text("too much")
    expect(rows.nth(2)).to_contain_text("by somebody who was not named")
    rows.nth(2).get_by_text("Details").press("Enter")
    expect(rows.nth(2)).to_contain_text("Executed with changed arguments")
    expect(rows.nth(2)).to_contain_text("B-2")
    tab.page.get_by_label("Tool").select_option("approve")
    expect(rows.filter(has_text="An edited one")).to_have_count(0)
    expect(tab.page).to_have_url(re.compile("tool=approve"))


@pytest.mark.parametrize("screen", list(SCREENS))
def test_everybody_can_read_the_record_whatever_texts_it_shows(
    stack: Stack, open_tab: Callable[..., Tab], screen: str
) -> None:
    answer(stack, ask(stack, title=HOSTILE), reject={"reason": HOSTILE + "long" * 100})
    tab = open_tab("/#/waiting?show=answered", **SCREENS[screen])
    row = tab.page.locator(".rows > li").first
    expect(row).to_contain_text(r"<img src=x onerror=alert(1)>\u202egnp.\u200b\x1blong")
    row.get_by_text("Details").click()
    expect_accessible(tab.page)
