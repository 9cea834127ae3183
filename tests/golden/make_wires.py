"""Makes the golden streams of other wires from the golden logs: tests/golden/wires/<wire>/<case>.json.

    python -m tests.golden.make_wires [FOLDER]

Each is `{live: [stream…], replayed: stream}`: what clients got that were there while the run went on, a stream from
each pause on, and what one gets who asks for all of it at the end. A file that changes is a change of what clients see.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agentkit.wires.ag_ui_events import AgUiTranslator
from agentkit.wires.ai_sdk_chunks import AiSdkTranslator
from agentkit.wires.translator import Translator
from tests.golden.make_events import FOLDER as LOGS

__all__ = ["FOLDER", "LOGS", "SHOWN", "WIRES", "log_of", "translated"]

FOLDER = Path(__file__).parent / "wires"
SHOWN = (
    *("plain", "thinking", "parallel_tools", "failing_tool", "model_retry", "model_step_again", "provider_error"),
    *("decision_approve", "decision_reject", "decision_votes", "decisions_two", "client_tool", "in_doubt_done"),
    *("abort_running_model", "steer_paused", "sub_agent_pending"),
)
"""The cases that have files; all others keep the rules, too."""

Log = dict[str, Any]
RUN = "00000000-0000-7000-8000-000000000001"


def log_of(case: str) -> Log:
    log: Log = json.loads((LOGS / f"{case}.json").read_text())
    return log


def _ag_ui(log: Log, before: Sequence[Any] | None, pauses_after: int) -> Translator[Any]:
    return AgUiTranslator(
        thread_id="thread",
        run_id="run",
        agent_run=RUN,
        before=before,
        messages=lambda count: log["messages"][:count],
        pauses_after=pauses_after,
        resync=pauses_after > 0,
        front_end_tools=["locate"],
        state={},
    )


def _ai_sdk(log: Log, before: Sequence[Any] | None, pauses_after: int) -> Translator[Any]:
    calls = [
        block["id"]
        for message in before or ()
        for block in message["content"]
        if isinstance(block, dict) and "id" in block
    ]
    return AiSdkTranslator(run_id=RUN, message_id=RUN, known_calls=calls, pauses_after=pauses_after, begun=bool(before))


WIRES: dict[str, Callable[[Log, Sequence[Any] | None, int], Translator[Any]]] = {"ag_ui": _ag_ui, "ai_sdk": _ai_sdk}


def translated(wire: str, log: Log) -> dict[str, Any]:
    """The streams of a log: as it went on, and of all of it."""
    events = log["events"]
    make = WIRES[wire]
    streams: list[list[Any]] = []
    begin = 0
    pauses = [place + 1 for place, event in enumerate(events) if event["type"] == "agent_pause"]
    for end in sorted({*pauses, len(events)}):
        before = None if begin == 0 else log["messages"][: _messages_in(events[:begin])]
        streams.append(_stream(make(log, before, 0), events[begin:end]))
        begin = end
    replayed = _stream(make(log, None, max((event["seq"] for event in events[:-1]), default=0)), events)
    return {"live": streams, "replayed": replayed}


def _stream(translator: Translator[Any], events: Sequence[Any]) -> list[Any]:
    frames = list(translator.begin())
    for event in events:
        assert not translator.ended, "nothing comes after the end"
        frames += translator.translate(event["seq"], event)
    assert translator.ended
    return [json.loads(translator.encode(frame).removeprefix(b"data: ")) for frame in frames]


def _messages_in(events: Sequence[Any]) -> int:
    return sum(
        len(event["messages"]) if event["type"] == "agent_start" else event["type"] == "message_end" for event in events
    )


def main(folder: Path) -> None:
    for wire in WIRES:
        (folder / wire).mkdir(parents=True, exist_ok=True)
        for case in SHOWN:
            lines = json.dumps(translated(wire, log_of(case)), ensure_ascii=False, indent=1)
            (folder / wire / f"{case}.json").write_text(lines + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
