"""The output items of one answer of OpenAI's Responses API, folded from its events into parts.

An item is reasoning, a message, a call of one of the agent's functions, or what a tool of the vendor's own did. Each is
announced, streamed, and then repeated as a whole once or twice; gateways leave out any of these. Items go by their
`output_index`, since some gateways send another id with each event. Pure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from agentkit.core.messages import Json
from agentkit.providers.openai_responses_request import CALL_DATA
from agentkit.providers.protocol import BlockEnd, Part, TextDelta, ThinkingDelta, ToolCallDelta

__all__ = ["OutputItems"]

# By event, what it adds to or repeats: the item's type, which of its lists, and the fields of index and text.
_DELTAS = {
    "response.output_text.delta": ("message", "content", "content_index", "delta"),
    "response.refusal.delta": ("message", "refusal", "content_index", "delta"),
    "response.reasoning_summary_text.delta": ("reasoning", "summary", "summary_index", "delta"),
    "response.reasoning_text.delta": ("reasoning", "content", "content_index", "delta"),
}
_WHOLE_TEXTS = {
    "response.output_text.done": ("message", "content", "content_index", "text"),
    "response.refusal.done": ("message", "refusal", "content_index", "refusal"),
    "response.reasoning_summary_text.done": ("reasoning", "summary", "summary_index", "text"),
    "response.reasoning_text.done": ("reasoning", "content", "content_index", "text"),
}

_Place = tuple[str, int]
"""A part of an item: the list that it is in ("refusal" for a refusal) and its index there."""


@dataclass(eq=False)
class _Item:
    """An item so far. `number` is its place among all; `written`: the pieces of each part's text, as they came."""

    number: int
    type: str
    id: Any = None
    raw: Json = field(default_factory=dict)
    written: dict[_Place, list[str]] = field(default_factory=dict)
    done: bool = False

    def text(self, place: _Place) -> str:
        return "".join(self.written.get(place, ()))

    @property
    def length(self) -> int:
        return sum(len(piece) for pieces in self.written.values() for piece in pieces)


class OutputItems:
    """Collects the items of one answer, and returns the parts that each event gives rise to.

    Raises AttributeError, KeyError or TypeError for events of another shape.
    """

    def __init__(self) -> None:
        self._items: list[_Item] = []
        self._by_index: dict[int, _Item] = {}
        self._open: tuple[_Item, _Place] | None = None
        self._silent: list[Part] = []  # reasoning without words, which alone is no answer

    @property
    def has_calls(self) -> bool:
        """Whether the model calls functions."""
        return any(item.type == "function_call" for item in self._items)

    def unanswered(self) -> str:
        """Return the type of an item that waits for an answer which nobody gives; "" where there is none.

        The vendor's tools either run there, with their outcome in the same answer, or are for the vendor's own clients.
        """
        hosted = [item.raw for item in self._items if item.type not in ("message", "reasoning", "function_call")]
        answered = [item.get("call_id") for item in hosted if str(item.get("type")).endswith("_output")]
        for item in hosted:
            kind = str(item.get("type"))
            is_call = kind.endswith("_call") and item.get("call_id") and item.get("call_id") not in answered
            if is_call or kind == "mcp_approval_request":
                return kind
        return ""

    def feed(self, kind: str, event: Json) -> list[Part]:
        """Return the parts of one event of the type `kind`; none where the type is unknown."""
        return self._after_silent(self._parts(kind, event))

    def complete(self, output: list[Json]) -> list[Part]:
        """Return the parts of what the whole `output` has and no event had."""
        parts: list[Part] = []
        matched: set[_Item] = set()
        for whole in output:
            kind = _type_of(whole)
            item = next((item for item in self._items if item.type == kind and item not in matched), None)
            if item is None:
                item = self._new(kind)
            matched.add(item)
            if not item.done:
                parts += self._after_silent(self._end(item, whole))
        for item in self._items:
            if item.type == "function_call" and not item.done:
                parts += self._arguments_rest(item, item.raw.get("arguments"))
        return parts

    def _after_silent(self, parts: list[Part]) -> list[Part]:
        """Return the parts, after reasoning without words that came before them. With nothing after it, it is lost."""
        if parts and self._silent:
            parts, self._silent = [*self._silent, *parts], []
        return parts

    # -- items

    def _parts(self, kind: str, event: Json) -> list[Part]:
        if kind in _DELTAS:
            item_type, where, index_field, text_field = _DELTAS[kind]
            place = (where, _number(event.get(index_field)))
            return self._write(self._find(event, item_type), place, _text(event.get(text_field)))
        if kind in _WHOLE_TEXTS:
            item_type, where, index_field, text_field = _WHOLE_TEXTS[kind]
            place = (where, _number(event.get(index_field)))
            return self._write_rest(self._find(event, item_type), place, _text(event.get(text_field)))
        match kind:
            case "response.function_call_arguments.delta":
                return self._arguments(self._find(event, "function_call"), _json_text(event.get("delta")))
            case "response.function_call_arguments.done":
                return self._arguments_rest(self._find(event, "function_call"), event.get("arguments"))
            case "response.output_item.added":
                return self._announce(event, event["item"])
            case "response.content_part.done":
                item, part = self._find(event, "message"), event["part"]
                if part.get("type") == "output_text":
                    return self._annotate(item, ("content", _number(event.get("content_index"))), part)
            case "response.output_item.done":
                whole = event["item"]
                item = self._find(event, _type_of(whole))
                return [] if item.done else self._end(item, whole)
        return []

    def _find(self, event: Json, item_type: str) -> _Item:
        """Find the item that an event belongs to; it begins one where there is none of that type."""
        index = event.get("output_index")
        if isinstance(index, int):
            item = self._by_index.get(index)
        else:
            item = self._items[-1] if self._items and not self._items[-1].done else None
        if item is None or item.type != item_type:
            item = self._new(item_type)
            if isinstance(index, int):
                self._by_index[index] = item
        return item

    def _new(self, item_type: str) -> _Item:
        item = _Item(len(self._items), item_type)
        self._items.append(item)
        return item

    def _announce(self, event: Json, whole: Json) -> list[Part]:
        kind, item_id = _type_of(whole), whole.get("call_id") or whole.get("id")
        index = event.get("output_index")
        item = self._by_index.get(index) if isinstance(index, int) else None
        if item is None or item.done or item.type != kind or item.id != item_id:
            item = self._new(kind)
            if isinstance(index, int):
                self._by_index[index] = item
        item.id, item.raw = item_id, whole
        if kind != "function_call":
            return []
        self._open = None
        return [ToolCallDelta(item.number, _call_id(whole), _text(whole.get("name")))]

    def _end(self, item: _Item, whole: Json) -> list[Part]:
        """Return what the whole item has and the stream had not, and its data."""
        item.done, item.raw, was_open = True, whole, self._is_open(item)
        match item.type:
            case "message":
                parts = self._end_message(item, whole)
            case "reasoning":
                parts = self._end_reasoning(item, whole)
            case "function_call":
                data = {name: whole[name] for name in CALL_DATA if whole.get(name)}
                self._open = None
                return [
                    ToolCallDelta(item.number, _call_id(whole), _text(whole.get("name")), data=data or None),
                    *self._arguments_rest(item, whole.get("arguments")),
                ]
            case _:
                parts = [*self._leave(), TextDelta("", {"item": whole})]
        self._open = None
        return [*parts, BlockEnd()] if parts or was_open else []

    def _end_message(self, item: _Item, whole: Json) -> list[Part]:
        parts: list[Part] = []
        content = [part for part in whole.get("content") or () if part.get("type") in ("output_text", "refusal")]
        texts = [_text(part.get("refusal" if part["type"] == "refusal" else "text")) for part in content]
        is_short = item.length < sum(map(len, texts))
        for index, (part, text) in enumerate(zip(content, texts, strict=True)):
            place = ("refusal" if part["type"] == "refusal" else "content", index)
            if is_short:
                parts += self._write_rest(item, place, text)
            parts += self._annotate(item, place, part)
        if whole.get("phase") and self._is_open(item):
            parts.append(TextDelta("", {"phase": whole["phase"]}))
        return parts

    def _end_reasoning(self, item: _Item, whole: Json) -> list[Part]:
        parts: list[Part] = []
        places = [
            ((where, index), _text(part.get("text")))
            for where in ("summary", "content")
            for index, part in enumerate(whole.get(where) or ())
        ]
        if item.length < sum(len(text) for _, text in places):
            for place, text in places:
                parts += self._write_rest(item, place, text)
        if whole.get("encrypted_content") or whole.get("content"):
            kept = {key: value for key, value in whole.items() if value and key != "status"}
            data: Json = {"item": {"summary": [], **kept}}
            if not item.written:
                self._silent += [ThinkingDelta("", data=data), BlockEnd()]
                return []
            if not self._is_open(item):
                parts += self._leave()
            parts.append(ThinkingDelta("", data=data))
        return parts

    # -- texts

    def _is_open(self, item: _Item) -> bool:
        """Whether the block that is open is of this item."""
        return self._open is not None and self._open[0] is item

    def _leave(self) -> list[Part]:
        """Close the block that is open."""
        was_open, self._open = self._open is not None, None
        return [BlockEnd()] if was_open else []

    def _write(self, item: _Item, place: _Place, text: str) -> list[Part]:
        """Add to a part of a message or of reasoning. Parts of reasoning are paragraphs of one block."""
        if not text:
            return []
        parts: list[Part] = []
        is_reasoning = item.type == "reasoning"
        begins = self._open != (item, place)
        separator = "\n\n" if is_reasoning and begins and item.written else ""
        if begins and not (is_reasoning and self._is_open(item)):
            parts, separator = self._leave(), ""
        self._open = (item, place)
        item.written.setdefault(place, []).append(text)
        if is_reasoning:
            return [*parts, ThinkingDelta(separator + text)]
        data = {"phase": item.raw.get("phase"), "refusal": place[0] == "refusal"} if begins else {}
        return [*parts, TextDelta(text, {name: value for name, value in data.items() if value} or None)]

    def _write_rest(self, item: _Item, place: _Place, whole: str) -> list[Part]:
        """Add what the whole text of a part has more than its deltas had."""
        written = item.text(place)
        return self._write(item, place, whole[len(written) :]) if whole.startswith(written) else []

    def _annotate(self, item: _Item, place: _Place, part: Json) -> list[Part]:
        """Give the block that is open its citations, if it is that part's."""
        annotations = part.get("annotations")
        return [TextDelta("", {"annotations": annotations})] if annotations and self._open == (item, place) else []

    def _arguments(self, item: _Item, text: str) -> list[Part]:
        if not text:
            return []
        self._open = None
        item.written.setdefault(("arguments", 0), []).append(text)
        return [ToolCallDelta(item.number, arguments=text)]

    def _arguments_rest(self, item: _Item, whole: object) -> list[Part]:
        written, text = item.text(("arguments", 0)), _json_text(whole)
        return self._arguments(item, text[len(written) :]) if text.startswith(written) else []


def _type_of(item: Json) -> str:
    kind = item["type"]
    if not isinstance(kind, str):
        raise TypeError(f"an item's type is {type(kind).__name__}")
    return kind


def _call_id(item: Json) -> str:
    return _text(item.get("call_id") or item.get("id"))


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _text(value: object) -> str:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"a text is {type(value).__name__}")
    return value or ""


def _json_text(value: object) -> str:
    """Return the text of arguments, also where a server sends the object itself."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)
