"""The page's list of runs: found by filters, page by page, however many there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from msgspec import structs
from playwright.sync_api import Browser, Page, expect

from agentkit.core.ids import new_id
from agentkit.core.record import Status, status_list
from agentkit.store.redis import RedisStore
from agentkit.testing.store_changes import first_change
from tests.acceptance.chat_page import Tab
from tests.acceptance.model import script
from tests.acceptance.stack import THREADS, Stack, WebProcess, environment
from tests.accessibility import SCREENS, expect_accessible
from tests.servers import ValkeyServer
from tests.turns import call

HOSTILE = "<img src=x onerror=alert(1)>\u202egnp.\u200b\x1b"
REFUND = call("refund", order_id="A-1", cents=500)


def begin(stack: Stack, title: str, *turns: object, agent: str = "support", status: str = "completed") -> str:
    body = {"agent": agent, "input": script(*turns), "metadata": {"title": title}}
    response = stack.web_a.http.post("/runs", json=body)
    assert response.status_code == 202, response.text
    run_id: str = response.json()["id"]
    stack.wait_for(run_id, status)
    return run_id


def test_runs_are_listed_newest_first_and_new_ones_come(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    begin(stack, "The first", "One.")
    tab = open_tab("/#/runs")
    rows = tab.page.locator(".rows > li")
    expect(rows.first).to_contain_text("The first")
    expect(rows.first).to_contain_text("support")
    expect(rows.first).to_contain_text("done")
    expect(rows.first).to_contain_text("Turns: 1")
    expect(rows.first).to_contain_text("Tokens: 21")
    run_id = begin(stack, "The second", [REFUND], "Two.", status="paused")
    expect(rows.first).to_contain_text("The second", timeout=15_000)
    expect(rows.first).to_contain_text("waiting for an answer")
    rows.first.get_by_role("link").press("Enter")
    expect(tab.page.get_by_role("heading", level=1)).to_be_focused()
    assert tab.page.url.endswith(f"#/runs/{run_id}")
    tab.page.go_back()
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("Runs")


def test_runs_are_found_by_title_status_agent_and_age(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    first = begin(stack, "Parcel to Łódź", "One.")
    begin(stack, "Parcel to Ulm", [call("approve")], agent="till", status="paused")
    tab = open_tab("/#/runs")
    titles = tab.page.locator(".table-title a")
    tab.page.get_by_label("Title or id").fill("parcel")
    expect(titles).to_have_text(["Parcel to Ulm", "Parcel to Łódź"])
    tab.page.get_by_label("Status").select_option("done")
    expect(titles).to_have_text(["Parcel to Łódź"])
    tab.press("Clear filters")
    tab.page.get_by_label("Title or id").fill(first[-10:])
    expect(titles).to_have_text(["Parcel to Łódź"])
    tab.page.get_by_label("Title or id").fill("parcel to")
    tab.page.get_by_label("Agent").select_option("till")
    tab.page.get_by_label("Started in").select_option("the last hour")
    expect(titles).to_have_text(["Parcel to Ulm"])
    tab.page.reload()
    expect(titles).to_have_text(["Parcel to Ulm"])
    expect(tab.page.get_by_label("Started in")).to_have_value("1")
    tab.page.get_by_label("Owner").fill("nobody")
    expect(tab.page.get_by_text("No runs that these filters select.")).to_be_visible()


@pytest.mark.parametrize("screen", list(SCREENS))
def test_everybody_can_use_it_whatever_texts_it_shows(stack: Stack, open_tab: Callable[..., Tab], screen: str) -> None:
    begin(stack, HOSTILE + "long" * 30, "One.")
    tab = open_tab("/#/runs", **SCREENS[screen])
    expect(tab.page.locator(".table-title a").first).to_contain_text(r"onerror=alert(1)>\u202egnp.\u200b\x1b")
    expect_accessible(tab.page)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an application with 10,000 runs of ann and bob."""
    folder = tmp_path_factory.mktemp("many")
    with ValkeyServer() as server:
        store = RedisStore(server.url)
        try:
            for number in range(10_000):
                run_id, owner = new_id(), "ann" if number % 2 else "bob"
                change = first_change(run_id, owner=owner)
                metadata = {"title": f"Number {number}"}
                record = structs.replace(
                    change.record, agent="support", status=Status.COMPLETED, metadata=metadata, steps=()
                )
                store.index(run_id, owner, agent="support", status=status_list(Status.COMPLETED))
                store.create(replace(change, record=record, opened=()))
        finally:
            store.close()
        env = environment(AGENTKIT_APP="tests.acceptance.app:kit", AGENTKIT_REDIS_URL=server.url, HOME=str(folder))
        web = WebProcess("web", env | {"ACCEPTANCE_LEDGER": str(folder / "ledger.jsonl")}, folder, THREADS)
        web.start()
        try:
            yield f"http://127.0.0.1:{web.port}"
        finally:
            web.kill()


@pytest.fixture
def page(many: str, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(base_url=many, locale="en-US")
    yield context.new_page()
    context.close()


def test_ten_thousand_runs_are_pages_of_fifty(page: Page) -> None:
    page.goto("/#/runs")
    titles = page.locator(".table-title a")
    expect(titles).to_have_count(50)
    expect(titles.first).to_have_text("Number 9999")
    page.get_by_role("link", name="Older runs").click()
    expect(titles.first).to_have_text("Number 9949")
    expect(titles).to_have_count(50)
    page.get_by_role("link", name="Older runs").click()
    expect(titles.first).to_have_text("Number 9899")
    page.go_back()
    expect(titles.first).to_have_text("Number 9949")
    page.get_by_label("Owner").fill("ann")
    expect(titles.nth(1)).to_have_text("Number 9997")  # from the first page on, of ann's alone
    expect(page).not_to_have_url(re.compile("cursor"))


def test_what_is_rare_among_ten_thousand_is_sought_a_part_at_a_time(page: Page) -> None:
    page.goto("/#/runs?text=number+8500")
    expect(page.get_by_text("None among the runs that were searched.")).to_be_visible()
    page.get_by_role("link", name="Older runs").click()
    expect(page.locator(".table-title a")).to_have_text(["Number 8500"])
