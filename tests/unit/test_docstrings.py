"""Docstrings of three styles: what a tool does, and what its parameters are."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Annotated, Any

import pytest

from agentkit import tool
from agentkit.schema.docstrings import Documentation, read_docstring
from agentkit.schema.signatures import Signature, read_signature


def read(fn: Callable[..., Any]) -> Signature:
    return read_signature(fn, has_decision=False, parameters=None, caller=sys._getframe(1))


def _google(a: int, b: int, c: Annotated[int, "own"]) -> None:
    """Adds numbers
    of any size.

    More of it.

    Args:
        a (int): The first,
            which goes on.
        b: The second.
        c: Not described.

    Returns:
        b: nothing.
    """


def _sphinx(a: int, b: int, c: Annotated[int, "own"]) -> None:
    """Adds numbers
    of any size.

    More of it.

    :param int a: The first,
        which goes on.
    :param b: The second.
    :returns: nothing
    """


def _numpy(a: int, b: int, c: Annotated[int, "own"]) -> None:
    """Adds numbers
    of any size.

    More of it.

    Parameters
    ----------
    a : int
        The first,
        which goes on.
    b
        The second.
    c : int, optional
        Not described.

    Returns
    -------
    b
        nothing.
    """


@pytest.mark.parametrize("fn", [_google, _numpy, _sphinx])
def test_docstrings_describe_function_and_parameters(fn: Callable[..., Any]) -> None:
    signature = read(fn)
    assert signature.description == "Adds numbers of any size.\n\nMore of it."
    descriptions = {name: schema["description"] for name, schema in signature.parameters["properties"].items()}
    assert descriptions == {"a": "The first, which goes on.", "b": "The second.", "c": "own"}


def test_keyword_arguments_are_described_too() -> None:
    def f(a: int, **more: int) -> None:
        """Adds.

        Args:
            a: The first.
            **more: All others.
        """

    assert read(f).parameters["additionalProperties"] == {"type": "integer", "description": "All others."}


def documented(doc: str) -> Documentation:
    def f() -> None: ...

    f.__doc__ = doc
    return read_docstring(f)


@pytest.mark.parametrize(
    ("doc", "description", "parameters"),
    [
        ("", "", {}),
        ("Adds.", "Adds.", {}),
        ("Adds: always.\n\nReturns: the sum.", "Adds: always.\n\nReturns: the sum.", {}),
        ("Adds.\nArgs:\n  a: The first.\nExample:\n  b: not this", "Adds.", {"a": "The first."}),
        ("Adds.\n\nParams:\n    a (Literal['x', 'y']): One (of two): x.", "Adds.", {"a": "One (of two): x."}),
        ("Adds.\n\nKeyword Args:\n    `a`: The first.\n    *b: Others.", "Adds.", {"a": "The first.", "b": "Others."}),
        ("Adds.\n\nArgs:\n    a: Of:\n        - one\n        - two", "Adds.", {"a": "Of:\n- one\n- two"}),
        ("Adds.\n\nArgs:\n    words without a colon", "Adds.\n\nArgs:\n    words without a colon", {}),
        ("Adds.\n\nParameters\n----------\na, b : int\n    Both.", "Adds.", {"a": "Both.", "b": "Both."}),
        ("Adds.\n\n:param list[int] a: These: all.\n:type b: int\n:returns: it", "Adds.", {"a": "These: all."}),
        (
            "Adds.\n\n- one\n  more\n- two\n\n    code()\n    more()",
            "Adds.\n\n- one\n  more\n- two\n\n    code()\n    more()",
            {},
        ),
        (
            "Adds.\n\nUse it\nonce.\n\nNote:\n    Twice is too much.\n\nArgs:\n    a: It.",
            "Adds.\n\nUse it once.\n\nNote:\n    Twice is too much.",
            {"a": "It."},
        ),
        (": odd", ": odd", {}),
        ("@everyone is asked.", "@everyone is asked.", {}),
    ],
)
def test_a_docstring_is_read(doc: str, description: str, parameters: dict[str, str]) -> None:
    assert documented(doc) == Documentation(description, parameters)


class Adder:
    """An adder."""

    def __call__(self, a: int) -> int:
        """Add one.

        Args:
            a: To what.
        """
        return a + 1


class Quiet:
    """Says nothing."""

    def __call__(self, a: int) -> None: ...


def test_a_partial_is_described_and_named_by_its_function() -> None:
    made = tool(functools.partial(functools.partial(_google, a=1), b=2))
    assert (made.name, made.description) == ("_google", "Adds numbers of any size.\n\nMore of it.")
    assert made.parameters["properties"]["b"] == {"type": "integer", "default": 2, "description": "The second."}


def test_a_callable_object_is_described_by_its_call_or_its_class() -> None:
    assert (tool(Adder()).name, tool(Adder()).description) == ("Adder", "Add one.")
    assert tool(Adder()).parameters["properties"]["a"]["description"] == "To what."
    assert tool(Quiet()).description == "Says nothing."


def test_a_tools_description_holds_all_paragraphs_before_the_sections() -> None:
    assert tool(name="add")(_numpy).description == "Adds numbers of any size.\n\nMore of it."
    assert tool(name="add", description="Mine.")(_numpy).description == "Mine."
