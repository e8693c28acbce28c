"""The page at `/`, which shows what the worker does beside what it says. Called by `app`.

Its files are read once, when this module is imported, and only these are served: no path of a request reaches the
disk. They need no key, since they tell nothing; the page asks for one where the relay wants it.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

from quart import Blueprint, Response, request

from rhapsode_relay.errors import ApiError

FOLDER = Path(__file__).parent / "page"
INDEX = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self' data:",
    "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'",
)  # fmt: skip
HEADERS = {
    "Content-Security-Policy": "; ".join(_POLICY),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""What every file is sent with: nothing inline runs, nothing is loaded from elsewhere, a new relay has a new page."""


class _File(NamedTuple):
    body: bytes
    type: str
    etag: str


def _read(path: Path) -> _File:
    body = path.read_bytes()
    return _File(body, _TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:24])


FILES = {path.name: _read(path) for path in sorted(FOLDER.iterdir()) if path.suffix in _TYPES}


def page_routes() -> Blueprint:
    """Return the routes of the page and its files."""
    routes = Blueprint("page", __name__)

    @routes.get("/")
    async def index() -> Response:
        return _answer(FILES[INDEX])

    @routes.get("/page/<name>")
    async def part(name: str) -> Response:
        if name == INDEX or name not in FILES:
            raise ApiError(404, "path_not_found", f"there is no {request.path[:200]}")
        return _answer(FILES[name])

    return routes


def _answer(file: _File) -> Response:
    if request.if_none_match.contains(file.etag):
        response = Response(b"", 304, headers=HEADERS)
        del response.headers["Content-Type"]
    else:
        response = Response(file.body, headers=HEADERS, content_type=file.type)
    response.set_etag(file.etag)
    return response
