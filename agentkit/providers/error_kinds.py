"""What a vendor's refusal means, by its words: money, moderation, a conversation that is too long, or a short wait.

Statuses do not tell: 429 is also what money alone cures, 403 also what a moderator refused, 500 also what is too long.
Pure.
"""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["Kind", "kind_of"]

Kind = Literal["money", "moderation", "too_long", "region", "other"]
"""Each but "other" meets the same refusal again, whatever the status."""

_URL = re.compile(r"https?://\S+")

_MONEY = re.compile(
    r"insufficient[\s_-]*(balance|funds?|quota|credits?)|credit balance|exceeded_current_quota|billing_(hard|not|error)"
    r"|check your plan and billing|out of credits|(any|enough|more|no|add \d*) ?credits|credits? (are|is|has|have)"
    r"|recharge|\btop.?up\b|resource package|arrears|overdue|account[\w\s]{0,20}(suspended|deactivated)|余额|欠费|充值"
    r"|payment required|spend(ing)? limit|budget (has been )?exceeded|upgrade (for|to) higher|free.models.per.day",
    re.IGNORECASE,
)
_USED_UP = re.compile(r"per[\s_-]?day|daily|weekly|monthly|per[\s_-]?month", re.IGNORECASE)
_MONEY_CODES = re.compile(r"insufficient_(quota|balance|funds)|exceeded_current_quota|billing_|^1113$|payment_required")
_MODERATION = re.compile(
    r"flagged|moderation|content[\s_-]?(policy|filter|management)|data_inspection|safety (system|polic|reason)"
    r"|new_sensitive|(input|output|contains?) sensitive|sensitive content|responsible.?ai|guardrail"
    r"|prohibited_content|violat\w+ (of )?(our|the) (usage|content)",
    re.IGNORECASE,
)
_REGION = re.compile(
    r"unsupported_country|(country|region|location|territory)\b[\w\s,]*\bnot (supported|available)", re.IGNORECASE
)
_TOO_LONG = re.compile(
    r"context[\s_-]?(length|size|window|limit)|context the overflows"
    r"|(prompt|input|inputs|request|messages?|conversation)\b[^.]{0,40}\b(is|are) (too (long|large)|longer than)"
    r"|(prompt|request) too (long|large)|too many (input )?tokens|reduce the length|max length"
    r"|exceed\w*[^.]{0,60}\b(maximum (number of )?(\w+ )?tokens|model token limit|tokens allowed|context)"
    r"|maximum (prompt|input|context) length|token count\b[^.]{0,30} exceeds|max_\w*tokens?_exceeded|tokens? must be <="
    r"|`?inputs`? tokens \+|request_too_large",
    re.IGNORECASE,
)


_TOO_LONG_FOR_A_RATE = re.compile(r"context[\s_-]?(length|size|window)|request too large", re.IGNORECASE)
"""Of 429: other words about tokens are about rates there."""

_TOO_MANY = 429


def kind_of(words: str, *, names: str = "", status: int = 0, waits: bool = False) -> Kind:
    """Tell what a refusal means.

    `words`: the vendor's message; `names`: its type and code. `status`: 0 where there is none. `waits`: it names a time
    to wait, so that what looks like money is a rate.
    """
    words = _URL.sub("", words)  # "… upgrade at https://…/billing" stands in messages about rates
    both = f"{names} {words}"
    if _MONEY_CODES.search(names):
        return "money"
    if (_TOO_LONG_FOR_A_RATE if status == _TOO_MANY else _TOO_LONG).search(both):
        return "too_long"
    if status >= 500:
        return "other"  # it is the vendor's own failure, whatever it is about
    if status != _TOO_MANY and _MODERATION.search(both):
        return "moderation"
    if _REGION.search(both):
        return "region"
    used_up = status == _TOO_MANY and _USED_UP.search(words)
    return "money" if not waits and (used_up or _MONEY.search(words)) else "other"
