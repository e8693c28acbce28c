"""Keep entries in SQLite. `app` calls it; all of it happens in one thread, so there is one writer.

Each method is one statement and so one transaction: a process that is killed, or a disk that is full, leaves an
entry whole or not at all. What was answered with 201 is on the disk.
"""

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from journal.entries import Entry

Result = TypeVar("Result")
VERSION = 1
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    session TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
    body BLOB NOT NULL,
    key TEXT,
    digest BLOB NOT NULL,
    UNIQUE (kind, key)
) STRICT;
CREATE INDEX IF NOT EXISTS entries_of_a_kind ON entries (kind, id);
PRAGMA user_version = {VERSION};
COMMIT;
"""
_INSERT = (
    "INSERT INTO entries (kind, session, body, key, digest) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT DO NOTHING RETURNING id"
)
_COLUMNS = "id, created_at, body"
_RANDOM = "SELECT id FROM entries WHERE kind = ? ORDER BY random() LIMIT ?"


class Full(Exception):
    """There is no room for another entry; nothing of it was written."""


class KeyTaken(Exception):
    """The idempotency key belongs to another entry."""


class Stored(NamedTuple):
    """An entry as it is kept, and whether it was written just now."""

    entry: dict[str, Any]
    new: bool


class Store:
    """The database of one journal."""

    def __init__(self, path: Path, max_megabytes: int) -> None:
        self._path, self._max_megabytes = path, max_megabytes
        self._thread = ThreadPoolExecutor(1, "journal")
        self._database: sqlite3.Connection

    async def open(self) -> None:
        """Open the file, make it if it is not there. sqlite3.Error or ValueError says what is wrong with it."""
        await self._do(self._open)

    async def close(self) -> None:
        await self._do(self._close)
        self._thread.shutdown()

    async def add(self, kind: str, entry: Entry, key: str | None) -> Stored:
        """Keep an entry; one that was kept under the same key is returned as it was. Full or KeyTaken otherwise."""
        return await self._do(lambda: self._add(kind, entry, key))

    async def get(self, kind: str, entry_id: int) -> dict[str, Any] | None:
        found = await self._select("WHERE kind = ? AND id = ?", kind, entry_id)
        return found[0] if found else None

    async def page(self, kind: str, session: str | None, after: int, limit: int) -> list[dict[str, Any]]:
        """Return entries of one session, or of all."""
        return await self._select(
            "WHERE kind = ?1 AND (?2 IS NULL OR session = ?2) AND id > ?3 ORDER BY id LIMIT ?4",
            *(kind, session, after, limit),
        )

    async def pick(self, kind: str, count: int) -> list[dict[str, Any]]:
        """Return some entries of a kind, in an order of chance."""
        return await self._select(f"WHERE id IN ({_RANDOM}) ORDER BY random()", kind, count)

    async def _do(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _select(self, rest: str, *values: Any) -> list[dict[str, Any]]:
        statement = f"SELECT {_COLUMNS} FROM entries {rest}"  # noqa: S608
        rows = await self._do(lambda: self._database.execute(statement, values).fetchall())
        return [_entry(row) for row in rows]

    # In the thread

    def _open(self) -> None:
        database = self._database = sqlite3.connect(self._path, isolation_level=None, timeout=30)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            database.executescript(_SCHEMA)
        elif version != VERSION:
            raise ValueError(f"has version {version} of the schema, and this journal knows {VERSION}")
        page_bytes = database.execute("PRAGMA page_size").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {self._max_megabytes * 1_000_000 // page_bytes}")

    def _close(self) -> None:
        self._database.close()

    def _add(self, kind: str, entry: Entry, key: str | None) -> Stored:
        body = msgspec.json.encode(entry)
        digest = hashlib.sha256(body).digest()
        try:
            row = self._database.execute(_INSERT, (kind, entry.session, body, key, digest)).fetchone()
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise Full from exc
            raise
        where, value = ("id", row[0]) if row else ("key", key)
        statement = f"SELECT {_COLUMNS}, digest FROM entries WHERE kind = ? AND {where} = ?"  # noqa: S608
        *kept, kept_digest = self._database.execute(statement, (kind, value)).fetchone()
        if kept_digest != digest:
            raise KeyTaken
        return Stored(_entry(kept), new=row is not None)


def _entry(row: Any) -> dict[str, Any]:
    entry_id, created_at, body = row
    return {"id": entry_id, "created_at": created_at, **msgspec.json.decode(body)}
