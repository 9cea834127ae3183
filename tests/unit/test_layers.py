"""CONTRIBUTING.md shows the layers that import-linter enforces, and every module of the package has one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import agentkit

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(agentkit.__file__).parent
MOST_ROOT_MODULES = 10

Layer = tuple[str, ...]
"""The modules of a layer and the dividers between them: ("web", ":", "server", ":", "cli")."""


def contract() -> list[Layer]:
    """The layers of the contract in pyproject.toml, the uppermost first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return [tuple(layer.split()) for layer in layers]


def table() -> list[tuple[str, Layer, str]]:
    """The rows of the table under "Layout" in CONTRIBUTING.md: number, modules, what is done there."""
    [section] = re.findall(r"^## Layout\n(.*?)^## ", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE)
    rows = re.findall(r"^\| (\d+) \| (.+?) \| ([^|]+) \|$", section.replace(r"\|", "¦"), re.MULTILINE)
    assert len(rows) == section.count("\n|") - 2, (
        "a row of the table has another form than `| number | modules | text |`"
    )
    return [(number, tuple(name(word) for word in modules.split()), text) for number, modules, text in rows]


def name(word: str) -> str:
    """The contract's name of what the table shows as a path, and its divider."""
    if word in (":", "¦"):
        return word.replace("¦", "|")
    path = re.fullmatch(r"`(\w+(?:/\w+)*)(?:\.py|/)`", word)
    assert path is not None, f"{word} is neither a path of a module or package in backticks nor a divider"
    return path[1].replace("/", ".")


def modules(layers: list[Layer]) -> list[str]:
    return [module for layer in layers for module in layer if module not in (":", "|")]


def root_modules() -> set[str]:
    return {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}


def root_packages() -> set[str]:
    return {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def test_contributing_shows_the_layers_of_the_import_contract_in_its_order() -> None:
    rows = table()
    assert [layer for _, layer, _ in rows] == contract()
    assert [int(number) for number, _, _ in rows] == list(range(len(rows), 0, -1))
    assert all(text.strip() for _, _, text in rows)


def test_there_are_six_layers() -> None:
    assert len(contract()) == 6


def test_every_module_and_package_at_the_root_has_a_layer() -> None:
    listed = {module.partition(".")[0] for module in modules(contract())}
    assert listed == root_modules() | root_packages()


def test_every_module_of_a_layer_exists_and_stands_in_one_layer() -> None:
    named = modules(contract())
    assert len(named) == len(set(named))
    for module in named:
        path = PACKAGE.joinpath(*module.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), module


def test_contributing_shows_packages_with_a_slash_and_modules_with_their_ending() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for module in modules(contract()):
        path = module.replace(".", "/")
        ending = "/" if (PACKAGE / path).is_dir() else ".py"
        assert f"`{path}{ending}`" in text, module


def test_at_most_ten_modules_stand_at_the_root() -> None:
    assert len(root_modules()) <= MOST_ROOT_MODULES, sorted(root_modules())
