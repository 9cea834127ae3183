"""Takes the pictures of the page in docs/images, from a real `agentkit dev` in a headless Chromium.

python -m examples.chat.screenshots [FOLDER]
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.browser import chromium
from tests.servers import free_port

DESKTOP = {"width": 1180, "height": 800}
PHONE = {"width": 390, "height": 844}


@contextmanager
def desk() -> Iterator[str]:
    """The support desk, with a scripted model and new data; its URL."""
    url = f"http://127.0.0.1:{free_port()}"
    env = {key: value for key, value in os.environ.items() if not key.startswith(("AGENTKIT_", "OPENAI_"))}
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-c", "from agentkit.cli import main; main()", "dev", "--port", url.rpartition(":")[2]]
        with subprocess.Popen([*words, "--data", folder], env=env, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert any("Ctrl-C stops everything" in line for line in process.stdout), "agentkit dev has ended"
                yield url
            finally:
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=40)


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_label("Message").press("Enter")


def ended(page: Page, text: str) -> None:
    expect(page.locator(".markdown").filter(has_text=text)).to_be_visible(timeout=20_000)
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()


def visit(browser: Browser, url: str, size: dict[str, int], scheme: str) -> Page:
    page = browser.new_context(
        viewport=size, color_scheme=scheme, device_scale_factor=1.5 if size is PHONE else 1, locale="en-US"
    ).new_page()
    page.goto(url)
    return page


def take(folder: Path) -> None:
    with desk() as url, chromium() as browser:

        def picture(page: Page, name: str) -> None:
            page.mouse.move(0, 0)
            page.screenshot(path=folder / f"{name}.png", animations="disabled", caret="hide")

        page = visit(browser, url, DESKTOP, "light")
        say(page, "Which orders does Ada have?")
        ended(page, "Here is what I found")
        page.goto(url)
        say(page, "Where is order A-1002?")
        ended(page, "Order A-1002 is")
        page.goto(url)
        say(page, "Please refund order A-1001, it arrived broken.")
        page.get_by_label("note").fill("Photos of the damage received")
        expect(page.get_by_role("navigation").get_by_text("waiting for an answer")).to_be_visible()
        page.get_by_role("button", name="Approve").scroll_into_view_if_needed()
        picture(page, "page-desktop")

        waiting = visit(browser, f"{url}/#/waiting", DESKTOP, "light")
        expect(waiting.get_by_role("button", name="Approve")).to_be_visible()
        picture(waiting, "page-waiting")

        phone = visit(browser, page.url, PHONE, "light")
        expect(phone.get_by_role("button", name="Approve")).to_be_visible()
        phone.get_by_role("button", name="Approve").scroll_into_view_if_needed()
        picture(phone, "page-phone")

        page.get_by_role("button", name="Approve").click()
        ended(page, "The money arrives within three working days")
        page.emulate_media(color_scheme="dark")
        page.get_by_text("Thought").click()
        page.locator("[data-tool=refund] summary").click()
        expect(page.get_by_role("navigation").get_by_text("waiting for an answer")).to_be_hidden()
        picture(page, "page-desktop-dark")

        runs = visit(browser, f"{url}/#/runs", DESKTOP, "light")
        expect(runs.get_by_role("main").get_by_role("listitem")).to_have_count(3)
        picture(runs, "page-runs")
        runs.get_by_role("main").get_by_role("link", name="Please refund order A-1001").click()
        expect(runs.get_by_role("heading", name="Turn 2")).to_be_visible()
        picture(runs, "page-run")

        phone = visit(browser, url, PHONE, "dark")
        expect(phone.get_by_role("button", name="Please refund order A-1001")).to_be_visible()
        picture(phone, "page-phone-dark")


if __name__ == "__main__":
    into = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2] / "docs" / "images")
    into.mkdir(parents=True, exist_ok=True)
    take(into)
