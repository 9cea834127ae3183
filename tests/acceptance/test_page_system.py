"""The page's view of the system: whether runs are carried out, and what is to be done where they are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.acceptance.chat_page import Tab
from tests.accessibility import SCREENS, expect_accessible

NOT_SERVED = {
    "status": "unavailable",
    "checks": {"store": True, "broker": False, "worker": False},
    "queues": {"agentkit": True, "slow": False},
    "warnings": ["queue slow: no worker has executed anything of it for 60 s", "eviction is on \u202e here"],
}
METRICS = "# HELP x y\nagentkit_store_up 1\nagentkit_runs_due 12\nagentkit_runs_overdue 7\nagentkit_workers 1\n"


def test_a_ready_system_says_who_works(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab("/#/system")
    expect(tab.page.get_by_text("Ready: runs are carried out.")).to_be_visible(timeout=30_000)
    facts = tab.page.locator(".facts > div")
    expect(facts.filter(has_text="Workers")).to_contain_text("2")
    expect(facts.filter(has_text="Queue agentkit")).to_contain_text("served")
    expect(facts.filter(has_text="Runs that are overdue")).not_to_contain_text("unknown")


@pytest.mark.parametrize("screen", list(SCREENS))
def test_what_is_wrong_is_named_and_everybody_can_read_it(open_tab: Callable[..., Tab], screen: str) -> None:
    tab = open_tab(**SCREENS[screen])
    tab.page.route("**/readyz", lambda route: route.fulfill(status=503, json=NOT_SERVED))
    tab.page.route("**/metrics", lambda route: route.fulfill(body=METRICS, content_type="text/plain"))
    tab.page.goto(f"{tab.page.url}#/system")
    tab.page.reload()
    expect(tab.page.get_by_text("Not ready: runs are accepted, but wait.")).to_be_visible(timeout=15_000)
    expect(tab.page.locator(".warnings li")).to_have_text([NOT_SERVED["warnings"][0], r"eviction is on \u202e here"])
    facts = tab.page.locator(".facts > div")
    expect(facts.filter(has_text="Broker")).to_contain_text("not reachable")
    expect(facts.filter(has_text="Queue slow")).to_contain_text("start a worker")
    expect(facts.filter(has_text="Runs that are overdue")).to_contain_text("7: no worker has taken them yet")
    expect_accessible(tab.page)


def test_an_application_without_these_routes_says_so(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab()
    for path in ("readyz", "metrics"):
        tab.page.route(f"**/{path}", lambda route: route.fulfill(status=404, json={"status": 404, "code": "not_found"}))
    tab.page.goto(f"{tab.page.url}#/system")
    tab.page.reload()
    expect(tab.page.get_by_text("system=False")).to_be_visible()
