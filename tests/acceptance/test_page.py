"""The page at `/` in a real browser, over real processes: what a person does there, and what comes of it."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.acceptance.chat_page import Tab
from tests.acceptance.model import script
from tests.acceptance.stack import Stack
from tests.turns import call

REFUND = call("refund", order_id="A-1", cents=500)
PIXEL = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
SENTENCE = "This is said slowly enough that one can watch it being said."


def test_a_message_is_answered_while_one_watches(stack: Stack, tab: Tab) -> None:
    thought = {"type": "thinking", "thinking": "Slowly, then."}
    run_id = tab.begin("support", script([thought, {"type": "text", "text": SENTENCE}], delay=0.5))
    expect(tab.answer).to_contain_text("This is said")
    expect(tab.answer).not_to_contain_text("being said")
    expect(tab.page.get_by_role("button", name="Stop")).to_be_visible()
    tab.expect_answer(SENTENCE)
    tab.page.get_by_text("Thought").click()
    expect(tab.page.locator(".thinking p")).to_have_text("Slowly, then.")
    expect(tab.page.get_by_text("21 tokens")).to_be_visible()
    stack.wait_for(run_id, "completed")


def test_the_conversation_goes_on_in_a_run_of_its_own(stack: Stack, tab: Tab) -> None:
    first = tab.begin("support", script("One."))
    tab.expect_answer("One.")
    tab.say(script("Two."))
    second = tab.run_id(before=first)
    tab.expect_answer("Two.")
    assert [message["role"] for message in stack.web_b.get(second)["messages"]] == ["user", "assistant"] * 2
    # Recent runs show conversations: these two are one, and its address is the newer.
    link = tab.page.get_by_role("navigation", name="Recent runs").locator("[aria-current=page]")
    expect(link).to_have_count(1)
    assert tab.page.locator(f"a[href*='{first}']").count() == 0


def test_an_approved_tool_is_executed(stack: Stack, tab: Tab) -> None:
    run_id = tab.begin("support", script([REFUND], "It is done."))
    tab.expect_tool("refund", "waiting")
    assert not stack.ledger.entries(run=run_id)
    tab.press("Approve")
    tab.expect_answer("It is done.")
    tab.expect_tool("refund", "done")
    expect(tab.decision).to_be_hidden()
    tab.tool("refund").locator("summary").click()
    expect(tab.tool("refund").get_by_text("refunded 500 for A-1")).to_be_visible()
    assert len(stack.ledger.entries(run=run_id, tool="refund")) == 1


def test_a_rejected_tool_is_not_executed_and_the_agent_learns_why(stack: Stack, tab: Tab) -> None:
    run_id = tab.begin("support", script([REFUND], "Then not."))
    tab.press("Reject …")
    tab.page.get_by_label("Why not?").fill("too much")
    tab.press("Reject")
    tab.expect_answer("Then not.")
    tab.expect_tool("refund", "refused")
    assert not stack.ledger.entries(run=run_id)
    (result,) = [m for m in stack.web_b.get(run_id)["messages"] if m["role"] == "toolResult"]
    assert "too much" in result["content"][0]["text"]


def test_a_changed_input_is_what_is_executed(stack: Stack, tab: Tab) -> None:
    run_id = tab.begin("support", script([REFUND], "It is done."))
    tab.press("Edit input")
    expect(tab.decision.get_by_label("order_id")).to_have_value("A-1")
    tab.decision.get_by_label("cents").fill("")
    tab.press("Approve")
    expect(tab.decision.get_by_text("is required")).to_be_visible()
    tab.decision.get_by_label("cents").fill("200")
    tab.press("Approve")
    tab.expect_answer("It is done.")
    (result,) = [m for m in stack.web_b.get(run_id)["messages"] if m["role"] == "toolResult"]
    assert result["content"][0]["text"] == "refunded 200 for A-1"


def test_a_decision_of_lists_of_anything_and_of_foreign_patterns_can_be_given(stack: Stack, tab: Tab) -> None:
    run_id = tab.begin("desk", script([call("file")], "It is filed."))
    tab.decision.get_by_label("shelf").fill("a")
    tab.press("+ marks")
    tab.press("Add marks")
    tab.decision.get_by_label("marks 1").fill("blue")
    tab.decision.get_by_label("note").fill("by hand")
    tab.press("Submit")
    expect(tab.page.get_by_role("alert")).to_contain_text("shelf")  # the server knows the pattern
    tab.decision.get_by_label("shelf").fill("B-7")
    tab.press("Submit")
    tab.expect_answer("It is filed.")
    (result,) = [m for m in stack.web_b.get(run_id)["messages"] if m["role"] == "toolResult"]
    assert result["content"][0]["text"] == "B-7: ['blue'], by hand"


def test_a_pattern_that_backtracks_is_left_to_the_server(stack: Stack, tab: Tab) -> None:
    run_id = tab.begin("desk", script([call("stamp")], "It is stamped."))
    tab.press("Submit")
    tab.decision.get_by_label("code").fill("a" * 40 + "!")
    tab.press("Submit")
    expect(tab.page.get_by_role("alert")).to_contain_text("code")
    tab.decision.get_by_label("code").fill("aaa")
    tab.press("Submit")
    tab.expect_answer("It is stamped.")
    (result,) = [m for m in stack.web_b.get(run_id)["messages"] if m["role"] == "toolResult"]
    assert result["content"][0]["text"] == "stamped aaa"


def test_a_form_that_does_not_come_gives_way_to_json(stack: Stack, tab: Tab) -> None:
    tab.page.route("**/assets/SchemaForm-*.js", lambda route: route.abort())
    run_id = tab.begin("desk", script([call("file")], "It is filed."))
    tab.press("Submit")
    expect(tab.decision.get_by_label("Answer, as text or JSON")).to_be_focused()
    tab.decision.get_by_label("Answer, as text or JSON").fill('{"shelf": "B-7", "note": 1, "marks": []}')
    tab.press("Submit")
    tab.expect_answer("It is filed.")
    assert len(stack.ledger.entries(run=run_id, tool="file")) == 1


def test_a_tab_that_opens_in_the_background_is_ready_when_it_is_shown(tab: Tab) -> None:
    run_id = tab.begin("support", script("One."))
    tab.expect_answer("One.")
    tab.page.add_init_script("Object.defineProperty(document, 'hidden', {get: () => true})")
    tab.page.goto(tab.page.url)
    tab.expect_answer("One.")
    assert tab.run_id() == run_id


def test_two_decisions_of_one_turn_are_answered_one_by_one(stack: Stack, tab: Tab) -> None:
    run_id = tab.begin("support", script([REFUND, call("refund", order_id="B-2", cents=1)], "Both are done."))
    expect(tab.decision).to_have_count(2)
    expect(tab.announcement).to_have_text("refund waits for your answer (1 of 2).")
    for left, name in ((1, "Decline"), (0, "Approve")):
        tab.decision.first.get_by_role("button", name=name).press("Enter")
        expect(tab.decision).to_have_count(left)
        if left:  # the focus went on to what is to be answered next, and the answered call is still to come
            expect(tab.decision).to_be_focused()
            expect(tab.announcement).to_have_text("refund waits for your answer.")
            expect(tab.tool("refund").first).to_have_attribute("data-state", "next")
    expect(tab.page.get_by_label("Message")).to_be_focused()
    tab.expect_answer("Both are done.")
    assert len(stack.ledger.entries(run=run_id, tool="refund")) == 2


def test_a_stopped_run_keeps_what_was_said_and_another_may_follow(stack: Stack, tab: Tab) -> None:
    first = tab.begin("support", script(SENTENCE * 20, delay=0.05))
    expect(tab.answer).to_contain_text("This is said")
    tab.page.get_by_role("button", name="Stop").press("Enter")
    expect(tab.page.locator(".mark")).to_have_text("Stopped")
    expect(tab.page.get_by_label("Message")).to_be_focused()
    stack.wait_for(first, "aborted")
    expect(tab.answer).to_contain_text("This is said")
    tab.say(script("Here again."))
    tab.expect_answer("Here again.")


def test_what_is_said_while_it_works_is_seen_by_the_agent(stack: Stack, tab: Tab) -> None:
    run_id = tab.begin("support", script(SENTENCE, delay=0.08))
    expect(tab.answer).to_contain_text("This is")
    tab.say(script("I read you."))
    expect(tab.page.get_by_text("It sees this at its next step")).to_be_visible()
    tab.expect_answer("I read you.")
    expect(tab.page.get_by_text("It sees this at its next step")).to_be_hidden()
    assert len(tab.texts()) == 4
    stack.wait_for(run_id, "completed")


def test_what_a_model_says_is_text_and_never_code(tab: Tab) -> None:
    said = (
        "<b>bold?</b> <img src=x onerror=\"document.title='owned'\"> [a link](javascript:alert(1)) "
        "![seen](http://127.0.0.1:9/pixel.png)"
    )
    tab.begin("support", script(said))
    tab.expect_answer("<b>bold?</b> <img src=x onerror=\"document.title='owned'\"> a link seen")
    assert tab.answer.locator("img, b, script").count() == 0
    assert tab.answer.locator("[href^=javascript]").count() == 0
    assert tab.page.title().endswith("agentkit")


def test_images_documents_and_audio_are_shown_and_no_url_is_fetched(stack: Stack, open_tab: Callable[..., Tab]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/a.png"
        blocks = [
            {"type": "image", "url": url},
            {"type": "image", "data": PIXEL, "mimeType": "image/gif"},
            {"type": "document", "data": "aGk=", "mimeType": "text/plain", "name": "a.txt"},
            {"type": "audio", "data": "aGk=", "mimeType": "audio/wav"},
        ]
        asked = {"role": "assistant", "content": [{"type": "toolCall", "id": "c", "name": "look_up", "arguments": {}}]}
        messages = [
            {"role": "user", "content": blocks},
            asked,
            {"role": "toolResult", "toolCallId": "c", "toolName": "look_up", "content": blocks},
            {"role": "assistant", "content": [{"type": "text", "text": "I see."}]},
            {"role": "user", "content": script("Done.")},
        ]
        response = stack.web_b.http.post("/runs", json={"agent": "support", "messages": messages})
        assert response.status_code == 202, response.text
        tab = open_tab(f"/?run={response.json()['id']}")
        tab.expect_answer("Done.")
        tab.tool("look_up").locator("summary").click()
        for place in (tab.page.locator(".user-text").first, tab.tool("look_up")):
            expect(place.locator(f"a[href='{url}']")).to_be_visible()
            expect(place.locator("a[download='a.txt']")).to_have_attribute("href", "data:text/plain;base64,aGk=")
            expect(place.locator("audio")).to_be_visible()
            assert place.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 1
        expect(tab.page.locator(".bubble")).to_have_count(1)  # none for a message without text
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_a_text_that_no_parser_survives_is_shown_as_it_is(tab: Tab) -> None:
    tab.begin("support", script(">" * 3000))
    tab.expect_answer(">" * 3000)
    tab.page.reload()
    tab.expect_answer(">" * 3000)


HOSTILE = {
    "quotes": ">" * 300_000,
    "quotes apart": "> " * 150_000,
    "bars": "|" * 300_000,
    "a table of bars": "a|b\n-|-\n" + "|" * 300_000,
    "lists": "1. " * 100_000,
    "many quotes": (">" * 5000 + "\n\n") * 60,
    "many tables": ("a|b\n-|-\n" + "|" * 9000 + "\n\n") * 33,
    "links": ("[a](" * 2400 + "\n\n") * 31,
}


@pytest.mark.parametrize("kind", list(HOSTILE))
def test_three_hundred_kilobytes_of_marks_do_not_freeze_the_page(
    stack: Stack, open_tab: Callable[..., Tab], kind: str
) -> None:
    run_id = stack.web_a.begin("support", script(HOSTILE[kind]))
    stack.wait_for(run_id, "completed")
    tab = open_tab()
    tab.page.add_init_script(
        "window.longest = 0; new PerformanceObserver(list => list.getEntries().forEach("
        "task => { window.longest = Math.max(window.longest, task.duration) })).observe({entryTypes: ['longtask']})"
    )
    tab.page.goto(f"http://127.0.0.1:{stack.web_a.port}/?run={run_id}")
    expect(tab.answer).to_be_visible(timeout=20_000)
    assert len(tab.answer.inner_text()) > 10_000
    assert tab.page.evaluate("window.longest") < 5_000  # milliseconds, on a machine that does other things too


def test_a_long_text_is_markdown_to_its_end(tab: Tab) -> None:
    section = "## Part\n\n" + "Some **bold** words. " * 40 + "\n\n```\ncode\n\n# no heading\n```\n\n"
    tab.begin("support", script(section * 20 + "The *end*."))
    expect(tab.answer.locator("em")).to_have_text("end", timeout=30_000)
    expect(tab.answer.locator("h2")).to_have_count(20)
    expect(tab.answer.locator("pre code")).to_have_count(20)
    expect(tab.answer.locator("h1, pre.plain")).to_have_count(0)


def test_a_failed_run_says_so_and_can_be_tried_again(stack: Stack, tab: Tab) -> None:
    first = tab.begin("support", script([call("look_up", order_id="A-1")]))  # the script ends where more is asked for
    expect(tab.page.get_by_role("alert")).to_contain_text("The run failed", timeout=15_000)
    stack.wait_for(first, "failed")
    tab.press("Try again")
    tab.run_id(before=first)


def test_a_refusal_is_no_failed_run(tab: Tab) -> None:
    problem = {"status": 413, "code": "payload_too_large", "detail": "the body is larger than 10 MB"}
    tab.page.route("**/runs", lambda route: route.fulfill(status=413, json=problem))
    tab.say("Hello")
    expect(tab.page.get_by_role("alert").get_by_text("the body is larger than 10 MB", exact=True)).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_all_is_in_reach(open_tab: Callable[..., Tab], scheme: str) -> None:
    tab = open_tab(viewport={"width": 360, "height": 640}, has_touch=True, color_scheme=scheme)
    run_id = tab.begin("support", script([REFUND], "It is done."))
    expect(tab.decision.get_by_role("button", name="Approve")).to_be_in_viewport()
    tab.press("New chat")
    tab.press("Show recent runs")
    expect(tab.page.get_by_role("button", name="Close", exact=True).last).to_be_focused()
    expect(tab.page.locator("main")).to_have_attribute("inert", "")  # what lies behind is out of reach
    tab.page.keyboard.press("Escape")
    expect(tab.page.get_by_role("button", name="Show recent runs")).to_be_focused()
    tab.press("Show recent runs")
    tab.page.get_by_role("navigation").locator(f"a[href*='{run_id}']").click()
    expect(tab.decision).to_be_visible()
    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.press("Stop")


def test_an_unknown_run_is_reported_calmly(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab("/?run=01a20000-0000-7000-8000-000000000000")
    expect(tab.page.get_by_text("There is no such run")).to_be_visible()
    tab.page.get_by_role("main").get_by_role("button", name="New chat").click()
    expect(tab.page.get_by_label("Message")).to_be_visible()
