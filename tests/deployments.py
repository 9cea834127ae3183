"""What the files of `deploy/`, and the Procfile, start: read from them once, for all tests of them.

Each kind of file is read by its own rules into commands, variables and times, so that tests can compare them with each
other, with the settings and with the programs themselves.
"""

from __future__ import annotations

import configparser
import fnmatch
import json
import re
import shlex
from pathlib import Path
from typing import Any

import yaml

__all__ = [
    "COMPOSE",
    "DEPLOY",
    "DOCKERFILE",
    "ROLES",
    "ROOT",
    "build_context",
    "commands",
    "compose",
    "container",
    "dockerfile",
    "env_file",
    "manifests",
    "unit",
]

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile"
COMPOSE = DEPLOY / "compose.yaml"
ROLES = ("web", "worker", "flower")

_UNITS = {"web": "agentkit-web", "worker": "agentkit-worker@", "flower": "agentkit-flower"}


def dockerfile() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, with the lines of one joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", "")
    stages: list[list[tuple[str, str]]] = []
    for line in filter(str.strip, text.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stages.append([])
        if stages:
            stages[-1].append((word, " ".join(rest.split())))
    return stages


def build_context() -> list[Path]:
    """The files of the repository's root that `.dockerignore` lets pass, by the rules that it uses."""
    first, *rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")]
    assert first == "*"
    passed = {rule[1:] for rule in rules if rule.startswith("!")}
    refused = [rule.removeprefix("**/") for rule in rules if not rule.startswith("!")]
    found = []
    for name in sorted(passed):
        assert (ROOT / name).exists(), f".dockerignore names {name}, which is not there"
        paths = (ROOT / name).rglob("*") if (ROOT / name).is_dir() else [ROOT / name]
        found += [path for path in paths if path.is_file()]
    return [
        path
        for path in found
        if not any(fnmatch.fnmatch(part, rule) for part in path.relative_to(ROOT).parts for rule in refused)
    ]


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return document


def manifests() -> list[dict[str, Any]]:
    """Every object of `deploy/kubernetes`, the kustomization aside."""
    paths = sorted((DEPLOY / "kubernetes").rglob("*.yaml"))
    return [
        document
        for path in paths
        if path.name != "kustomization.yaml"
        for document in yaml.safe_load_all(path.read_text())
    ]


def container(role: str) -> dict[str, Any]:
    """The one container of a role's Deployment."""
    (found,) = _deployment(role)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def _deployment(role: str) -> dict[str, Any]:
    (found,) = [
        one for one in manifests() if one["kind"] == "Deployment" and one["metadata"]["name"] == f"agentkit-{role}"
    ]
    return found


def unit(role: str) -> dict[str, dict[str, list[str]]]:
    """The sections of a role's systemd unit: the values of each key, in their order."""

    class Values(dict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            if isinstance(value, list) and key in self:
                self[key].extend(value)
            else:
                super().__setitem__(key, value)

    parser = configparser.RawConfigParser(
        strict=False, dict_type=Values, delimiters=("=",), empty_lines_in_values=False
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((DEPLOY / "systemd" / f"{_UNITS[role]}.service").read_text())
    return {
        section: {key: value.split("\n") for key, value in parser[section].items()} for section in parser.sections()
    }


def env_file(path: Path) -> dict[str, str]:
    """The variables of a file of `NAME=value` lines."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def commands() -> dict[str, dict[str, list[str]]]:
    """The command of each role, as each kind of file has it."""
    (image,) = [json.loads(rest) for word, rest in dockerfile()[-1] if word == "CMD"]
    procfile = re.findall(r"^(\w+): (.*)$", (ROOT / "Procfile").read_text(), re.MULTILINE)
    services = compose()["services"]
    units = {role: shlex.split(unit(role)["Service"]["ExecStart"][0]) for role in ROLES}
    return {
        "Procfile": {role: shlex.split(line) for role, line in procfile},
        "compose": {role: services[role].get("command", image) for role in ROLES},
        "kubernetes": {role: container(role)["args"] for role in ROLES},
        "systemd": {
            role: [words[0].removeprefix("/opt/agentkit/venv/bin/"), *(word.replace("%%", "%") for word in words[1:])]
            for role, words in units.items()
        },
    }
