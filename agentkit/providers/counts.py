"""Reads the token counts that vendors send, which some send as null, as fractions or not at all."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["token_count"]


def token_count(value: Any) -> int:
    """Read a vendor's count as a whole number; 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0
    return max(0, int(value))
