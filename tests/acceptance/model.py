"""The model of the acceptance tests, a process of its own that speaks OpenAI's wire.

It says what the user's message asks for (`script`), so each test holds its whole story, and any number
of them share one server. Every call is written into the ledger, with the port that the caller came from.
"""

from __future__ import annotations

import argparse
import json

from agentkit.testing.wire_server import Reply, Request, WireServer
from tests.acceptance.ledger import Ledger
from tests.openai_server import Turn, frames, scripted

__all__ = ["script"]


def script(
    *turns: Turn, name: str = "", delay: float = 0.0, silent: bool = False, busy: int = 0, retry_after: int = 0
) -> str:
    """An input that makes the model answer with these turns.

    `name`: for the ledger. `delay`: seconds between deltas. `silent`: a turn stops in the middle, and the
    connection stays open. `busy`: how many calls under this name are refused first, with 429 and `retry_after`.
    """
    turn_script = {
        "name": name,
        "turns": turns,
        "delay": delay,
        "silent": silent,
        "busy": busy,
        "retry_after": retry_after,
    }
    return json.dumps(turn_script)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ledger", required=True)
    arguments = parser.parse_args()
    ledger = Ledger(arguments.ledger)

    def answer(request: Request) -> Reply:
        messages = request.body["messages"]
        turn_script = json.loads(next(m["content"] for m in reversed(messages) if m["role"] == "user"))
        ledger.add(model=turn_script["name"], port=request.port)
        if len(ledger.entries(model=turn_script["name"])) <= turn_script["busy"]:
            return Reply(
                [b'{"error":{"message":"busy"}}'],
                status=429,
                content_type="application/json",
                headers={"Retry-After": str(turn_script["retry_after"])},
            )
        turn = scripted(turn_script["turns"])(request.body)
        if isinstance(turn, Reply):
            return turn
        answered = sum(message["role"] == "assistant" for message in messages)
        pieces = frames(turn, request.body["model"], 8, answered)
        if turn_script["silent"]:
            return Reply(pieces[: len(pieces) // 2], silence="after")
        return Reply(pieces, delay=turn_script["delay"])

    WireServer(answer, arguments.port).serve_forever()


if __name__ == "__main__":
    main()
