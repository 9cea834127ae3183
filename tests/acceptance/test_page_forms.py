"""The page's form of a decision in a real browser: nothing is chosen for a person, and every mistake is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.acceptance.chat_page import Tab
from tests.acceptance.model import script
from tests.acceptance.stack import Stack
from tests.turns import call

ZONE = "Europe/Berlin"


def begin(tab: Tab, name: str, **arguments: Any) -> str:
    run_id = tab.begin("clerk", script([call(name, **arguments)], "So be it."))
    expect(tab.decision).to_be_visible()
    return run_id


def decided(stack: Stack, tab: Tab, run_id: str) -> Any:
    """What the tool was given, when the run has ended."""
    tab.expect_answer("So be it.")
    (result,) = [m for m in stack.web_b.get(run_id)["messages"] if m["role"] == "toolResult"]
    return json.loads(result["content"][0]["text"])


@pytest.mark.parametrize(("name", "answer"), [("Approve", True), ("Decline", False)])
def test_a_boolean_has_two_large_buttons_and_none_is_the_default(
    stack: Stack, tab: Tab, name: str, answer: bool
) -> None:
    run_id = begin(tab, "yes_or_no")
    expect(tab.decision.get_by_text("Shall it be?")).to_be_visible()
    for button in ("Approve", "Decline"):
        box = tab.decision.get_by_role("button", name=button).bounding_box()
        assert box is not None
        assert box["height"] >= 48
    expect(tab.decision.locator(":focus, input, [type=submit]")).to_have_count(0)
    tab.press(name)
    assert decided(stack, tab, run_id) is answer


def test_an_answer_that_the_schema_forbids_is_not_offered(stack: Stack, tab: Tab) -> None:
    run_id = begin(tab, "only_yes")
    expect(tab.decision.get_by_role("button", name="Decline")).to_have_count(0)
    tab.press("Approve")
    assert decided(stack, tab, run_id) == {"approved": True}


def test_of_several_constants_none_is_chosen_until_a_person_chooses(stack: Stack, tab: Tab) -> None:
    run_id = begin(tab, "verdict")
    expect(tab.decision.get_by_role("radio", checked=True)).to_have_count(0)
    tab.press("Submit")
    expect(tab.decision.get_by_role("radiogroup")).to_have_attribute("aria-invalid", "true")
    expect(tab.decision.get_by_text("needs a choice")).to_be_visible()
    expect(tab.decision.get_by_role("alert")).to_contain_text("Not sent")
    assert stack.web_a.get(run_id)["status"] == "paused"
    tab.decision.get_by_label("Deny it").check()
    tab.press("Submit")
    assert decided(stack, tab, run_id) == "deny"


def test_a_default_of_a_schema_chooses_nothing(stack: Stack, tab: Tab) -> None:
    run_id = begin(tab, "level")
    expect(tab.decision.get_by_role("radio", checked=True)).to_have_count(0)
    tab.press("Submit")
    assert decided(stack, tab, run_id) == {}


def test_only_the_chosen_branch_is_asked_for_and_complains(stack: Stack, tab: Tab) -> None:
    run_id = begin(tab, "way")
    expect(tab.decision.get_by_role("radio", checked=True)).to_have_count(0)
    tab.press("Submit")
    expect(tab.decision.locator(".problem:visible")).to_have_text(["is required"])
    tab.decision.get_by_label("cash").check()
    expect(tab.decision.get_by_label("number")).to_have_count(0)
    tab.decision.get_by_label("cents").fill("0")
    tab.press("Submit")
    expect(tab.decision.locator(".problem:visible")).to_have_text(["must be at least 1"])
    expect(tab.decision.get_by_label("cents")).to_be_focused()
    tab.decision.get_by_label("cents").fill("7")
    tab.press("Submit")
    assert decided(stack, tab, run_id) == {"by": {"kind": "cash", "cents": 7}}


def test_times_are_sent_as_rfc_3339_has_them(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    tab = open_tab(timezone_id=ZONE)
    run_id = begin(tab, "times")
    tab.decision.get_by_label("at", exact=True).fill("14:30")
    tab.decision.get_by_label("on", exact=True).fill("2026-07-01")
    tab.decision.get_by_label("when", exact=True).fill("2026-07-01T14:30")
    tab.press("Submit")
    answer = decided(stack, tab, run_id)
    assert answer["on"] == "2026-07-01"
    assert answer["when"] == "2026-07-01T14:30:00+02:00"
    assert answer["at"].startswith("14:30:00+0")


def test_a_time_without_a_zone_stays_one_and_does_not_block(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    tab = open_tab(timezone_id=ZONE)
    run_id = begin(tab, "times", since="2026-01-01T10:00:00")
    tab.press("Edit input")
    expect(tab.decision.get_by_label("since")).to_have_value("2026-01-01T10:00")
    tab.decision.get_by_label("since").fill("2026-01-01T11:00:00")
    for name, value in (("at", "00:00"), ("on", "2026-07-01"), ("when", "2026-07-01T00:00")):
        tab.decision.get_by_label(name, exact=True).fill(value)
    tab.press("Submit")
    assert decided(stack, tab, run_id)["since"] == "2026-01-01T11:00:00"


def test_the_items_of_a_tuple_have_fields(stack: Stack, tab: Tab) -> None:
    run_id = begin(tab, "pair")
    expect(tab.decision.get_by_role("button", name="Add")).to_have_count(0)
    tab.press("Submit")
    expect(tab.decision.locator(".problem:visible")).to_have_text(["is required", "is required"])
    expect(tab.decision.get_by_label("Name")).to_be_focused()
    tab.decision.get_by_label("Name").fill("Ada")
    tab.decision.get_by_label("pair 2").fill("x")
    tab.press("Submit")
    expect(tab.decision.locator(".problem:visible")).to_have_text(["must be a whole number"])
    tab.decision.get_by_label("pair 2").fill("3")
    tab.press("Submit")
    assert decided(stack, tab, run_id) == {"pair": ["Ada", 3]}


@pytest.mark.parametrize("size", [{"width": 1180, "height": 700}, {"width": 360, "height": 640}])
def test_a_tall_form_opens_at_its_top_and_scrolls_to_the_first_mistake(
    open_tab: Callable[..., Tab], size: dict[str, int]
) -> None:
    tab = open_tab(viewport=size)
    begin(tab, "tall")
    expect(tab.decision.get_by_label("field_19")).to_be_visible()
    expect(tab.decision.get_by_role("heading")).to_be_in_viewport()
    tab.decision.get_by_label("field_0", exact=True).fill("x")
    tab.decision.get_by_role("button", name="Submit").press("Enter")
    expect(tab.decision.get_by_label("field_1", exact=True)).to_be_focused()
    expect(tab.decision.get_by_label("field_1", exact=True)).to_be_in_viewport()
    expect(tab.decision.get_by_label("field_1", exact=True)).to_have_attribute("aria-invalid", "true")
    described = tab.decision.get_by_label("field_1", exact=True).get_attribute("aria-describedby")
    expect(tab.page.locator(f"[id='{described}']")).to_have_text("is required")
    expect(tab.decision.get_by_role("alert")).to_contain_text("Not sent")


def test_a_schema_that_needs_itself_opens_level_by_level(stack: Stack, tab: Tab) -> None:
    run_id = begin(tab, "tree")
    tab.decision.get_by_label("name").fill("one")
    tab.press("+ Step")
    tab.decision.get_by_label("name").nth(1).fill("two")
    tab.press("Submit")
    assert decided(stack, tab, run_id) == {"name": "one", "next": {"name": "two"}}


def test_what_may_be_null_is_a_field_that_may_stay_empty(stack: Stack, tab: Tab) -> None:
    run_id = begin(tab, "maybe")
    tab.decision.get_by_label("limit").fill("12")
    tab.press("Submit")
    expect(tab.decision.locator(".problem:visible")).to_have_text(["must be at most 9"])
    tab.decision.get_by_label("limit").fill("")
    tab.press("Submit")
    assert decided(stack, tab, run_id) == {"name": None, "limit": None}


def test_a_field_that_depends_on_another_appears_with_it(stack: Stack, tab: Tab) -> None:
    run_id = begin(tab, "reasoned")
    expect(tab.decision.get_by_label("why")).to_have_count(0)
    tab.decision.get_by_label("no").check()
    tab.press("Submit")
    expect(tab.decision.get_by_label("why")).to_be_focused()
    tab.decision.get_by_label("why").fill("too late")
    tab.press("Submit")
    assert decided(stack, tab, run_id) == {"grant": "no", "why": "too late"}


def test_what_the_server_finds_wrong_is_shown_at_its_field(tab: Tab) -> None:
    tab.begin("desk", script([call("file")], "It is filed."))
    tab.decision.get_by_label("shelf").fill("a")
    tab.decision.get_by_label("note").fill("x")
    tab.press("Submit")
    expect(tab.decision.get_by_label("shelf")).to_be_focused()
    expect(tab.decision.get_by_label("shelf")).to_have_attribute("aria-invalid", "true")
    tab.decision.get_by_label("shelf").fill("B-7")
    expect(tab.decision.get_by_label("shelf")).to_have_attribute("aria-invalid", "false")
    tab.press("Submit")
    tab.expect_answer("It is filed.")


def test_what_will_be_executed_is_shown_whole_and_nothing_hides_in_it(tab: Tab) -> None:
    order_id = "A-1 \u202eevil\u202c\u200b" + "x" * 3000 + " end"
    tab.begin("support", script([call("refund", order_id=order_id, cents=500)], "Done."))
    shown = tab.decision.get_by_label("What will be executed")
    expect(shown).to_contain_text("\\u202eevil\\u202c\\u200b")
    expect(shown).to_contain_text("x" * 3000 + " end")
    assert shown.locator("dd").first.evaluate("e => e.scrollHeight <= e.clientHeight + 1")
    expect(tab.decision.get_by_text("Asked by the agent support")).to_be_visible()
