"""The documentation's site: it is built strictly, with links and anchors checked, and needs no other host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.acceptance.stack import ROOT
from tests.browser import chromium

LOADS = {"audio", "embed", "iframe", "img", "input", "link", "object", "script", "source", "track", "video"}
"""Elements that load what their `src`, `href` or `data` names; an `a` only leads there."""
PAGES = ("index.html", "reference/python.html", "how-to/approvals.html", "explanation/how-it-works.html")

pytestmark = pytest.mark.timeout(240)


def build(site: Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Build the site of a clone strictly, as `make docs` does."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(folder)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_a_link_or_an_anchor_that_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    for name in ("docs", "agentkit"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "page"))
    for name in ("mkdocs.yml", "mkdocs_hooks.py", "pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "docs" / "reference" / "glossary.md").write_text(
        "# Glossary\n\n[page](missing.md) [anchor](http.md#missing) [file](../../missing.py)\n"
    )
    (tmp_path / "docs" / "orphan.md").write_text("# A page that is not in the navigation\n")
    built = build(tmp_path / "site", tmp_path)
    assert built.returncode != 0
    for fault in ("missing.md", "#missing", "missing.py, which is not there", "orphan.md"):
        assert fault in built.stderr, built.stderr


class _Loaded(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.add(values.get("id") or "")
        if tag == "a" and values.get("href"):
            self.links.append(values["href"] or "")
        if tag in LOADS and not (tag == "link" and values.get("rel") in {"canonical", "prev", "next"}):
            self.addresses += [value for name in ("src", "href", "data", "srcset") if (value := values.get(name))]


def test_no_page_and_no_stylesheet_names_another_host_to_load_from(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        parser = _Loaded()
        parser.feed(page.read_text())
        assert parser.addresses
        assert not [address for address in parser.addresses if urlsplit(address).netloc], page
    styles = list(site.rglob("*.css"))
    assert styles
    for style in styles:
        addresses = re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s;]*)""", style.read_text())
        assert not [address for address in addresses if urlsplit(address).netloc], style


def test_every_link_of_a_page_leads_to_a_place_that_is_there(site: Path) -> None:
    """Those of mkdocstrings and of the theme, too, which mkdocs does not check."""
    pages = {page: _Loaded() for page in site.rglob("*.html") if page.name != "404.html"}
    for page, parser in pages.items():
        parser.feed(page.read_text())
    for page, parser in pages.items():
        for link in parser.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / parts.path).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), f"{page} leads to {link}"
            assert not parts.fragment or target not in pages or parts.fragment in pages[target].ids | {"__top"}, (
                f"{page} leads to {link}"
            )


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("kind", ["http", "file"])
def test_a_browser_asks_no_other_host_while_it_reads_and_searches(site: Path, served: str, kind: str) -> None:
    base = served if kind == "http" else site.as_uri()
    asked: list[str] = []
    with chromium() as browser:
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        for name in PAGES:
            page.goto(f"{base}/{name}", wait_until="load", timeout=60_000)
            expect(page.locator("article h1").first).to_be_visible(timeout=60_000)
        if kind == "http":  # browsers start no worker from a file, and the search is one
            page.keyboard.press("/")
            query = page.locator("[data-md-component=search-query]").first
            expect(query).to_be_focused(timeout=60_000)
            query.press_sequentially("fencing token")
            expect(page.locator("[data-md-component=search-result] a").first).to_be_visible(timeout=60_000)
    assert len(asked) > len(PAGES)
    assert not [address for address in asked if not address.startswith((base, "data:", "blob:"))]
