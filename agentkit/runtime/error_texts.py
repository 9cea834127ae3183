"""The texts of errors that leave the server: what models, people and clients may read.

The text of an exception may hold a connection string, a host or a customer's data. So only the errors that are made to
be read show theirs (`ToolError`, `ProviderError`); of any other one reads its class and a reference, under which the
worker's log has all of it: whoever asks for a text logs it with the exception. `AgentKit(redact=…)` has the last word
on every text.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable

from agentkit.core.strictjson import without_half_surrogates
from agentkit.errors import ProviderError, ToolError

__all__ = ["ErrorTexts", "Redact"]

log = logging.getLogger(__name__)

Redact = Callable[[str], str]
"""Takes a text that is about to leave the server, and returns the one that may."""


class ErrorTexts:
    """Makes the texts of errors. `redact`: see `AgentKit`."""

    def __init__(self, redact: Redact | None = None) -> None:
        self._redact = redact

    def of(self, error: BaseException) -> str:
        """Return the text of an error that may leave: to be logged with the error, which its reference then finds."""
        if isinstance(error, ToolError | ProviderError):
            return self.redact(error.message)
        return self.redact(f"{type(error).__name__} (reference {secrets.token_hex(4)})")

    def redact(self, text: str) -> str:
        """Apply the application's `redact`; where that fails, nothing of the text leaves."""
        text = without_half_surrogates(text)
        if self._redact is None:
            return text
        try:
            redacted = self._redact(text)
        except Exception:
            log.exception("redact failed, and the text is left out")
            return "(left out)"
        return without_half_surrogates(str(redacted))
