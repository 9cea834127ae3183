"""The page at the root: a chat with the application's agents, built from examples/chat and committed here as files.

Nothing here knows what is in the files, and no Node is needed to serve them. Their names carry a hash of their
content, so that browsers may cache them for good; only index.html is requested each time. `make page` builds them.
"""

from __future__ import annotations

import functools
import gzip
import mimetypes
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from flask import Blueprint, Response, abort, request

__all__ = ["FILES", "blueprint"]

FILES = Path(__file__).with_name("files")

blueprint = Blueprint("page", __name__)

# The page shows text of models and tools: it must never run as code, or make the browser call another server.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
}


@dataclass(frozen=True)
class _File:
    content: bytes
    zipped: bytes
    content_type: str
    etag: str


@blueprint.get("/", strict_slashes=False)
def index() -> Response:
    # The page's URLs are relative: it works below a prefix that only a proxy knows. Without a slash at the end they
    # begin with the last part of the path.
    path = request.path if request.environ.get("PATH_INFO") else ""  # `path` of the bare SCRIPT_NAME is "/"
    last_part = (request.script_root + path).rpartition("/")[2]
    response = _send("index.html", below=last_part)
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Referrer-Policy"] = "no-referrer"  # the URL contains a run's id
    response.headers["Cache-Control"] = "no-cache"
    return response


@blueprint.get("/assets/<name>")
def asset(name: str) -> Response:
    response = _send(f"assets/{name}")
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    return response


def _send(name: str, *, below: str = "") -> Response:
    file = _files().get(name) or abort(404)
    if below:
        file = _moved(file, below)
    is_zipped = bool(request.accept_encodings["gzip"])
    response = Response(file.zipped if is_zipped else file.content, content_type=file.content_type)
    if is_zipped:
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding"
    response.set_etag(file.etag, weak=True)  # of the content before compression
    response.make_conditional(request)
    return response


@functools.lru_cache(maxsize=100)
def _moved(file: _File, below: str) -> _File:
    """Have the relative URLs of an HTML file lead through `below`, a part of a path."""
    url = f'"./{quote(below)}/'.encode()
    return _file(file.content.replace(b'"./', url), file.content_type)


@functools.cache
def _files() -> dict[str, _File]:
    """Read all files, by their path below FILES: no request ever names a path on the disk."""
    return {path.relative_to(FILES).as_posix(): _read(path) for path in FILES.rglob("*") if path.is_file()}


def _read(path: Path) -> _File:
    content_type = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return _file(path.read_bytes(), content_type)


def _file(content: bytes, content_type: str) -> _File:
    return _File(content, gzip.compress(content, mtime=0), content_type, sha256(content).hexdigest()[:16])
