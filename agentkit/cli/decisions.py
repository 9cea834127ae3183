"""Asks a person for the answer to a pending item, field by field as its JSON Schema wants it.

It checks no more than a field's type: whether a decision is valid, the server says. It talks through
`ask` and `say`, and knows neither the terminal nor HTTP.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agentkit.core.messages import Json

__all__ = ["Answer", "ask_for_answer"]

Ask = Callable[[str], str]
"""Shows a prompt and returns the line that is typed, without its end. Raises EOFError where there is none."""
Say = Callable[[str], None]

_YES, _NO = ("y", "yes", "true"), ("n", "no", "false")


@dataclass(frozen=True, slots=True)
class Answer:
    """`kind`: what `resume` calls it."""

    kind: str  # decision, reject or result
    value: Any


class _Whole(Exception):  # no error: the person gave all fields at once
    def __init__(self, answer: Answer) -> None:
        self.answer = answer


class _TryAgain(Exception):  # the line was not understood, and says why
    pass


def ask_for_answer(item: Mapping[str, Any], ask: Ask, say: Say) -> Answer:
    """The answer to one pending item. Raises EOFError where nobody is there to give it."""
    try:
        if item["kind"] == "client_execute":
            say("This tool runs at the client: do it, and give its result (text or JSON), or `/reject REASON`.")
            return _result(ask)
        if item["kind"] == "in_doubt":
            say("A worker died while this tool ran, and nobody knows what it did. Look, then give your verdict:")
            say("retry runs it again; done takes `result` as its result; failed makes it an error.")
        else:
            say("Answer field by field, or with one line of JSON, or with `/reject REASON`.")
        return Answer("decision", _value(item.get("schema") or {}, "decision", True, ask, say, top=True))
    except _Whole as whole:
        return whole.answer


def _result(ask: Ask) -> Answer:
    line = ask("result: ")
    _check_reject(line)
    try:
        return Answer("result", json.loads(line))
    except ValueError:
        return Answer("result", line)


def _value(schema: Any, name: str, required: bool, ask: Ask, say: Say, top: bool = False, root: Any = None) -> Any:
    """Ask for a value; `_ABSENT` where an optional one is left out."""
    root = schema if root is None else root
    schema, nullable = _simplified(schema, root)
    if "const" in schema:
        return schema["const"]
    if top and _is_object(schema) and schema.get("properties"):
        return _fields(schema, root, ask, say)
    field = _Field(name, schema, required, nullable)
    while True:
        line = ask(field.prompt()).strip()
        _check_reject(line)
        if line.startswith("{") and not _is_object(schema):
            _check_whole(line)
        try:
            return field.read(line)
        except _TryAgain as problem:
            say(f"  {problem}")


def _fields(schema: Json, root: Any, ask: Ask, say: Say) -> Json:
    wanted = schema.get("required", ())
    value: Json = {}
    for name, field in schema["properties"].items():
        given = _value(field, name, name in wanted, ask, say, root=root)
        if given is not _ABSENT:
            value[name] = given
    return value


def _check_reject(line: str) -> None:
    word, _, reason = line.strip().partition(" ")
    if word == "/reject":
        raise _Whole(Answer("reject", reason.strip() or "rejected"))


def _check_whole(line: str) -> None:
    try:
        value = json.loads(line)
    except ValueError:
        return
    if isinstance(value, dict):
        raise _Whole(Answer("decision", value))


_ABSENT: Any = object()


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    schema: Json
    required: bool
    nullable: bool

    def prompt(self) -> str:
        schema = self.schema
        notes = [self._wants()]
        if "default" in schema:
            notes.append(f"Enter for {json.dumps(schema['default'], ensure_ascii=False)}")
        elif not self.required:
            notes.append("optional")
        about = schema.get("description") or schema.get("title")
        lines = f"{about}\n" if about else ""
        if "enum" in schema:
            lines += "".join(f"    {n}) {_shown(choice)}\n" for n, choice in enumerate(schema["enum"], 1))
        return f"{lines}{self.name} ({', '.join(notes)}): "

    def _wants(self) -> str:
        if "enum" in self.schema:
            return "choose"
        kind = self.schema.get("type")
        words = {"boolean": "y/n", "string": "text", "integer": "whole number", "number": "number"}
        return words.get(kind, "JSON") if isinstance(kind, str) else "JSON"

    def read(self, line: str) -> Any:
        if not line:
            return self._nothing()
        if "enum" in self.schema:
            return self._choice(line)
        match self.schema.get("type"):
            case "boolean":
                return _boolean(line)
            case "string":
                return line
            case "integer" | "number" as kind:
                return _number(line, kind)
        try:
            return json.loads(line)
        except ValueError as error:
            raise _TryAgain(f"that is no JSON: {error}") from error

    def _nothing(self) -> Any:
        if "default" in self.schema:
            return self.schema["default"]
        if not self.required:
            return _ABSENT
        if self.nullable:
            return None
        raise _TryAgain(f"{self.name} is required")

    def _choice(self, line: str) -> Any:
        choices = self.schema["enum"]
        for choice in choices:
            if line == _shown(choice):
                return choice
        close = [choice for choice in choices if _shown(choice).lower() == line.lower()]
        if len(close) == 1:
            return close[0]
        if line.isdigit() and 1 <= int(line) <= len(choices):
            return choices[int(line) - 1]
        raise _TryAgain(f"choose one of 1 to {len(choices)}, or write it out")


def _shown(choice: Any) -> str:
    return choice if isinstance(choice, str) else json.dumps(choice, ensure_ascii=False)


def _boolean(line: str) -> bool:
    if line.lower() in _YES:
        return True
    if line.lower() in _NO:
        return False
    raise _TryAgain("answer y or n")


def _number(line: str, kind: str) -> float | int:
    try:
        return int(line)
    except ValueError:
        pass
    try:
        number = float(line)
    except ValueError:
        number = math.nan
    if kind == "integer" or not math.isfinite(number):
        raise _TryAgain("that is no whole number" if kind == "integer" else "that is no number")
    return number


def _is_object(schema: Json) -> bool:
    return schema.get("type") == "object" or ("type" not in schema and "properties" in schema)


def _simplified(schema: Any, root: Any, depth: int = 8) -> tuple[Json, bool]:
    """The schema with its reference followed and a mere "or null" taken away; whether null was allowed."""
    if not isinstance(schema, dict):
        return {}, False
    if "$ref" in schema and depth:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return _simplified({**_pointed(root, schema["$ref"]), **rest}, root, depth - 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        others = [name for name in kind if name != "null"]
        return {**schema, "type": others[0] if len(others) == 1 else others}, "null" in kind
    for key in ("anyOf", "oneOf"):
        options = schema.get(key)
        if isinstance(options, list):
            others = [option for option in options if option != {"type": "null"}]
            if len(others) == 1 and depth:
                rest = {k: v for k, v in schema.items() if k != key}
                inner, _ = _simplified({**others[0], **rest}, root, depth - 1)
                return inner, len(options) > 1
    return schema, False


def _pointed(root: Any, reference: str) -> Json:
    """What a reference inside the schema points to; an empty schema where it cannot be followed."""
    if not reference.startswith("#"):
        return {}
    for part in reference[1:].split("/")[1:]:
        root = root.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(root, dict) else None
    return root if isinstance(root, dict) else {}
