"""The page's view of one run: its turns and steps, what it waits for, and what can be done with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.acceptance.chat_page import Tab
from tests.acceptance.model import script
from tests.acceptance.stack import Stack
from tests.accessibility import SCREENS, expect_accessible
from tests.turns import call

HOSTILE = "<img src=x onerror=alert(1)>\u202egnp.\u200b"
SHOWN = r"<img src=x onerror=alert(1)>\u202egnp.\u200b"
REFUND = call("refund", order_id="A-1", cents=500)
LOOK_UP = call("look_up", order_id="A-1")


def begin(stack: Stack, message: str, status: str, agent: str = "support", **body: Any) -> str:
    response = stack.web_a.http.post("/runs", json={"agent": agent, "input": message, **body})
    assert response.status_code == 202, response.text
    run_id: str = response.json()["id"]
    stack.wait_for(run_id, status)
    return run_id


def steps(tab: Tab) -> Locator:
    return tab.page.locator(".steps > li")


def test_turns_steps_tokens_and_results_are_shown(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    run_id = begin(stack, script([LOOK_UP], "It was delivered."), "completed", metadata={"title": "Where is it?"})
    tab = open_tab(f"/#/runs/{run_id}")
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("Where is it?")
    expect(tab.page.get_by_role("heading", level=2)).to_have_count(2)
    expect(steps(tab)).to_have_count(3)
    expect(steps(tab).nth(0)).to_contain_text("test-model")
    expect(steps(tab).nth(0)).to_contain_text("tokens")
    expect(steps(tab).nth(1)).to_contain_text("look_up")
    expect(steps(tab).nth(1)).to_contain_text("done")
    tab.page.get_by_text("Arguments and result of look_up").press("Enter")
    expect(steps(tab).nth(1)).to_contain_text("A-1 was delivered")
    expect(tab.page.locator(".facts")).to_contain_text("42")  # tokens of both turns


def test_a_run_that_goes_on_is_followed_and_answered_there(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    run_id = begin(stack, script([REFUND], "It is done."), "paused")
    tab = open_tab(f"/#/runs/{run_id}")
    expect(steps(tab).nth(1)).to_contain_text("for a decision")
    expect(steps(tab).nth(1)).to_contain_text("waits")
    tab.press("Approve")
    expect(steps(tab)).to_have_count(3, timeout=15_000)
    expect(steps(tab).nth(1)).to_contain_text("for a decision: approved")
    expect(tab.decision).to_have_count(0)
    expect(tab.page.locator(".facts")).to_contain_text("done")


def test_attempts_and_their_errors_are_shown(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    run_id = begin(stack, script("At last.", name="page-run-busy", busy=2), "completed", agent="retrying")
    tab = open_tab(f"/#/runs/{run_id}")
    expect(steps(tab)).to_have_count(1)
    expect(steps(tab).first).to_contain_text("Attempt 2 of 3 after")
    expect(steps(tab).first).to_contain_text("Attempt 3 of 3 after")
    expect(steps(tab).first).to_contain_text("3 attempts")


def test_a_run_is_stopped_after_a_question_and_tried_again(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    run_id = begin(stack, script([REFUND], "It is done."), "paused", metadata={"title": "A refund"})
    tab = open_tab(f"/#/runs/{run_id}")
    tab.page.get_by_role("button", name="Stop …").press("Enter")
    expect(tab.page.get_by_role("button", name="Stop it for good")).to_be_focused()
    tab.press("Let it go on")
    tab.press("Stop …")
    tab.page.get_by_role("button", name="Stop it for good").press("Enter")
    stack.wait_for(run_id, "aborted")
    expect(tab.page.locator(".facts")).to_contain_text("stopped")
    tab.press("Try again in a new run")
    expect(tab.page.get_by_label("Message", exact=True)).to_be_visible()
    again = tab.run_id(before=run_id)
    run = stack.wait_for(again, "paused")
    assert (run["origin"]["runId"], run["metadata"]["title"]) == (run_id, "A refund")


def test_a_run_is_forked_after_a_turn(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    run_id = begin(stack, script([LOOK_UP], "It was delivered."), "completed")
    tab = open_tab(f"/#/runs/{run_id}")
    tab.press("Fork after turn 1 …")
    tab.page.get_by_label("Go on after turn 1 in a new run with").fill(script("Then otherwise."))
    tab.press("Start")
    expect(tab.page.get_by_label("Message", exact=True)).to_be_visible()
    fork = tab.run_id(before=run_id)
    assert stack.wait_for(fork, "completed")["origin"] == {"runId": run_id, "turn": 1}


def test_the_runs_of_sub_agents_are_linked_both_ways(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    question = script([LOOK_UP], "It was delivered.")
    run_id = begin(stack, script([call("support", input=question)], "All done."), "completed", agent="boss")
    tab = open_tab(f"/#/runs/{run_id}")
    tab.page.get_by_role("link", name="The sub-agent’s run").click()
    expect(steps(tab).nth(1)).to_contain_text("look_up")
    tab.page.get_by_role("link", name="the run that asked it").click()
    assert tab.page.url.endswith(run_id)


def test_raw_events_come_on_demand_a_hundred_at_a_time(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    run_id = begin(stack, script("word " * 400, delay=0.005), "completed")
    asked: list[str] = []
    tab = open_tab()
    tab.page.on("request", lambda request: asked.append(request.url))
    tab.page.goto(f"{tab.page.url}#/runs/{run_id}")
    tab.page.reload()
    expect(steps(tab)).to_have_count(1)
    before = sum(url.endswith("/events") for url in asked)
    tab.page.get_by_text("Raw events").press("Enter")
    rows = tab.page.locator(".raw li")
    expect(rows.first).to_contain_text("agent_start")
    assert sum(url.endswith("/events") for url in asked) == before + 1
    last = stack.web_a.get(run_id)["lastSeq"]
    expect(rows).to_have_count(min(100, last))
    if last > 100:
        tab.page.locator(".raw").get_by_role("button", name="Show more").click()
        expect(rows).to_have_count(min(200, last))


def test_of_a_run_whose_events_are_gone_the_messages_are_shown(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    run_id = begin(stack, script([LOOK_UP], "It was delivered."), "completed")
    reset = {"type": "stream_reset", "run": stack.web_a.get(run_id)}
    tab = open_tab("/#/system")
    body = f"data: {json.dumps(reset)}\n\n"
    tab.page.route("**/events", lambda route: route.fulfill(body=body, content_type="text/event-stream"))
    tab.page.goto(f"{tab.page.url.partition('#')[0]}#/runs/{run_id}")
    expect(tab.page.get_by_text("The first events are not kept any more")).to_be_visible()
    expect(steps(tab)).to_have_count(3)
    expect(steps(tab).nth(1)).to_contain_text("look_up")
    expect(steps(tab).nth(1)).to_contain_text("done")


def test_a_run_that_is_not_there_leads_back_to_the_others(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab("/#/runs/01a20000-0000-7000-8000-000000000000")
    expect(tab.page.get_by_role("alert").get_by_text("There is no such run (any more).")).to_be_visible()
    tab.page.get_by_role("link", name="All runs").click()
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("Runs")


@pytest.mark.parametrize("screen", list(SCREENS))
def test_everybody_can_use_it_whatever_texts_it_shows(stack: Stack, open_tab: Callable[..., Tab], screen: str) -> None:
    calls = [call("look_up", order_id=HOSTILE + "long" * 100), call("refund", order_id=HOSTILE, cents=1)]
    run_id = begin(stack, script(calls, "Done."), "paused", metadata={"title": HOSTILE})
    tab = open_tab(f"/#/runs/{run_id}", **SCREENS[screen])
    expect(tab.page.get_by_role("heading", level=1)).to_have_text(SHOWN)
    expect(tab.decision).to_have_count(1)
    tab.page.get_by_text("Arguments and result of look_up").click()
    tab.page.get_by_text("Raw events").click()
    expect(tab.page.locator(".raw li").first).to_contain_text("agent_start")
    expect(tab.page.locator(".raw")).to_contain_text(r"\u202egnp.\u200b")
    expect_accessible(tab.page)
