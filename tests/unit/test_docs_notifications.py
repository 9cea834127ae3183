"""The handlers of docs/how-to/notifications.md get what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from agentkit.core.notifications import NOTIFICATION_TYPES

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "notifications.md").read_text()


def test_the_example_of_the_page_asks_and_reminds_and_pages() -> None:
    [application, _] = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    posts: list[tuple[str, str]] = []
    pages: list[str] = []

    async def send_page(text: str) -> None:
        pages.append(text)

    names: dict[str, Any] = {
        "__name__": "shop.agents",
        "post_to_slack": lambda text, key: posts.append((text, key)),
        "send_page": send_page,
    }
    exec(application, names)
    kit = names["kit"]
    with kit.testing() as testing:
        run_id = kit.start("support", "My cup is broken.", owner="ann").id
        testing.advance(23 * 3600)
        assert [text for text, _ in posts] == [f"ann asks for refund {{'cents': 500}}: /runs/{run_id}"] * 2
        assert len({key for _, key in posts}) == 2
        kit.abort(run_id, "a mistake")
        assert pages == ["a mistake"]


def test_the_page_names_every_type() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert tuple(re.findall(r"`([a-z]+\.[a-z]+)`", " ".join(row.split(" | ")[0] for row in rows))) == NOTIFICATION_TYPES
