"""What a queue on Redis may hold that is no step: entries that are wrong in every way that a test thought of."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

from agentkit.core.ids import new_id
from agentkit.queue.celery import CeleryQueue
from agentkit.settings import Settings

__all__ = ["malformed", "mutations", "valid"]

ODD: list[Any] = [None, True, 0, -1, 1e300, "", "x", "\ud800", "é" * 50, [], [[]], {}, {"a": 1}, [None], "2" * 400]


def valid() -> dict[str, Any]:
    """A step's message as the commit puts it into the queue; its run is in no store."""
    push = CeleryQueue(Settings(redis_url="redis://unused:1/0")).push(new_id(), 1, "model")
    assert push is not None
    message: dict[str, Any] = json.loads(push.message)
    return message


def _body(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def malformed() -> Iterator[tuple[str, bytes]]:
    """Entries with what is wrong with them."""
    for text in ("", "x", "{", "[]", "null", "1", '"text"', "{}", "[" * 3000, '{"body": NaN}', '{"__type__": "uuid"}'):
        yield f"the text {text[:20]}", text.encode()
    yield "no UTF-8", b"\xff\xfe\x00"
    yield "zero bytes", bytes(100)
    for field in ("body", "headers", "properties", "content-type", "content-encoding"):
        message = valid()
        del message[field]
        yield f"no {field}", json.dumps(message).encode()
        for value in ODD:
            yield f"{field} {value!r}"[:60], json.dumps({**valid(), field: value}).encode()
    for name in ("task", "id", "lang", "root_id", "retries", "eta", "expires", "timelimit", "argsrepr", "origin",
                 "group", "shadow", "parent_id", "stamps", "compression", "ignore_result"):  # fmt: skip
        for value in ODD:
            message = valid()
            message["headers"][name] = value
            yield f"header {name} {value!r}"[:60], json.dumps(message).encode()
        message = valid()
        message["headers"].pop(name, None)
        yield f"no header {name}", json.dumps(message).encode()
    for name in ("delivery_tag", "delivery_info", "body_encoding", "correlation_id", "priority"):
        for value in ODD:
            message = valid()
            message["properties"][name] = value
            yield f"property {name} {value!r}"[:60], json.dumps(message).encode()
        message = valid()
        message["properties"].pop(name, None)
        yield f"no property {name}", json.dumps(message).encode()
    for kind in ("application/x-python-serialize", "application/x-yaml", "text/plain", "a/b", "application/data"):
        yield f"content type {kind}", json.dumps({**valid(), "content-type": kind}).encode()
    for encoding in ("binary", "no-such", "rot13", "utf-16"):
        yield f"content encoding {encoding}", json.dumps({**valid(), "content-encoding": encoding}).encode()
    for body in ("!!!", "AAA", _body(None), _body([]), _body({}), _body([[], {}]), _body("text"), _body([1, 2, 3])):
        yield f"body {body}", json.dumps({**valid(), "body": body}).encode()
    for args in (
        [],
        ["r"],
        ["r", "1"],
        [1, 1],
        ["r", 1, 2],
        [None, None],
        [{}, []],
        ["", 0],
        ["r{x}", -1],
        ["r", 1e300],
    ):
        yield f"arguments {args}", json.dumps({**valid(), "body": _body([args, {}, {}])}).encode()
    for embed in (None, [], {"callbacks": 1}, {"chain": "x"}, {"errbacks": [1]}, {"chord": {}}):
        yield f"embed {embed}", json.dumps({**valid(), "body": _body([["r", 1], {}, embed])}).encode()
    for kwargs in (None, [], {"run_id": "r"}, {"step": 1, "other": 2}):
        yield f"keywords {kwargs}", json.dumps({**valid(), "body": _body([["r", 1], kwargs, {}])}).encode()
    for task in ("os.system", "celery.backend_cleanup", "agentkit.no_such", "celery.chord_unlock", "celery.map"):
        message = valid()
        message["headers"]["task"] = task
        yield f"task {task}", json.dumps(message).encode()
    for body in ({"task": "agentkit.model_call"}, {"task": "agentkit.model_call", "id": 1, "args": 5, "kwargs": []}):
        message = {**valid(), "body": _body(body), "headers": {}}
        yield f"protocol 1 {body}"[:60], json.dumps(message).encode()
    for queue in (None, 1, [], "", "no-such-queue", "x" * 500):
        message = valid()
        message["headers"]["task"] = "agentkit.probe"
        yield f"probe of {queue}"[:60], json.dumps({**message, "body": _body([[queue], {}, {}])}).encode()


def mutations(seed: str, count: int) -> Iterator[bytes]:
    """Valid messages with some parts replaced, dropped or cut off."""
    random = Random(seed)
    for _ in range(count):
        message = valid()
        for _ in range(random.randint(1, 3)):
            place = random.choice([message, message.get("headers"), message.get("properties")])
            if not isinstance(place, dict) or not place:
                continue
            key = random.choice(sorted(place))
            if random.random() < 0.3:
                del place[key]
            else:
                place[key] = copy.deepcopy(random.choice(ODD))
        text = json.dumps(message).encode()
        yield text[: random.randrange(len(text))] if random.random() < 0.1 else text
