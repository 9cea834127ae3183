"""Text from outside, as a terminal may show it: what cannot be seen, or steers a terminal, is written as an escape.

Control characters move the cursor and rewrite what stands there, bidirectional ones change the order in which a
command is read, and invisible ones hide in it. A person who decides must see what will be executed.
"""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["inline", "json_text", "one_line", "plain", "whole"]

_JOINERS = "\u200c\u200d"  # emoji and some scripts are written with them
_FORMAT = (
    "\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_HIDDEN = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff{_FORMAT}]")
_HIDDEN_IN_LINE = re.compile(f"[\x00-\x1f\x7f-\x9f\ud800-\udfff{_FORMAT}]")
_HIDDEN_IN_CALL = re.compile(f"[\x00-\x1f\x7f-\x9f\ud800-\udfff{_FORMAT}{_JOINERS}\ufe00-\ufe0f]")
_LINE = 110


def plain(text: str) -> str:
    """Escape what steers a terminal or cannot be seen in `text`, which may have several lines, ended by LF or CR LF."""
    return _HIDDEN.sub(_escape, text.replace("\r\n", "\n"))


def inline(text: object) -> str:
    """Escape as `plain` does, line ends too: for a name, a label or a reason, which stays on its line."""
    return _HIDDEN_IN_LINE.sub(_escape, str(text))


def one_line(value: Any, width: int = _LINE) -> str:
    """Render a value as one line of at most `width` characters: a string as it is, anything else as JSON.

    Not for what a person decides about: see `whole`.
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(part for part in re.split(r"[ \t\r\n]+", plain(text)) if part)
    return text if len(text) <= width else text[: width - 1] + "…"


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Write a value as JSON in which every invisible character is an escape."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return "\n".join(_HIDDEN_IN_CALL.sub(lambda match: json.dumps(match[0])[1:-1], line) for line in text.split("\n"))


def whole(value: Any) -> list[str]:
    """Render a value that will be executed, all of it, as one or more lines without an invisible character.

    A string is shown as it is, line by line, anything else as JSON. A string that would look like something else, or
    whose end cannot be seen, is JSON too.
    """
    if not isinstance(value, str) or value != value.strip() or not value or _is_json(value):
        return [json_text(value)]
    return [_HIDDEN_IN_CALL.sub(_escape, line) for line in value.split("\n")]


def _is_json(text: str) -> bool:
    if text[0] not in '"[{' and text not in ("true", "false", "null"):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
