"""The page as the web layer serves it, and that its files are those of its sources. No Node, no browser."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from agentkit.server.page import FILES
from examples.chat import manifest
from tests.unit.web.conftest import Web

ASSETS = sorted(path.name for path in (FILES / "assets").iterdir())
TYPES = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}


def test_the_page_is_built_from_its_sources() -> None:
    changed = manifest.differences()
    assert not changed, f"`make page` builds the page anew; these have changed: {', '.join(changed)}"


def test_a_changed_source_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = manifest._now()
    monkeypatch.setattr(manifest, "_now", lambda: now | {"examples/chat/src/App.tsx": "other"})
    assert manifest.differences() == ["examples/chat/src/App.tsx"]
    assert {"examples/chat/package-lock.json", "clients/react/src/index.ts"} <= now.keys()


def test_the_page_names_files_of_its_own_and_nothing_else(web: Web) -> None:
    response = web.client.get("/")
    assert response.content_type == "text/html; charset=utf-8"
    assert "no-cache" in response.headers["Cache-Control"]
    named = re.findall(r'(?:src|href)="([^"]*)"', response.text)
    assert len(named) >= 3
    for name in named:
        assert web.client.get("/" + name.removeprefix("./")).status_code == 200
    assert "://" not in response.text


def test_no_text_can_become_code_or_call_elsewhere(web: Web) -> None:
    policy = web.client.get("/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    for name in ASSETS:
        assert not re.search(rb"\beval\(|\bnew Function\b|\bFunction\(", (FILES / "assets" / name).read_bytes())


@pytest.mark.parametrize("name", ASSETS)
def test_a_file_with_a_hash_in_its_name_is_kept_for_good(web: Web, name: str) -> None:
    response = web.client.get(f"/assets/{name}")
    assert response.headers["Content-Type"] == TYPES[name.rpartition(".")[2]]
    assert "immutable" in response.headers["Cache-Control"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.data == (FILES / "assets" / name).read_bytes()


@pytest.mark.parametrize("path", ["/", f"/assets/{ASSETS[0]}"])
def test_a_file_is_sent_small_and_only_where_it_is_new(web: Web, path: str) -> None:
    plain = web.client.get(path)
    small = web.client.get(path, headers={"Accept-Encoding": "gzip, br"})
    assert small.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(small.data) == plain.data
    again = web.client.get(path, headers={"If-None-Match": plain.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize("name", ["../built.json", "..%2fbuilt.json", "index.html", "", "a/b"])
def test_nothing_but_the_files_is_served(web: Web, name: str) -> None:
    response = web.client.get(f"/assets/{name}")
    assert (response.status_code, response.content_type) == (404, "application/problem+json")
    assert json.loads(response.data)["code"] == "not_found"


def test_the_page_is_small_enough_to_be_the_first_thing_that_one_sees() -> None:
    start = [path for path in FILES.rglob("*") if path.is_file() and not path.name.startswith("SchemaForm")]
    assert sum(len(gzip.compress(path.read_bytes())) for path in start) < 250_000


def test_the_licences_of_what_is_bundled_stand_beside_it() -> None:
    text = (FILES / "licenses.md").read_text()
    bundled = json.loads((FILES.parents[3] / "examples/chat/package.json").read_text())["dependencies"]
    for name, version in bundled.items():
        assert f"## {name} - {version} (" in text, name
    assert "Permission is hereby granted, free of charge" in text
    code = b"".join(path.read_bytes() for path in (FILES / "assets").glob("*.js"))
    assert b"@license React" in code
