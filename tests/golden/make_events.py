"""Makes the golden logs: tests/golden/events/<case>.json, one run each: `{description, status, events, messages}`.

    python -m tests.golden.make_events [FOLDER]

They are what clients in any language may be tested with: each keeps the rules of tests/event_rules.py, and folds
into its messages. The runs are executed by the real engine on the store in memory, one step after the other; ids
and times are made steady, so that two runs of this script differ in nothing. A file that changes is a change of
what clients see: look at the difference, then make the files again.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from tests.golden.event_cases import CASES, HOUR

__all__ = ["CASES", "FOLDER", "made"]

FOLDER = Path(__file__).parent / "events"
TIME = 1_700_000_000_000
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_STEADY = {"timestamp": TIME, "createdAt": TIME, "decidedAt": TIME, "expiresAt": TIME + HOUR * 1000}


def made(name: str) -> dict[str, Any]:
    """The case as its file has it."""
    case = CASES[name]()
    run = case.app.check(case.id)
    body = {
        "description": CASES[name].__doc__,
        "status": run.status,
        "events": case.app.log(case.id),
        "messages": run.messages,
    }
    names: dict[str, str] = {}

    def steady_id(found: re.Match[str]) -> str:
        return names.setdefault(found[0], f"00000000-0000-7000-8000-{len(names) + 1:012d}")

    steady: dict[str, Any] = _steady_times(json.loads(_UUID.sub(steady_id, json.dumps(body))))
    return steady


def _steady_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _STEADY.get(key) or _steady_times(below) for key, below in value.items()}
    return [_steady_times(below) for below in value] if isinstance(value, list) else value


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in CASES:
        (folder / f"{name}.json").write_text(json.dumps(made(name), ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
