"""What the page says of a decision afterwards, and how a conversation branches. Real processes, a real Chromium."""

from __future__ import annotations

import json
from collections.abc import Callable

from playwright.sync_api import expect

from tests.acceptance.chat_page import Tab
from tests.acceptance.model import script
from tests.acceptance.stack import Stack
from tests.turns import call

REFUND = call("refund", order_id="A-1", cents=500)


def test_a_receipt_says_what_was_changed_and_the_call_shows_what_was_executed(stack: Stack, tab: Tab) -> None:
    tab.begin("support", script([REFUND], "It is done."))
    tab.press("Edit input")
    tab.decision.get_by_label("cents").fill("200")
    tab.press("Approve")
    tab.expect_answer("It is done.")
    for _ in range(2):  # also after a reload, when the run has ended
        expect(tab.receipt).to_contain_text("Approved, cents: 500 → 200")
        tab.tool("refund").locator("summary").click()
        expect(tab.tool("refund").locator("summary")).to_contain_text("200")
        expect(tab.tool("refund").locator("pre").first).to_contain_text('"cents": 200')
        expect(tab.tool("refund").get_by_text("What the agent had asked for")).to_be_visible()
        tab.page.reload()


def test_a_rejection_is_one_and_has_its_reason(tab: Tab) -> None:
    tab.begin("support", script([REFUND], "Then not."))
    tab.press("Reject …")
    tab.page.get_by_label("Why not?").fill("too much")
    tab.press("Reject")
    tab.expect_answer("Then not.")
    expect(tab.receipt).to_contain_text("Rejected: too much")
    tab.expect_tool("refund", "refused")


def test_an_expired_decision_says_so_and_is_not_rejected(tab: Tab) -> None:
    tab.begin("desk", script([call("ask")], "Nobody was there."))
    expect(tab.decision.get_by_text("s left")).to_be_visible()
    tab.expect_answer("Nobody was there.")
    tab.expect_tool("ask", "expired")
    expect(tab.receipt).to_contain_text("Expired: nobody answered in time")
    expect(tab.page.get_by_text("Rejected", exact=True)).to_have_count(0)


def test_an_expired_decision_with_a_default_says_what_it_counts_as(tab: Tab) -> None:
    tab.begin("desk", script([call("presume")], "So be it."))
    tab.expect_answer("So be it.")
    tab.expect_tool("presume", "done")
    expect(tab.receipt).to_contain_text("Expired, so it counts as declined")


def test_there_is_more_time_for_who_asks_for_it(stack: Stack, tab: Tab) -> None:
    run_id = tab.begin("till", script([call("approve")], "Fine."))
    expect(tab.decision.get_by_text("min left")).to_be_visible()
    before = stack.web_b.get(run_id)["pending"][0]["expiresAt"]
    tab.press("10 min more")
    expect(tab.decision.get_by_text("19:")).to_be_visible()
    assert stack.web_b.get(run_id)["pending"][0]["expiresAt"] - before == 600_000
    tab.press("Approve")
    tab.expect_answer("Fine.")


def test_a_sub_agents_item_shows_that_agents_tool(stack: Stack, tab: Tab) -> None:
    inner = script([REFUND], "Refunded.")
    tab.begin("boss", script([call("support", input=inner)], "All is well."))
    expect(tab.decision.get_by_text("Refund an order.")).to_be_visible(timeout=15_000)
    expect(tab.decision.get_by_text("Asked by the agent support")).to_be_visible()
    tab.press("Edit input")
    tab.decision.get_by_label("cents").fill("200")
    tab.press("Approve")
    tab.expect_answer("All is well.")
    assert len(stack.ledger.entries(tool="refund")) >= 1


def test_an_edited_message_is_a_branch_and_the_other_stays(stack: Stack, tab: Tab) -> None:
    first = tab.begin("support", script("One."))
    tab.expect_answer("One.")
    tab.page.get_by_role("button", name="Edit this message").click()
    tab.page.get_by_label("Changed message").fill(script("Two."))
    tab.press("Send anew")
    second = tab.run_id(before=first)
    tab.expect_answer("Two.")
    assert len(tab.texts()) == 2
    assert "origin" in stack.web_b.get(second) or len(stack.web_b.get(second)["messages"]) == 2
    tab.page.get_by_role("button", name="Earlier version").first.click()
    tab.expect_answer("One.")
    assert tab.run_id(before=second) == first
    tab.page.get_by_role("button", name="Later version").first.click()
    tab.expect_answer("Two.")


def test_an_answer_can_be_given_again(tab: Tab) -> None:
    first = tab.begin("support", script("One."))
    tab.expect_answer("One.")
    tab.page.get_by_role("button", name="Answer again").click()
    tab.run_id(before=first)
    tab.expect_answer("One.")
    assert len(tab.texts()) == 2


def test_a_message_that_waits_in_a_paused_run_is_there_after_a_reload(tab: Tab) -> None:
    tab.begin("support", script([REFUND], "It is done."))
    expect(tab.decision).to_be_visible()
    tab.say(script("I read you."))
    for _ in range(2):
        expect(tab.page.get_by_text("It sees this at its next step")).to_be_visible()
        tab.page.reload()
    tab.press("Approve")
    tab.expect_answer("I read you.")
    expect(tab.page.get_by_text("It sees this at its next step")).to_be_hidden()


def test_a_second_tab_goes_on_with_the_same_conversation(stack: Stack, tab: Tab) -> None:
    first = tab.begin("support", script("One."))
    tab.expect_answer("One.")
    other = Tab(tab.page.context, tab.page.url)
    other.expect_answer("One.")
    tab.say(script("Two."))
    second = tab.run_id(before=first)
    tab.expect_answer("Two.")
    other.expect_answer("Two.")
    other.say(script("Three."))
    third = other.run_id(before=second)
    other.expect_answer("Three.")
    tab.expect_answer("Three.")
    assert [message["role"] for message in stack.web_b.get(third)["messages"]] == ["user", "assistant"] * 3
    other.close()


def test_being_offline_is_said_within_five_seconds_and_is_over_as_soon_as_it_is(tab: Tab) -> None:
    sentence = "This takes a while, and part of it is said while nobody can read it. " * 2
    tab.begin("support", script(sentence, delay=0.1))
    expect(tab.answer).to_contain_text("This takes")
    tab.page.context.set_offline(True)
    expect(tab.page.get_by_text("You are offline.")).to_be_visible(timeout=5_000)
    expect(tab.page.get_by_text("Ready", exact=True)).to_be_hidden(timeout=5_000)
    tab.page.context.set_offline(False)
    expect(tab.page.get_by_text("You are offline.")).to_be_hidden(timeout=5_000)
    tab.expect_answer(sentence.strip())


def test_eight_tabs_of_a_browser_load_and_each_can_answer(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    first = open_tab()
    run_id = first.begin("support", script([REFUND], "It is done."))
    tabs = [first, *(Tab(first.page.context, first.page.url) for _ in range(7))]
    for one in tabs:
        expect(one.decision).to_be_visible(timeout=15_000)
    tabs[-1].press("Approve")
    for one in tabs:
        one.expect_answer("It is done.")
    assert len(stack.ledger.entries(run=run_id, tool="refund")) == 1
    for one in tabs[1:]:
        one.close()


def test_what_the_receipt_shows_is_what_the_record_has(stack: Stack, tab: Tab) -> None:
    run_id = tab.begin("clerk", script([call("yes_or_no")], "So be it."))
    tab.press("Decline")
    tab.expect_answer("So be it.")
    expect(tab.receipt).to_contain_text("Declined")
    (result,) = [m for m in stack.web_b.get(run_id)["messages"] if m["role"] == "toolResult"]
    assert json.loads(result["content"][0]["text"]) is False
