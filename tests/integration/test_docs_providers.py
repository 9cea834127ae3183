"""Runs the code of the pages on providers: the provider that it writes passes the contract it is given there."""

from __future__ import annotations

from typing import Any

from agentkit.providers import resolve
from agentkit.providers.compat import compat_for
from tests.fences import blocks

CODE = "\n\n".join(
    block.text
    for page in ("docs/reference/providers.md", "docs/how-to/write-a-provider.md")
    for block in blocks(page)
    if block.language == "python" and block.not_executed is None
)

page: dict[str, Any] = {"__name__": __name__}
exec(compile(CODE, "providers", "exec"), page)

TestAcmeProvider = page["TestAcmeProvider"]


def test_the_providers_of_the_page_are_known_by_their_names() -> None:
    for name in ("groq", "example", "acme"):
        assert resolve(f"{name}:large")[0].name == name
    assert page["compat"] != compat_for(page["url"])
