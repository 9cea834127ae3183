"""Whether a command of the documentation is one: its program's own parser reads its options, without running it."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable

import click
from celery.bin.celery import celery as celery_cli
from gunicorn.config import Config as GunicornConfig

from agentkit.cli.main import cli
from agentkit.settings import describe
from tests.fences import ROOT

__all__ = ["check_command", "commands"]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SETTINGS = {row.variable for row in describe()}


def commands(line: str) -> list[list[str]]:
    """The simple commands of a line, also within `$(…)`, without what they set and where they are sent."""
    found = [inner for text in re.findall(r"\$\((.*)\)", line) for inner in commands(text)]
    lexer = shlex.shlex(re.sub(r"\$\(.*\)", "X", line), posix=True, punctuation_chars="|&;()")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;()"):
            while words and (words[0] == "do" or re.match(r"[A-Z_]+=", words[0])):
                words.pop(0)
            found += [words] if words and words[0] not in {"for", "done"} else []
            words = []
        else:
            words.append(word)
    return found


def check_command(words: list[str]) -> None:
    """Have the program's own parser, or what stands for it, read the words. Raises AssertionError if it refuses."""
    name, *rest = words
    name = name.rpartition("/")[2]
    assert name in COMMANDS, f"nothing checks the command {name}"
    if ">" in rest:
        rest = rest[: rest.index(">")]
    try:
        COMMANDS[name](rest)
    except (AssertionError, click.ClickException, SystemExit) as error:
        raise AssertionError(f"{shlex.join(words)}: {error}") from error


def click_command(root: click.Command) -> Callable[[list[str]], None]:
    def check(words: list[str]) -> None:
        command, parent, rest = root, None, words
        while True:
            context = command.make_context(command.name, list(rest), parent=parent)
            if not isinstance(command, click.Group) or not (rest := [*context._protected_args, *context.args]):
                return
            _, below, rest = command.resolve_command(context, rest)
            assert below is not None
            command, parent = below, context

    return check


def agentkit_command(words: list[str]) -> None:
    if words != ["--version"]:
        click_command(cli)(words)


def celery_command(words: list[str]) -> None:
    """Celery's own parser wants its application loaded: what it parses is looked up in it instead."""
    while words[0].startswith("-"):
        words = words[2:]
    name, *rest = words
    command = celery_cli.commands[name]
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    if name == "flower":
        known |= {"--address", "--port"}  # Tornado's, which flower takes as they come
    for word in rest:
        assert not word.startswith("-") or word.split("=")[0] in known, f"there is no option {word}"


def gunicorn_command(words: list[str]) -> None:
    GunicornConfig().parser().parse_args(words)


def pip_command(words: list[str]) -> None:
    verb, *wanted = words
    assert verb == "install"
    if wanted[0] == "-c":
        assert (ROOT / wanted[1]).exists()
        wanted = wanted[2:]
    for each in wanted:
        name, _, extras = each.rstrip("]").partition("[")
        assert name == PROJECT["name"]
        assert set(filter(None, extras.split(","))) <= set(PROJECT["optional-dependencies"])


def make_command(words: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert words[0] in targets


def python_command(words: list[str]) -> None:
    if words[0] == "-c":
        compile(words[1], "-c", "exec")
    elif words[0] == "-m":
        assert importlib.util.find_spec(words[1]) is not None
    else:
        assert (ROOT / words[0]).exists()


def export_command(words: list[str]) -> None:
    for word in words:
        assert word.split("=")[0] in {*SETTINGS, "OPENAI_API_KEY"}


def awk_command(words: list[str]) -> None:
    subprocess.run(["awk", words[0], "/dev/null"], check=True, capture_output=True)


def umask_command(words: list[str]) -> None:
    [mode] = words
    assert int(mode, 8) == 0o077


def gzip_command(words: list[str]) -> None:
    assert set(words) <= {"-c", "backup.jsonl.gz"}


def dot_command(words: list[str]) -> None:
    assert words == [".venv/bin/activate"]


def curl_command(words: list[str]) -> None:
    for option, value in zip(words, [*words[1:], ""], strict=True):
        if option == "-d":
            json.loads(value.replace("$ITEM", "ITEM"))


def cd_command(words: list[str]) -> None:
    assert (ROOT / words[0]).is_dir()


def npm_command(words: list[str]) -> None:
    scripts = json.loads((ROOT / "examples" / "chat" / "package.json").read_text())["scripts"]
    assert words == ["ci"] or (words[0] == "run" and words[1] in scripts)


def kill_command(words: list[str]) -> None:
    assert words[0] == "-9"


def flask_command(words: list[str]) -> None:
    from flask.cli import cli as flask_cli

    assert words[0] == "--app"
    click_command(flask_cli.commands["run"])(words[3:])


def command_on_files(words: list[str]) -> None:
    """What it is told to use of this repository is there."""
    for word in words:
        if word.startswith("deploy/"):
            assert list(ROOT.glob(re.sub(r"\$\w+", "*", word))) or word == "deploy/.env", f"there is no {word}"


def systemctl_command(words: list[str]) -> None:
    for word in words:
        if word.startswith("agentkit"):
            assert list((ROOT / "deploy" / "systemd").glob(re.sub("@.*", "@", word) + ".service")), f"no unit {word}"


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    ".": dot_command,
    "agentkit": agentkit_command,
    "awk": awk_command,
    "cd": cd_command,
    "celery": celery_command,
    "cp": command_on_files,
    "curl": curl_command,
    "docker": command_on_files,
    "export": export_command,
    "flask": flask_command,
    "gunicorn": gunicorn_command,
    "gunzip": gzip_command,
    "gzip": gzip_command,
    "install": command_on_files,
    "kill": kill_command,
    "kubectl": command_on_files,
    "make": make_command,
    "mkdir": command_on_files,
    "npm": npm_command,
    "pip": pip_command,
    "python": python_command,
    "python3": python_command,
    "systemctl": systemctl_command,
    "umask": umask_command,
    "useradd": command_on_files,
}
