"""What the messages of a chat look like, and what may be put into them: tables, scripts, code, files, search."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import FilePayload, expect

from tests.acceptance.chat_page import Tab
from tests.acceptance.model import script
from tests.acceptance.stack import Stack

PIXEL = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
PICTURE: FilePayload = {"name": "dot.gif", "mimeType": "image/gif", "buffer": PIXEL}
PHONE = {"width": 360, "height": 640}

DROP = """([name, type, data]) => {
    const transfer = new DataTransfer()
    transfer.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name, {type}))
    for (const kind of ["dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: transfer}))
    }
}"""
PASTE = """([name, type, data]) => {
    const transfer = new DataTransfer()
    transfer.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name, {type}))
    document.activeElement.dispatchEvent(
        new ClipboardEvent("paste", {bubbles: true, cancelable: true, clipboardData: transfer}))
}"""


def test_numbers_in_a_table_stay_whole_on_a_phone(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab(viewport=PHONE)
    rows = "\n".join(
        f"| Analytical engine {n} | 2026-11-2{n} | 1,234,567.0{n} | -12 % | 99 999 EUR |" for n in range(3)
    )
    tab.begin("support", script(f"| What | When | How much | Change | Amount |\n|-|-|-|-|-|\n{rows}\n\nDone."))
    expect(tab.answer.locator("p")).to_have_text("Done.")
    for cell in tab.answer.locator("td:nth-child(2), td:nth-child(3), td:nth-child(4)").all():
        assert cell.evaluate("e => { const r = document.createRange(); r.selectNodeContents(e); "
                             "return r.getClientRects().length }") == 1  # fmt: skip
    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("text", ["مرحبا بالعالم", "שלום עולם"])
def test_every_paragraph_has_the_direction_of_its_script(tab: Tab, text: str) -> None:
    tab.begin("support", script(f"{text}\n\nHello\n\n- {text}\n- Hello\n\n| {text} |\n|-|\n| {text} |"))
    expect(tab.answer.locator("td")).to_have_text(text)
    paragraphs = tab.answer.locator("p")
    assert [one.evaluate("e => getComputedStyle(e).direction") for one in paragraphs.all()] == ["rtl", "ltr"]
    for name in ("ul", "td"):
        assert tab.answer.locator(name).evaluate("e => getComputedStyle(e).direction") == "rtl"
    tab.page.get_by_label("Message").fill(text)
    assert tab.page.get_by_label("Message").evaluate("e => getComputedStyle(e).direction") == "rtl"


def test_a_footnote_stays_on_the_page(tab: Tab) -> None:
    tab.begin("support", script("Said.[^1]\n\n" + "More.\n\n" * 60 + "[^1]: The note itself."))
    expect(tab.answer.get_by_text("The note itself.")).to_be_visible(timeout=15_000)
    url = tab.page.url
    tab.answer.locator("sup a").click()
    expect(tab.answer.locator("li")).to_be_in_viewport()
    assert tab.page.url == url
    assert len(tab.page.context.pages) == 1
    tab.answer.locator("[data-footnote-backref]").click()
    expect(tab.answer.locator("sup a")).to_be_in_viewport()


def test_code_is_coloured_and_copied(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab(permissions=["clipboard-read", "clipboard-write"])
    tab.begin("support", script("```python\ndef answer():\n    return 42\n```\n\nThat is all."))
    expect(tab.answer.locator(".hljs-keyword").first).to_have_text("def", timeout=15_000)
    tab.press("Copy code")
    expect(tab.page.get_by_role("button", name="Copy code")).to_have_attribute("title", "Copied")
    assert tab.page.evaluate("navigator.clipboard.readText()") == "def answer():\n    return 42\n"
    tab.press("Copy answer")
    assert tab.page.evaluate("navigator.clipboard.readText()").endswith("That is all.")


def test_hostile_code_does_not_freeze_the_page(tab: Tab) -> None:
    code = "```javascript\n" + "`${" * 1500 + "\n```\n\n```css\n" + "a:not(" * 800 + "\n```\n\n"
    tab.begin("support", script(code + "Done."))
    for _ in range(2):
        expect(tab.answer).to_contain_text("Done.", timeout=20_000)
        expect(tab.answer).to_contain_text("`${" * 1500)
        tab.page.reload()


def test_a_text_is_found_also_where_it_is_folded_away(tab: Tab) -> None:
    thought = {"type": "thinking", "thinking": "A needle in the hay."}
    tab.begin("support", script([thought, {"type": "text", "text": "No Needle here, " + "hay " * 2000 + "needle."}]))
    expect(tab.answer).to_contain_text("needle.", timeout=15_000)
    tab.press("Search in this chat")
    field = tab.page.get_by_role("searchbox", name="Search in this chat")
    expect(field).to_be_focused()
    field.fill("needle")
    # Also in what the person said, which is the script.
    expect(tab.page.get_by_text("1 of 6")).to_be_visible()
    for number in range(2, 5):
        field.press("Enter")
        expect(tab.page.get_by_text(f"{number} of 6")).to_be_visible()
    expect(tab.page.locator(".thinking p")).to_be_visible()
    field.fill("pitchfork")
    expect(tab.page.get_by_text("Not found")).to_be_visible()
    field.press("Escape")
    expect(field).to_be_hidden()


@pytest.mark.parametrize("way", ["drop", "paste", "choose"])
def test_a_file_is_sent_where_the_model_takes_it(stack: Stack, tab: Tab, way: str) -> None:
    tab.page.get_by_label("Agent", exact=True).select_option("seer")
    tab.page.get_by_label("Message").focus()
    if way == "choose":
        with tab.page.expect_file_chooser() as chooser:
            tab.press("Attach files")
        chooser.value.set_files([PICTURE])
    else:
        given = ["dot.gif", "image/gif", base64.b64encode(PIXEL).decode()]
        tab.page.evaluate(DROP if way == "drop" else PASTE, given)
    expect(tab.page.get_by_role("list", name="Files of the message")).to_contain_text("dot.gif")
    with tab.page.expect_request(lambda request: request.method == "POST" and request.url.endswith("/runs")) as sent:
        tab.say("What is this?")
    body: Any = sent.value.post_data_json
    content = body["input"] if "input" in body else body["messages"][-1]["content"]
    assert content == [
        {"type": "image", "mimeType": "image/gif", "data": base64.b64encode(PIXEL).decode()},
        {"type": "text", "text": "What is this?"},
    ]
    expect(tab.page.get_by_role("list", name="Files of the message")).to_be_hidden()
    image = tab.page.locator(".user-text img")
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 1


def test_a_file_that_the_model_does_not_take_is_refused_and_the_page_stays(tab: Tab) -> None:
    tab.page.get_by_label("Agent", exact=True).select_option("support")
    expect(tab.page.get_by_role("button", name="Attach files")).to_have_count(0)
    tab.page.evaluate(DROP, ["dot.gif", "image/gif", base64.b64encode(PIXEL).decode()])
    expect(tab.page.get_by_role("alert")).to_contain_text("does not take dot.gif")
    tab.page.get_by_label("Agent", exact=True).select_option("seer")
    tab.page.evaluate(DROP, ["tool.exe", "application/x-msdownload", "TVo="])
    expect(tab.page.get_by_role("alert")).to_contain_text("does not take tool.exe")


def test_the_first_view_is_small(tab: Tab) -> None:
    expect(tab.page.get_by_label("Message")).to_be_visible()
    sizes = tab.page.evaluate(
        "performance.getEntries().filter(e => e.encodedBodySize && /assets|navigation/.test(e.name + e.entryType))"
        ".map(e => e.encodedBodySize)"
    )
    assert len(sizes) >= 4  # the page, its style, its code and the chat's
    assert sum(sizes) < 250_000
