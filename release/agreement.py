"""Whether everything that names the version names the same one: package, npm package, manifests, changelog, tag.

It reads files and no history, so that a test can ask it of every commit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path

__all__ = ["differences"]

_HEADING = re.compile(r"^## \[([^\]]+)\](?: - (\S+))?$", re.MULTILINE)


def differences(root: Path, tags: Sequence[str] = ()) -> list[str]:
    """List what does not agree with `agentkit.__version__`, one sentence each.

    `tags`: those of the commit that is released. With a tag, nothing may stand under [Unreleased].
    """
    version = _first(root / "agentkit" / "__init__.py", r'^__version__ = "([^"]+)"$')
    named = {
        "clients/react/package.json": json.loads((root / "clients/react/package.json").read_text())["version"],
        "deploy/kubernetes/kustomization.yaml": _first(
            root / "deploy/kubernetes/kustomization.yaml", r"^ +newTag: (\S+)$"
        ),
    }
    lock = json.loads((root / "clients/react/package-lock.json").read_text())
    named["clients/react/package-lock.json"] = lock["version"]
    named["clients/react/package-lock.json, packages"] = lock["packages"][""]["version"]
    found = [f"{place} has {other}, agentkit {version}" for place, other in named.items() if other != version]
    found += _of_changelog((root / "CHANGELOG.md").read_text(), version, is_released=bool(tags))
    if tags and f"v{version}" not in tags:
        found.append(f"the commit has the tag {', '.join(tags)}, not v{version}")
    return found


def _of_changelog(text: str, version: str, *, is_released: bool) -> list[str]:
    headings = list(_HEADING.finditer(text))
    names = [heading[1] for heading in headings]
    if names[:2] != ["Unreleased", version]:
        return [f"CHANGELOG.md begins with {names[:2]}, not with Unreleased and {version}"]
    found = []
    if is_released and text[headings[0].end() : headings[1].start()].strip():
        found.append("CHANGELOG.md has entries under [Unreleased], and the commit has a tag")
    try:
        date.fromisoformat(headings[1][2] or "")
    except ValueError:
        found.append(f"CHANGELOG.md dates {version} {headings[1][2]!r}, not as YYYY-MM-DD")
    for name in names:
        if not re.search(rf"^\[{re.escape(name)}\]: https://\S+$", text, re.MULTILINE):
            found.append(f"CHANGELOG.md has no link for [{name}]")
    return found


def _first(path: Path, pattern: str) -> str:
    match = re.search(pattern, path.read_text(), re.MULTILINE)
    return match[1] if match else "none"
