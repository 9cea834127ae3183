"""The page where several people must decide alike, and where an answer is remembered, with a real Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.acceptance.chat_page import Tab
from tests.acceptance.stack import WebProcess, WorkerProcess, environment
from tests.servers import ValkeyServer


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("votes")
    with ValkeyServer(folder / "valkey") as store:
        env = environment(
            AGENTKIT_APP="tests.acceptance.board:kit", AGENTKIT_REDIS_URL=store.url, HOME=str(folder)
        )  # fmt: skip
        processes = (WebProcess("web", env, folder), WorkerProcess("worker", env, folder))
        try:
            for process in processes:
                process.start()
            yield f"http://127.0.0.1:{processes[0].port}"
        finally:
            for process in processes:
                process.kill()


@pytest.fixture
def visit(site: str, browser: Browser) -> Iterator[Callable[[str, str], Tab]]:
    """Opens a page as somebody."""
    tabs: list[Tab] = []

    def open_(name: str, path: str = "/") -> Tab:
        context = browser.new_context(locale="en-US")
        context.add_cookies([{"name": "user", "value": name, "url": site}])
        tabs.append(Tab(context, site + path))
        return tabs[-1]

    yield open_
    for tab in tabs:
        tab.close()
        tab.page.context.close()


def test_two_people_decide_alike_and_the_receipt_names_both(visit: Callable[..., Tab]) -> None:
    carol = visit("carol")
    run_id = carol.begin("treasurer", "Spend it")
    expect(carol.decision.get_by_text("2 people must give the same decision")).to_be_visible()
    expect(carol.decision.get_by_text("for carol")).to_be_visible()
    ann, bob = (visit(name, f"/?run={run_id}") for name in ("ann", "bob"))
    ann.press("Approve")
    expect(ann.decision.get_by_text("Your decision is recorded")).to_be_visible()
    expect(ann.decision.get_by_role("button", name="Approve")).to_have_count(0)
    expect(bob.decision.get_by_text("ann: approved")).to_be_visible(timeout=15_000)
    bob.press("Approve")
    for tab in (bob, ann, carol):
        tab.expect_answer("That was it.")
        expect(tab.receipt).to_contain_text("Approved by ann and bob")


def test_who_started_the_run_is_told_that_others_must_decide(visit: Callable[..., Tab]) -> None:
    carol = visit("carol")
    carol.begin("treasurer", "Spend it")
    carol.press("Approve")
    expect(carol.decision.get_by_role("alert")).to_contain_text("others must decide")
    expect(carol.decision.get_by_role("button", name="Approve")).to_be_visible()


def test_an_answer_is_remembered_for_the_run_where_a_person_says_so(visit: Callable[..., Tab]) -> None:
    ann = visit("ann")
    ann.begin("secretary", "Send them")
    box = ann.decision.get_by_role("checkbox")
    expect(box).not_to_be_checked()
    box.check()
    ann.press("Approve")
    ann.expect_answer("Both are sent.")
    expect(ann.receipt.first).to_contain_text("Approved by ann, remembered for this run")
    expect(ann.receipt.last).to_contain_text("Approved by ann, as remembered, without asking")
