"""Makes tests/golden/streams/awkward.json, an event stream as the web layer serves it: `{stream, events}`.

    python -m tests.golden.make_streams

`stream` is the body in base64, `events` what any parser of server-sent events must find in it, `{id, data}` each.
It holds what trips parsers up: line breaks of every kind inside strings, NUL, a byte order mark, emoji, text that
looks like fields of a frame, and long text. Parsers in any language may be fed with it, cut wherever they like.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from agentkit import Agent, AgentKit, ScriptedModel, Settings
from agentkit.store.memory import MemoryStore
from agentkit.testing.store_changes import append, claimed, event, first_change, step_done
from agentkit.web import create_app
from tests.apps import FakeQueue

__all__ = ["AWKWARD", "FILE", "made", "served"]

FILE = Path(__file__).parent / "streams" / "awkward.json"
RUN_ID = "00000000-0000-7000-8000-000000000001"
AWKWARD = [
    "line\nfeed, carriage\rreturn, both\r\n, and two\n\nof them",
    "next line \x85, line separator \u2028, paragraph separator \u2029, form feed \x0c, vertical tab \x0b",
    "NUL \x00, bell \x07, delete \x7f",
    "\ufeffa byte order mark, and another \ufeff",
    "emoji \U0001f469\u200d\U0001f469\u200d\U0001f467, combining e\u0301, right to left \u202e",
    "data: not a field\n\nid: 99\nevent: message\nretry: 5\n: no comment",
    'quotes " and \\ backslashes \\n \\u2028',
    "",
    " ",
]


def served(store: MemoryStore, run_id: str, deltas: list[str]) -> bytes:
    """The whole event stream of a run that is made here and has these deltas."""
    store.create(first_change(run_id))
    claim = claimed(store, run_id)
    updates = [
        event("message_update", assistantMessageEvent={"type": "text_delta", "contentIndex": 0, "delta": delta})
        for delta in deltas
    ]
    append(store, claim.lease, updates, 1)
    store.commit(step_done(claim, events=(event("agent_end", runId=run_id),)), claim.state.version, claim.lease)
    agent = Agent("a", model=ScriptedModel([""]))
    app = create_app(AgentKit([agent], settings=Settings(), store=store, queue=FakeQueue()))
    return app.test_client().get(f"/runs/{run_id}/events").data


def made(store: MemoryStore) -> dict[str, Any]:
    stream = served(store, RUN_ID, AWKWARD)
    events = [{"id": str(e.seq), "data": e.data.decode()} for e in store.events(RUN_ID, 0, 1000).events]
    return {"stream": base64.b64encode(stream).decode(), "events": events}


def main() -> None:
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(made(MemoryStore()), indent=1) + "\n")


if __name__ == "__main__":
    main()
