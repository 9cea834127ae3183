"""The table of vendors and features says what tests show, and every provider passes the contract."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from agentkit.providers import _ADAPTERS, resolve
from agentkit.providers.connection import Connection
from agentkit.providers.protocol import ManyWires, Provider
from agentkit.testing.provider_contract import ProviderContract
from tests.vendor_features import COLUMNS, FEATURES, UNTESTED, table

ROOT = Path(__file__).parents[2]
TESTS = sorted({test for cells in FEATURES.values() for _, test in cells if test})
URLS = ("https://api.openai.com/v1", "https://example.org/v1")


def test_the_table_in_the_docs_is_the_one_that_tests_show() -> None:
    page = (ROOT / "docs" / "reference" / "providers.md").read_text()
    assert table() in page, "print it: python -m tests.vendor_features"


def test_each_cell_names_a_test_or_says_that_it_has_none() -> None:
    for feature, cells in FEATURES.items():
        assert len(cells) == len(COLUMNS), feature
        assert all(cell == UNTESTED or (cell[0] != UNTESTED[0] and cell[1]) for cell in cells), feature


@pytest.mark.parametrize("test", TESTS)
def test_the_test_that_a_cell_names_is_there(test: str) -> None:
    path, *names = test.split("::")
    found: object = importlib.import_module(f"tests.{path.replace('/', '.')}")
    for name in names:
        found = getattr(found, name)
    assert callable(found)
    assert names[-1].startswith("test_")


# -- the contract


def contract_classes() -> list[type[ProviderContract]]:
    paths = sorted((ROOT / "tests" / "integration").glob("test_*_provider.py"))
    modules = [importlib.import_module(f"tests.integration.{path.stem}") for path in paths]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    return [each for each in found if issubclass(each, ProviderContract) and each is not ProviderContract]


def wires_of(provider: Provider) -> list[Provider]:
    """The providers that answer for one that speaks several wires."""
    if not isinstance(provider, ManyWires):
        return [provider]
    return [provider.wire(Connection(url), "m") for url in URLS]


def test_every_provider_of_the_table_passes_the_contract() -> None:
    covered = {type(contract().provider()) for contract in contract_classes()}
    missing = [
        name
        for name in _ADAPTERS
        if name != "scripted"
        if not {type(each) for each in wires_of(resolve(f"{name}:m")[0])} <= covered
    ]
    assert missing == []
    assert set(COLUMNS) <= set(_ADAPTERS)
