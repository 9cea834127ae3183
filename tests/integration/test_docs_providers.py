"""Runs the code of docs/providers.md: the provider that it writes passes the contract it is given there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from agentkit.providers import resolve
from agentkit.providers.compat import compat_for

PAGE = Path(__file__).parents[2] / "docs" / "providers.md"
CODE = "\n\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE))

page: dict[str, Any] = {"__name__": __name__}
exec(compile(CODE, str(PAGE), "exec"), page)

TestAcmeProvider = page["TestAcmeProvider"]


def test_the_providers_of_the_page_are_known_by_their_names() -> None:
    for name in ("groq", "example", "acme"):
        assert resolve(f"{name}:large")[0].name == name
    assert page["compat"] != compat_for(page["url"])
