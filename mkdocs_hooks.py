"""What the documentation's site does beside mkdocs: links out of docs/ lead to the repository, names of pages to them.

The pages are read in a clone, where a link to `../../examples/…` leads to the file beside them, and as a site, which
has no such file. There the link becomes its address at the repository that pyproject.toml names. A file that is not
there is a warning, and in a strict build an error, as mkdocs has it for its own pages. A docstring that names a page of
docs/ is in the reference of Python, where the name becomes a link.
"""

from __future__ import annotations

import logging
import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
NAMED = re.compile(r"\bdocs/([\w/-]+\.md)\b")
OUTSIDE = re.compile(r"\]\((\.\./[^)#\s]*)(#[^)\s]*)?\)")

log = logging.getLogger("mkdocs.hooks.repository")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead the links of a page that leave docs/ to the repository."""
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))

    def address(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, link[1]))
        if path.startswith("docs/"):
            return link[0]
        if not (ROOT / path).exists():
            log.warning("%s has a link to %s, which is not there", page.file.src_uri, path)
        return f"]({REPOSITORY}/blob/main/{path}{link[2] or ''})"

    return OUTSIDE.sub(address, markdown)


def on_page_content(html: str, page: Any, files: Any, **_: Any) -> str:
    """Make the names of pages in docstrings into links."""
    if page.file.src_uri != "reference/python.md":
        return html

    def link(name: re.Match[str]) -> str:
        named = files.get_file_from_path(name[1])
        if named is None:
            log.warning("a docstring names %s, which is not there", name[0])
            return name[0]
        title = re.match(r"(?:---.*?---\s*)?# ([^\n]+)", named.content_string, re.DOTALL)
        return f'<a href="{named.url_relative_to(page.file)}">{title[1] if title else name[0]}</a>'

    return NAMED.sub(link, html)
