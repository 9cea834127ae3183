"""The page in an application that asks people to log in, below a prefix, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.acceptance.stack import THREADS, WebProcess, environment
from tests.servers import ValkeyServer


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a team's application whose `/login` is agentkit's too."""
    folder = tmp_path_factory.mktemp("login")
    with ValkeyServer(folder / "valkey") as store:
        env = environment(
            AGENTKIT_REDIS_URL=store.url,
            AGENTKIT_LOGIN_URL="/login",
            HOST_BROKER_URL=store.database(1),
            ACCEPTANCE_LEDGER=str(folder / "ledger.jsonl"),
            HOME=str(folder),
        )
        web = WebProcess("web", env, folder, THREADS, app="tests.acceptance.host:flask_app")
        web.start()
        try:
            yield f"http://127.0.0.1:{web.port}"
        finally:
            web.kill()


@pytest.fixture
def page(site: str, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(base_url=site, locale="en-US")
    yield context.new_page()
    context.close()


def log_in(page: Page, name: str) -> None:
    expect(page).to_have_url(re.compile(r"/login\?next="), timeout=15_000)
    page.get_by_label("User").fill(name)
    page.get_by_role("button", name="Log in").click()


def test_who_is_not_logged_in_is_sent_there_and_comes_back(page: Page) -> None:
    page.goto("/ai/?run=x#/runs?status=failed")
    log_in(page, "ann")
    expect(page.get_by_text("Logged in as ann")).to_be_visible()
    expect(page.get_by_role("heading", level=1, name="Runs")).to_be_visible()
    assert page.url.endswith("/ai/?run=x#/runs?status=failed")


def test_who_is_logged_out_meanwhile_finds_what_they_wrote_when_they_come_back(page: Page) -> None:
    page.goto("/ai/")
    log_in(page, "ann")
    page.get_by_label("Message").fill("Half a sentence")
    page.context.clear_cookies()
    log_in(page, "bob")
    expect(page.get_by_text("Logged in as bob")).to_be_visible()
    expect(page.get_by_label("Message")).to_have_value("Half a sentence")


def test_a_login_that_lets_nobody_in_is_no_endless_way(page: Page) -> None:
    page.goto("/ai/")
    log_in(page, "mallory")
    expect(page.get_by_text("You are not logged in.")).to_be_visible()
    page.get_by_role("main").get_by_role("link", name="Log in").click()
    log_in(page, "ann")
    expect(page.get_by_text("Logged in as ann")).to_be_visible()


def test_the_other_views_are_below_the_prefix_too_and_show_what_is_the_callers(page: Page) -> None:
    page.goto("/ai/#/runs")
    log_in(page, "ann")
    expect(page.get_by_text("No runs yet.")).to_be_visible()
    body = {"agent": "greeter", "input": "Hello", "metadata": {"title": "A greeting"}}
    assert page.request.post("/ai/runs", data=body).status == 202
    row = page.locator(".rows > li")
    expect(row).to_contain_text("Owner: ann", timeout=15_000)
    page.get_by_label("Owner").fill("bob")
    expect(page.get_by_text("No runs that these filters select.")).to_be_visible()
    page.get_by_role("button", name="Clear filters").click()
    row.get_by_role("link", name="A greeting").click()
    expect(page.get_by_role("heading", level=1, name="A greeting")).to_be_visible()
    expect(page.locator(".facts")).to_contain_text("waiting for a worker")
    page.get_by_role("link", name="Waiting", exact=True).click()
    expect(page.get_by_text("Nothing waits for an answer.")).to_be_visible()
    page.get_by_role("link", name="System", exact=True).click()
    expect(page.get_by_text("Not ready: runs are accepted, but wait.")).to_be_visible()
    assert "/ai/#/system" in page.url
