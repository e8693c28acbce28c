"""The journal's HTTP endpoints. `__main__` serves them, `storing` keeps what they get, `entries` judges it."""

import re
import sqlite3
import sys
from typing import Any

import msgspec
from quart import Quart, Response, request
from werkzeug.exceptions import HTTPException

from journal.entries import KINDS, MAX_BODY_BYTES, Refused, decode_entry
from journal.storing import Full, KeyTaken, Store

BODY_TIMEOUT_S = 10
MAX_ID = 2**63 - 1
_KIND = f"<any({','.join(KINDS)}):kind>"
_KEY = re.compile(r"[!-~]{1,255}")


def create_app(store: Store) -> Quart:
    """Return the journal over a store, which is opened before the first request and closed after the last."""
    app = Quart("journal")
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["BODY_TIMEOUT"] = BODY_TIMEOUT_S
    app.after_serving(store.close)
    _route_writing(app, store)
    _route_reading(app, store)
    _route_errors(app)
    return app


def _route_writing(app: Quart, store: Store) -> None:
    @app.post(f"/{_KIND}")
    async def add(kind: str) -> Response:
        entry = decode_entry(kind, await request.get_data())
        stored = await store.add(kind, entry, _key())
        answer = _json(stored.entry, 201 if stored.new else 200)
        answer.headers["Location"] = f"/{kind}/{stored.entry['id']}"
        return answer


def _route_reading(app: Quart, store: Store) -> None:
    @app.get(f"/{_KIND}")
    async def entries(kind: str) -> Response:
        after, limit = _number("after", 0, range(MAX_ID + 1)), _number("limit", 50, range(1, 101))
        return _json(await store.page(kind, request.args.get("session"), after, limit))

    @app.get(f"/{_KIND}/<int:entry_id>")
    async def one(kind: str, entry_id: int) -> Response:
        entry = await store.get(kind, entry_id) if entry_id <= MAX_ID else None
        if entry is None:
            raise Refused(404, "not_found", f"{kind} has no entry {entry_id}", "path")
        return _json(entry)

    @app.get("/pois/random")
    async def sparks() -> Response:
        return _json(await store.pick("pois", _number("count", 3, range(1, 21))))

    @app.get("/healthz")
    async def health() -> Response:
        await store.page("quests", None, 0, 1)
        return _json({"status": "ok"})


def _route_errors(app: Quart) -> None:
    @app.errorhandler(Refused)
    async def refused(exc: Refused) -> Response:
        return _error(exc.status, exc.code, str(exc), exc.where)

    @app.errorhandler(KeyTaken)
    async def key_taken(_exc: KeyTaken) -> Response:
        return _error(409, "key_taken", "this key came with another body before", "Idempotency-Key")

    @app.errorhandler(Full)
    async def full(_exc: Full) -> Response:
        message = "no room for this entry; nothing was written: free the disk, or raise --max-megabytes"
        return _error(507, "full", message, "database")

    @app.errorhandler(sqlite3.Error)
    async def broken(exc: sqlite3.Error) -> Response:
        sys.stderr.write(f"journal: {exc.sqlite_errorname}: {exc}\n")
        return _error(500, "storage_failed", f"the database says {exc.sqlite_errorname}", "database")

    @app.errorhandler(HTTPException)
    async def other(exc: HTTPException) -> Response:
        return _error(exc.code or 500, exc.name.lower().replace(" ", "_"), exc.description or exc.name, "request")


def _key() -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise Refused(400, "invalid_key", "expected 1 to 255 visible ASCII characters", "Idempotency-Key")
    return key


def _number(name: str, default: int, allowed: range) -> int:
    given = request.args.get(name)
    if given is None:
        return default
    if not re.fullmatch("[0-9]{1,19}", given) or int(given) not in allowed:
        raise Refused(400, "invalid_query", f"expected a number from {allowed[0]} to {allowed[-1]}", f"?{name}")
    return int(given)


def _json(body: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, content_type="application/json")


def _error(status: int, code: str, message: str, where: str) -> Response:
    return _json({"error": {"code": code, "message": message, "where": where}}, status)
