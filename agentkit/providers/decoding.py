"""What turns a vendor's items into parts, as every adapter has it, and parts that came together into fewer.

It knows no vendor's fields, and does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeGuard, TypeVar

from agentkit.core.messages import Usage
from agentkit.providers.counts import usage_of_failure
from agentkit.providers.protocol import Part, TextDelta, ThinkingDelta

__all__ = ["Decoder", "decoded", "joined"]

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Decoder(Protocol[T_contra]):
    """Turns the items of one answer into parts; errors in it, and of its shape, are ProviderErrors."""

    @property
    def complete(self) -> bool:
        """Whether no further item may be read."""
        ...

    def read(self, item: T_contra) -> Iterable[Part]:
        """Yield the parts of an item."""
        ...

    def usage(self) -> Usage:
        """Return what the vendor has counted so far."""
        ...

    def finish(self) -> list[Part]:
        """Return the last parts. Raises ProviderError where the answer is not complete."""
        ...


def decoded(items: Iterable[T], decoder: Decoder[T]) -> Iterator[Part]:
    """Yield the parts of a whole answer. A ProviderError carries what the vendor had counted before."""
    with usage_of_failure(decoder.usage):
        for item in items:
            yield from decoder.read(item)
            if decoder.complete:
                break
        yield from decoder.finish()


def joined(parts: Iterable[Part]) -> Iterator[Part]:
    """Yield the parts, those of adjacent text or thinking without more as one; before a failure, what came before it.

    Pieces of a tool call stay as they are: some servers send them again and again, as far as they have come.
    """
    kind: type[TextDelta] | type[ThinkingDelta] = TextDelta
    texts: list[str] = []
    try:
        for part in parts:
            if _is_plain(part):
                if texts and type(part) is not kind:
                    yield kind("".join(texts))
                    texts.clear()
                kind = type(part)
                texts.append(part.text)
                continue
            if texts:
                yield kind("".join(texts))
                texts.clear()
            yield part
    except Exception:
        if texts:
            yield kind("".join(texts))
        raise
    if texts:
        yield kind("".join(texts))


def _is_plain(part: Part) -> TypeGuard[TextDelta | ThinkingDelta]:
    if type(part) is TextDelta:
        return part.data is None
    return type(part) is ThinkingDelta and part.signature is None and part.data is None
