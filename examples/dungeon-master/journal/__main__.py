"""The journal's process: `python -m journal`, in this example's folder. Prints its address when it is ready."""

import argparse
import asyncio
import contextlib
import os
import socket
import sqlite3
import sys
from pathlib import Path

import uvicorn

from journal.app import create_app
from journal.storing import Store

MAX_CONNECTIONS = 500
KEEP_ALIVE_S = 75
"""Longer than most clients keep a connection for later: one that is closed here may be used at that very moment."""
EXAMPLES = """examples:
  python -m journal --database journal.db              at http://127.0.0.1:8765
  python -m journal --database journal.db --port 0     at a free port, which it prints
  curl localhost:8765/quests -H 'Idempotency-Key: turn-1' -d '{"session": "s1", "title": "Find the bell"}'
  curl localhost:8765/quests
  curl 'localhost:8765/pois/random?count=3'
"""


def main() -> int:
    """Serve a journal until SIGINT or SIGTERM; return the process's exit status."""
    wish = _parser().parse_args()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(wish))
    except (OSError, sqlite3.Error, ValueError) as exc:
        sys.stderr.write(f"journal: {exc}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "journal",
        description="Keep quests, combats, points of interest and narratives in a SQLite file, and serve them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--database", type=Path, required=True, metavar="FILE", help="made if it is not there")
    parser.add_argument(
        "--host", default="127.0.0.1", help="default 127.0.0.1; 0.0.0.0 lets others in, without a key"
    )
    parser.add_argument("--port", type=int, default=8765, help="default 8765; 0 takes a free one")
    parser.add_argument("--max-megabytes", type=int, default=1000, metavar="N", help="of the file; default 1000")
    return parser


async def _serve(wish: argparse.Namespace) -> None:
    if wish.max_megabytes < 1:
        raise ValueError("--max-megabytes: expected 1 or more")
    store = Store(wish.database, wish.max_megabytes)
    await _open(store, wish.database)
    listening = _listen(wish.host, wish.port)
    config = uvicorn.Config(
        create_app(store),
        log_level="error",
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=5,
    )
    port = listening.getsockname()[1]
    sys.stdout.write(f"Journal of {wish.database} at http://{wish.host}:{port}\n")
    sys.stdout.flush()
    await uvicorn.Server(config).serve([listening])


async def _open(store: Store, path: Path) -> None:
    try:
        await store.open()
    except (sqlite3.Error, ValueError) as exc:
        raise ValueError(f"{path}: {exc}") from exc


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OverflowError as exc:
        raise ValueError(f"port {port}: expected 0 to 65535") from exc
    except OSError as exc:
        why = os.strerror(exc.errno) if exc.errno else exc
        raise OSError(f"port {port} of {host}: {why}; choose another with --port") from exc


if __name__ == "__main__":
    sys.exit(main())
