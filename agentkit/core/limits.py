"""What a run may use: turns, tokens, dollars and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentkit.core.messages import Json
from agentkit.errors import InvalidRequestError

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use; None is without limit.

    `max_turns`: model calls. `max_tokens`: the run's `usage.totalTokens`. `max_cost`: US dollars. `timeout`: seconds
    that the run is queued or running; time spent paused does not count.
    """

    max_turns: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    timeout: float | None = None

    def check_lowered(self, overrides: Mapping[str, Any]) -> None:
        """Check that the limits of one run, by their wire names, are at most these.

        Raises InvalidRequestError that names the first which is higher.
        """
        for name, limit in self._named().items():
            if limit is not None and overrides.get(name, limit) > limit:
                text = f"limits.{name} may only lower the agent's limit, which is {limit:g}"
                raise InvalidRequestError(text, errors=[{"path": f"/limits/{name}", "message": text}])

    def lowered(self, overrides: Mapping[str, Any]) -> Json:
        """Return `overrides`, limits by their wire names, of which none is higher than here."""
        lower = {name: limit for name, limit in self._named().items() if limit is not None}
        return {name: min(value, lower.get(name, value)) for name, value in overrides.items()}

    def _named(self) -> dict[str, float | None]:
        return {
            "maxTurns": self.max_turns,
            "maxTokens": self.max_tokens,
            "maxCost": self.max_cost,
            "timeout": self.timeout,
        }

    def override(self, overrides: Mapping[str, Any]) -> Limits:
        """Return these limits with those of one run, by their wire names (`maxTurns` …), in front."""
        return Limits(
            overrides.get("maxTurns", self.max_turns),
            overrides.get("maxTokens", self.max_tokens),
            overrides.get("maxCost", self.max_cost),
            overrides.get("timeout", self.timeout),
        )
