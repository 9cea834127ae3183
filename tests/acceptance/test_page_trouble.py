"""The page when something goes away under it: the page itself, its neighbour, a worker, the web process."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from tests.acceptance.chat_page import Tab
from tests.acceptance.model import script
from tests.acceptance.stack import Stack
from tests.turns import call
from tests.waiting import wait_until

REFUND = call("refund", order_id="A-1", cents=500)
SENTENCE = "All of this is said, whatever happens to those who say it and to those who pass it on, once and in order."


def test_a_reload_while_it_streams_loses_nothing(stack: Stack, tab: Tab) -> None:
    tab.begin("support", script(SENTENCE, delay=0.1))
    expect(tab.answer).to_contain_text("All of this")
    tab.page.reload()
    tab.expect_answer(SENTENCE)
    assert len(tab.texts()) == 2


def test_a_reload_while_it_waits_shows_the_decision_again(stack: Stack, tab: Tab) -> None:
    run_id = tab.begin("support", script([REFUND], "It is done."))
    expect(tab.decision).to_be_visible()
    tab.page.reload()
    tab.press("Approve")
    tab.expect_answer("It is done.")
    assert len(stack.ledger.entries(run=run_id, tool="refund")) == 1


def test_two_tabs_on_one_run_agree(stack: Stack, tab: Tab, open_tab: Callable[..., Tab]) -> None:
    run_id = tab.begin("support", script([{"type": "text", "text": SENTENCE}, REFUND], SENTENCE, delay=0.03))
    other = open_tab(f"/?run={run_id}")
    expect(tab.decision).to_be_visible(timeout=15_000)
    other.press("Decline")
    for one in (tab, other):
        one.expect_answer(SENTENCE)
        one.expect_tool("refund", "done")
        expect(one.decision).to_be_hidden()
    assert tab.texts() == other.texts()
    assert len(stack.ledger.entries(run=run_id, tool="refund")) == 1


def test_a_worker_killed_mid_answer_is_not_noticed_for_long(stack: Stack, tab: Tab) -> None:
    run_id = tab.begin("support", script(SENTENCE, name="page-worker", delay=0.1))
    expect(tab.answer).to_contain_text("All of this")
    worker = stack.worker_at(stack.ledger.entries(model="page-worker")[0]["port"])
    assert worker is not None
    worker.kill()
    wait_until(lambda: len(stack.ledger.entries(model="page-worker")) == 2, what="another worker")
    tab.expect_answer(SENTENCE)
    assert len(tab.texts()) == 2
    stack.checked(run_id)


def test_a_web_process_restarted_mid_answer_is_waited_for(stack: Stack, tab: Tab) -> None:
    run_id = tab.begin("support", script(SENTENCE, delay=0.1))
    expect(tab.answer).to_contain_text("All of this")
    stack.web_a.kill()
    expect(tab.page.get_by_text("The connection is lost")).to_be_visible()
    stack.web_a.start()
    tab.expect_answer(SENTENCE)
    expect(tab.page.get_by_text("The connection is lost")).to_be_hidden()
    assert len(tab.texts()) == 2
    stack.checked(run_id)


def test_what_a_dead_worker_left_in_doubt_is_decided_here(stack: Stack, tab: Tab) -> None:
    run_id = tab.begin("office", script([call("charge", cents=5)], "So be it."))
    entry = wait_until(lambda: stack.ledger.entries(run=run_id, tool="charge"), what="the tool to execute")[0]
    next(worker for worker in stack.workers if worker.pid == entry["pid"]).kill()
    expect(tab.page.get_by_text("What became of this?")).to_be_visible(timeout=15_000)
    tab.decision.get_by_label("It happened").check()
    tab.decision.get_by_label("result").fill("charged, says the bank")
    tab.press("Submit")
    tab.expect_answer("So be it.")
    tab.expect_tool("charge", "done")
    assert len(stack.ledger.entries(run=run_id, tool="charge")) == 1
