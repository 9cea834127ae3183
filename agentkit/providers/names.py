"""Names of providers that are one vendor's: its models, prices and answers are the same under each. Pure."""

from __future__ import annotations

__all__ = ["vendor_of"]

_VENDORS = {"openai-completions": "openai", "openai-responses": "openai"}


def vendor_of(provider: str) -> str:
    """Return the name under which the tables know the models of a provider."""
    return _VENDORS.get(provider, provider)
