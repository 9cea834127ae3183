"""What the words mean with which servers end an answer: `stop`, `length`, `SAFETY` and many others.

Vendors spell them in their own ways and add to them, so they are told apart by what is in the word. Pure.
"""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["End", "end_of"]

End = Literal["whole", "length", "filtered", "failed", "unknown"]

_WHOLE = re.compile(
    r"stop(_sequence)?|eos(_token)?|end_turn|end|done|complete[d]?|success|tool_?calls?|tool_use|function_call"
)
_LENGTH = re.compile(r"length|max\w*tokens?|tokens?_limit|context_window|model_length")
_FILTERED = re.compile(
    r"filter|safety|recitation|block|prohibited|spii|sensitive|refus|guardrail|moderat|policy|language|violation"
)
_FAILED = re.compile(
    r"err|abort|fail|time_?out|timed|malformed|unexpected|unavailable|insufficient|cancel|interrupt|overload|limit"
    r"|missing|invalid|disconnect|other|unspecified|unknown|no_image|too_many"
)


def end_of(reason: str) -> End:
    """Tell what a finish reason means; "unknown" where nobody can know."""
    word = re.sub(r"[\s-]+", "_", reason.strip().lower().removeprefix("finish_reason_"))
    if _WHOLE.fullmatch(word):
        return "whole"
    if _FILTERED.search(word):
        return "filtered"
    if _LENGTH.search(word):
        return "length"
    return "failed" if _FAILED.search(word) else "unknown"
