"""Whether the built page is that of its sources, without Node: both stand in a manifest, by their SHA-256.

python -m examples.chat.manifest           writes the manifest, after a build (`make page` does both)
python -m examples.chat.manifest --check   names what does not agree with it, if anything
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from agentkit.server.page import FILES

__all__ = ["differences", "write"]

ROOT = Path(__file__).parents[2]
MANIFEST = FILES.with_name("built.json")
_SOURCES = ("examples/chat", "clients/react/src", "clients/react/package.json")
_BUILDING = (".css", ".html", ".json", ".svg", ".ts", ".tsx")
_ASIDE = ("biome.json",)


def differences() -> list[str]:
    """The files that changed, came or went since the manifest was written, sources and built files alike."""
    then = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {}
    now = _now()
    return sorted(path for path in then.keys() | now.keys() if then.get(path) != now.get(path))


def write() -> None:
    MANIFEST.write_text(json.dumps(_now(), indent=2) + "\n")


def _now() -> dict[str, str]:
    files = [*_sources(), *(path for path in FILES.rglob("*") if path.is_file())]
    return {
        path.relative_to(ROOT).as_posix(): sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
        for path in sorted(files)
    }


def _sources() -> Iterator[Path]:
    for name in _SOURCES:
        place = ROOT / name
        for path in [place] if place.is_file() else place.rglob("*"):
            inside = path.relative_to(ROOT).parts
            if path.suffix in _BUILDING and path.name not in _ASIDE and "node_modules" not in inside:
                yield path


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit("\n".join(differences()) or 0)
    write()
