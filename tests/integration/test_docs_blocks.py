"""Every code block of README and documentation has a check, by its language; tests/fences.py: the rule for Python."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator

import agentkit
from agentkit import AgentKit
from agentkit.core.events import Event, read_event
from agentkit.core.messages import ContentBlock
from agentkit.core.metrics import METRICS
from agentkit.core.requests import ResumeBody, StartBody
from agentkit.core.struct import decode
from agentkit.server.answers import Problem
from agentkit.server.openapi import document
from agentkit.settings import describe
from tests.fences import EXECUTED, ROOT, Block, blocks
from tests.needs import program
from tests.reference_pages import PARTS
from tests.shell_commands import check_command, commands
from tests.surroundings import SURROUNDINGS

ALL = blocks()
HERE = "tests/integration/test_docs_blocks.py"
WHOLE = [page for page, test in EXECUTED.items() if test == HERE]


def failure(block: Block, text: object) -> AssertionError:
    return AssertionError(f"{block.name}: {text}")


# -- Python


def check_python(block: Block) -> None:
    tree = ast.parse(block.text, block.name)
    if block.not_executed is None:
        test = EXECUTED.get(block.page)
        if test is None:
            raise failure(block, "no test executes it, and no comment says why")
        assert (ROOT / test).exists()
        assert test == HERE or Path(block.page).stem in (ROOT / test).read_text(), f"{test} does not name {block.page}"
        return
    names: dict[str, Any] = {"kit": AgentKit}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                _installed(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module and (module := _installed(node.module)) is not None:
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
                names[alias.asname or alias.name] = getattr(module, alias.name)
    names |= {name: getattr(agentkit, name) for name in agentkit.__all__ if name not in names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            _named(node, names)
        if isinstance(node, ast.Call) and (of := _named(node.func, names)) is not None:
            known = inspect.signature(of).parameters
            if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in known.values()):
                unknown = {keyword.arg for keyword in node.keywords if keyword.arg} - set(known)
                assert not unknown, f"{block.name}: {ast.unparse(node.func)} has no {unknown}"


def _installed(name: str) -> Any:
    """The module; None where its package is not here, as those of an application that the page only speaks of."""
    if name.split(".")[0] != "agentkit" and importlib.util.find_spec(name.split(".")[0]) is None:
        return None
    return importlib.import_module(name)


def _named(node: ast.AST, names: dict[str, Any]) -> Any:
    """What an expression names, where it is one of agentkit's, or a method of the kit, which must be there."""
    if isinstance(node, ast.Name):
        found = names.get(node.id)
        return found if node.id != "kit" and getattr(found, "__module__", "").startswith("agentkit") else None
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "kit":
        return getattr(AgentKit, node.attr)
    return None


# -- shells


def check_sh(block: Block) -> None:
    """Read by bash, and each command by the parser of its program."""
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
    assert done.returncode == 0, f"{block.name}: {done.stderr}"
    assert set(re.findall(r"\b(AGENTKIT_\w+)=", block.text)) <= {row.variable for row in describe()}, block.name
    for line in block.text.replace("\\\n", " ").splitlines():
        for words in commands(line):
            check_command(words)


def check_console(block: Block) -> None:
    """What is typed as a shell has it; of what was printed, whatever is not cut."""
    typed = re.findall(r"^\$ (.*(?:\n    .*)*)", block.text, re.MULTILINE)
    assert typed
    for line in typed:
        for words in commands(line.replace("\\\n", " ")):
            check_command(words)
    printed = [line.removeprefix("data: ") for line in block.text.splitlines() if re.match(r"(data: )?\{", line)]
    assert printed
    for line in printed:
        if "…" in line:
            continue
        if "seq" in json.loads(line):
            read_event(line)
        else:
            decode(line, Problem)


# -- data


def check_json(block: Block) -> None:
    """Events, problems, content and a log line as our own readers have them."""
    value = json.loads(block.text)
    tags = {member.__struct_config__.tag for member in get_args(Event)}
    if isinstance(value, list):
        msgspec.convert([{**each, "data": "AAAA"} if "data" in each else each for each in value], list[ContentBlock])
    elif value.get("type") in tags:
        read_event(block.text)
    elif "agent" in value and "input" in value:
        decode(block.text, StartBody)
    elif "decision" in value:
        decode(block.text, ResumeBody)
    elif "lastSeq" in value:
        check_component("Run", value)
    elif "code" in value:
        decode(block.text, Problem)
    elif "logger" in value:
        assert {"time", "level", "logger", "message"} <= value.keys()
    elif "mcpServers" in value:
        for server in value["mcpServers"].values():
            check_command([server["command"], *server["args"]])
    else:
        raise failure(block, "nothing checks this JSON")


def check_component(name: str, value: Any) -> None:
    """It is as the OpenAPI document has this component, and has no field beside."""
    components = document("")["components"]
    Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": components}).validate(value)
    assert set(value) <= set(components["schemas"][name]["properties"])


def check_yaml(block: Block) -> None:
    value = yaml.safe_load(block.text)
    assert isinstance(value, dict), block.name
    known_metrics(block)


def check_promql(block: Block, folder: Path) -> None:
    known_metrics(block)
    rules = folder / "rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "a", "rules": [{"record": "a:b", "expr": block.text}]}]}))
    done = subprocess.run([program("promtool"), "check", "rules", str(rules)], capture_output=True, text=True)
    assert done.returncode == 0, f"{block.name}: {done.stderr}"


def known_metrics(block: Block) -> None:
    shown = {metric.shown_name for metric in METRICS}
    for name in re.findall(r"\bagentkit_\w+", block.text):
        assert name in shown, f"{block.name}: there is no metric {name}"


def check_js(block: Block, folder: Path) -> None:
    (folder / "block.mjs").write_text(block.text)
    done = subprocess.run([program("node"), "--check", str(folder / "block.mjs")], capture_output=True, text=True)
    assert done.returncode == 0, f"{block.name}: {done.stderr}"


def check_typescript(block: Block) -> None:
    """It stands in a file that `npm run check` compiles: an example of clients/wires, or the types of the wire."""
    wire = (ROOT / "clients" / "react" / "src" / "core" / "wire.ts").read_text()
    examples = [path.read_text() for path in (ROOT / "clients" / "wires" / "src").iterdir()]
    assert block.text in examples or f"export {block.text}" in wire, block.name


def check_text(block: Block) -> None:
    """Made from the code; a picture; or frames of a wire, whose JSON is read."""
    if Path(block.page).name in PARTS:
        return
    if re.search("[─│▶]", block.text):
        check_picture(block)
        return
    for line in block.text.splitlines():
        assert line.startswith("data: "), f"{block.name}: plain text has no check; is it of another language?"
        json.loads(line.removeprefix("data: "))


def check_picture(block: Block) -> None:
    """It fits the page, and the settings and routes that it names are there."""
    assert max(map(len, block.text.splitlines())) <= 110, block.name
    assert set(re.findall(r"AGENTKIT_\w+", block.text)) <= {row.variable for row in describe()}, block.name
    routes = {re.sub(r"\{\w+\}", "{id}", path) for path in document("")["paths"]}
    assert set(re.findall(r"(?:GET|POST|DELETE) (/\S*?)(?=[\s─]|$)", block.text)) <= routes, block.name


def check_dockerfile(block: Block) -> None:
    """Its instructions are Docker's, and it begins with an image that a page builds."""
    first, *rest = [line for line in block.text.splitlines() if line and not line.startswith((" ", "#"))]
    assert first == "FROM agentkit", block.name
    known = {"RUN", "COPY", "USER", "ENV", "WORKDIR", "EXPOSE", "CMD", "ENTRYPOINT", "ARG"}
    assert {line.split()[0] for line in rest} <= known, block.name
    assert set(re.findall(r"AGENTKIT_\w+", block.text)) <= {row.variable for row in describe()}, block.name


def check_diff(block: Block) -> None:
    assert block.page == "docs/tutorial/first-refund.md", f"{block.name}: no test applies it"


def check_acl(block: Block) -> None:
    assert block.page == "docs/reference/redis-acl.md", f"{block.name}: no test starts a server with it"


CHECKS: dict[str, Callable[..., None]] = {
    "acl": check_acl,
    "console": check_console,
    "diff": check_diff,
    "dockerfile": check_dockerfile,
    "js": check_js,
    "json": check_json,
    "promql": check_promql,
    "python": check_python,
    "sh": check_sh,
    "text": check_text,
    "ts": check_typescript,
    "tsx": check_typescript,
    "yaml": check_yaml,
}


@pytest.mark.parametrize("block", [pytest.param(block, id=block.name) for block in ALL])
def test_the_block_has_a_language_and_passes_its_check(block: Block, tmp_path: Path) -> None:
    if block.language not in CHECKS:
        raise failure(block, f"no check for {block.language or 'a block without a language'}")
    check = CHECKS[block.language]
    check(block, tmp_path) if "folder" in inspect.signature(check).parameters else check(block)


def test_every_check_is_needed_and_every_page_with_python_that_is_executed_exists() -> None:
    assert set(Counter(block.language for block in ALL)) == set(CHECKS)
    executed = {block.page for block in ALL if block.language == "python" and block.not_executed is None}
    assert executed == set(EXECUTED)


def test_no_block_is_indented_instead_of_fenced() -> None:
    """Such a block has no language, and no check would see it."""
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        if path.name == "python.md":
            continue  # options of mkdocstrings are indented
        outside = re.sub(r"^ *```.*?^ *```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        assert not re.search(r"(?:^|\n)[^\s*\-\d][^\n]*\n\n    \S", outside), path


@pytest.mark.parametrize("page", WHOLE)
def test_the_python_of_the_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    shown = [each.text for each in blocks(page) if each.language == "python" and each.not_executed is None]
    before, after = SURROUNDINGS.get(page, ("", ""))
    code = "\n\n".join([before, *shown, after])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
