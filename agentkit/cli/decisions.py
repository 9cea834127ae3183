"""Asks a person for the answer to a pending item, field by field of its JSON Schema.

It checks no more than a field's type: the server checks the whole decision. It reads and writes through `ask` and
`show`, and knows neither the terminal nor HTTP.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agentkit.cli.text import inline, plain
from agentkit.core import strictjson
from agentkit.core.messages import Json

__all__ = ["Answer", "ask_for_answer"]

Ask = Callable[[str], str]
"""Show a prompt and return the line that is typed, without its line end. Raises EOFError at the end of input."""
Show = Callable[[str], None]

_YES, _NO = ("y", "yes", "true"), ("n", "no", "false")


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a pending item. `kind`: the name of the argument of `Client.resume` that takes `value`.

    `input`: arguments in place of the model's. `remember`: it counts for later calls of the tool in the run, too.
    """

    kind: str  # decision, reject or result
    value: Any
    input: Json | None = None
    remember: bool = False


class _WholeAnswer(Exception):  # no error: one line answered all fields
    def __init__(self, answer: Answer) -> None:
        self.answer = answer


class _InvalidInputError(Exception):
    """The line cannot be read as a value of the field; the message says why."""


def ask_for_answer(item: Mapping[str, Any], ask: Ask, show: Show) -> Answer:
    """Ask for the answer to one pending item, and whether it counts for later calls where that may be.

    Raises EOFError at the end of input.
    """
    answer = _answer(item, ask, show)
    if not item.get("remember"):
        return answer
    field = _Field(
        "the same for later calls of this tool in this run", {"type": "boolean", "default": False}, False, False
    )
    return replace(answer, remember=_read(field, ask, show))


def _answer(item: Mapping[str, Any], ask: Ask, show: Show) -> Answer:
    try:
        if item["kind"] == "client_execute":
            show("This tool runs at the client: execute it and enter its result (text or JSON), or `/reject REASON`.")
            return _result(ask)
        if item["kind"] == "in_doubt":
            show("A worker died while this tool ran: it may have taken effect or not. Check, then enter a verdict:")
            show("retry executes it again; done takes `result` as its result; failed makes it an error result.")
        else:
            show("Answer field by field, with one line of JSON for all fields, or with `/reject REASON`.")
        return Answer("decision", _value(item.get("schema") or {}, "decision", True, ask, show, top=True))
    except _WholeAnswer as complete:
        return complete.answer


def _result(ask: Ask) -> Answer:
    line = ask("result: ")
    _check_reject(line)
    try:
        return Answer("result", strictjson.loads(line))
    except ValueError:
        return Answer("result", line)


def _value(schema: Any, name: str, required: bool, ask: Ask, show: Show, top: bool = False, root: Any = None) -> Any:
    """Ask for a value; `_ABSENT` where an optional one is left out."""
    root = schema if root is None else root
    schema, nullable = _simplify(schema, root)
    if "const" in schema:
        show(f"{inline(name)}: {inline(_as_text(schema['const']))}")
        return schema["const"]
    if top and _is_object(schema) and schema.get("properties"):
        return _fields(schema, root, ask, show)
    return _read(_Field(name, schema, required, nullable), ask, show, _check_whole)


def _read(field: _Field, ask: Ask, show: Show, check: Callable[[str, Json], None] | None = None) -> Any:
    """Ask for a field until the line can be read as its value. `check` is passed each line, and the field's schema."""
    while True:
        line = ask(field.prompt()).strip()
        if check is not None:
            check(line, field.schema)
        try:
            return field.read(line)
        except _InvalidInputError as problem:
            show(f"  {problem}")


def _check_whole(line: str, schema: Json) -> None:
    """Raise _WholeAnswer for a line that answers all fields."""
    _check_reject(line)
    if line.startswith("{") and not _is_object(schema):
        _check_json(line)


def _fields(schema: Json, root: Any, ask: Ask, show: Show) -> Json:
    required = schema.get("required", ())
    value: Json = {}
    for name, field in schema["properties"].items():
        field_value = _value(field, name, name in required, ask, show, root=root)
        if field_value is not _ABSENT:
            value[name] = field_value
    return value


def _check_reject(line: str) -> None:
    word, _, reason = line.strip().partition(" ")
    if word == "/reject":
        raise _WholeAnswer(Answer("reject", reason.strip() or "rejected"))


def _check_json(line: str) -> None:
    try:
        value = strictjson.loads(line)
    except ValueError:
        return
    if isinstance(value, dict):
        raise _WholeAnswer(Answer("decision", value))


_ABSENT: Any = object()


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    schema: Json
    required: bool
    nullable: bool

    def prompt(self) -> str:
        schema = self.schema
        hints = [self._format()]
        if "default" in schema:
            hints.append(f"Enter for {inline(json.dumps(schema['default'], ensure_ascii=False))}")
        elif not self.required:
            hints.append("optional")
        about = schema.get("description") or schema.get("title")
        lines = f"{plain(str(about))}\n" if about else ""
        if "enum" in schema:
            lines += "".join(f"    {n}) {inline(_as_text(choice))}\n" for n, choice in enumerate(schema["enum"], 1))
        return f"{lines}{inline(self.name)} ({', '.join(hints)}): "

    def _format(self) -> str:
        if "enum" in self.schema:
            return "choose"
        kind = self.schema.get("type")
        words = {"boolean": "y/n", "string": "text", "integer": "whole number", "number": "number"}
        return words.get(kind, "JSON") if isinstance(kind, str) else "JSON"

    def read(self, line: str) -> Any:
        if not line:
            return self._empty()
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
            return strictjson.loads(line)
        except ValueError as error:
            raise _InvalidInputError(f"not valid JSON: {error}") from error

    def _empty(self) -> Any:
        if "default" in self.schema:
            return self.schema["default"]
        if not self.required:
            return _ABSENT
        if self.nullable:
            return None
        raise _InvalidInputError(f"{inline(self.name)} is required")

    def _choice(self, line: str) -> Any:
        choices = self.schema["enum"]
        for choice in choices:
            if line == _as_text(choice):
                return choice
        matches = [choice for choice in choices if _as_text(choice).lower() == line.lower()]
        if len(matches) == 1:
            return matches[0]
        if line.isdigit() and 1 <= int(line) <= len(choices):
            return choices[int(line) - 1]
        raise _InvalidInputError(f"choose one of 1 to {len(choices)}, or write it out")


def _as_text(choice: Any) -> str:
    return choice if isinstance(choice, str) else json.dumps(choice, ensure_ascii=False)


def _boolean(line: str) -> bool:
    if line.lower() in _YES:
        return True
    if line.lower() in _NO:
        return False
    raise _InvalidInputError("answer y or n")


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
        raise _InvalidInputError("not a whole number" if kind == "integer" else "not a number")
    return number


def _is_object(schema: Json) -> bool:
    return schema.get("type") == "object" or ("type" not in schema and "properties" in schema)


def _simplify(schema: Any, root: Any, depth: int = 8) -> tuple[Json, bool]:
    """Follow the schema's reference and remove "or null" from it; return it and whether null is allowed."""
    if not isinstance(schema, dict):
        return {}, False
    if "$ref" in schema and depth:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return _simplify({**_resolve(root, schema["$ref"]), **rest}, root, depth - 1)
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
                inner, _ = _simplify({**others[0], **rest}, root, depth - 1)
                return inner, len(options) > 1
    return schema, False


def _resolve(root: Any, reference: str) -> Json:
    """Return what a reference inside the schema points to, or an empty schema where it cannot be followed."""
    if not reference.startswith("#"):
        return {}
    for part in reference[1:].split("/")[1:]:
        root = root.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(root, dict) else None
    return root if isinstance(root, dict) else {}
