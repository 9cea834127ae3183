"""The page as a person uses it: a browser's tab with the chat, and words for what one does and sees there."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.waiting import wait_until

__all__ = ["Tab"]


class Tab:
    """One tab. `close` fails where the page threw, or its policy forbade something that it tried."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.page: Page = context.new_page()
        self.page.set_default_timeout(10_000)
        self._mistakes: list[str] = []
        self.page.on("pageerror", lambda error: self._mistakes.append(str(error)))
        self.page.on("console", self._listen)
        self.page.goto(url)

    def _listen(self, message: Any) -> None:
        if "Content Security Policy" in message.text:
            self._mistakes.append(message.text)

    def close(self) -> None:
        self.page.close()
        assert not self._mistakes

    # -- what a person does

    def begin(self, agent: str, message: str) -> str:
        """A new run of this agent; its id, which the URL has from then on."""
        self.page.get_by_label("Agent", exact=True).select_option(agent)
        self.say(message)
        return self.run_id()

    def say(self, text: str) -> None:
        self.page.get_by_label("Message", exact=True).fill(text)
        self.page.get_by_label("Message", exact=True).press("Enter")

    def run_id(self, before: str = "") -> str:
        """The run that the URL names, when it names one other than `before`."""

        def named() -> str:
            (run_id,) = parse_qs(urlsplit(self.page.url).query).get("run", [""])
            self.page.wait_for_timeout(0)  # lets Playwright learn of a changed URL
            return "" if run_id == before else run_id

        return wait_until(named, what="a run in the URL")

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    # -- what a person sees

    @property
    def answer(self) -> Locator:
        """The text that the agent said last."""
        return self.page.locator(".markdown").last

    @property
    def decision(self) -> Locator:
        return self.page.locator(".decision")

    @property
    def receipt(self) -> Locator:
        """What the thread says of a decision that was given, or was not."""
        return self.page.locator(".receipt")

    @property
    def announcement(self) -> Locator:
        """What a screen reader announces."""
        return self.page.locator("p.hidden[role=status]")

    def tool(self, name: str) -> Locator:
        return self.page.locator(f"[data-tool={name}]")

    def expect_tool(self, name: str, state: str) -> None:
        expect(self.tool(name)).to_have_attribute("data-state", state, timeout=15_000)

    def expect_answer(self, text: str) -> None:
        """The agent has said just this, and nothing goes on any more."""
        expect(self.answer).to_have_text(text, timeout=20_000)
        expect(self.page.get_by_role("button", name="Stop")).to_be_hidden()

    def texts(self) -> list[str]:
        """All that is said in the thread, by both."""
        return self.page.locator(".bubble, .markdown").all_inner_texts()
