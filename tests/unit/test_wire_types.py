"""The TypeScript types are those of the structures."""

from __future__ import annotations

from clients.make_types import FILE, types


def test_the_types_of_the_browsers_client_are_not_stale() -> None:
    assert FILE.read_text() == types(), "run `make types`, then `make page`"
