"""The keys that let clients in: a folder with one file each, as a mounted Secret is. Called by `app`.

A file's name names its key, for the people who rotate them. An empty folder, or one that cannot be read, lets
nobody in.
"""

import hashlib
import hmac
import math
import time
from collections.abc import Iterator
from pathlib import Path

READ_EVERY_S = 1.0
"""How soon a new key opens, and an old one no longer does."""
MAX_KEY_BYTES = 4096
"""A longer file is no key."""


class KeyFolder:
    """The keys of one folder, read again when they may have changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digests: list[bytes] = []
        self._read_at = -math.inf

    def opens(self, authorization: str, api_key: str = "") -> bool:
        """Return whether a client's `Authorization` or `X-Api-Key` header shows a key that is here.

        Digests of one length are compared, and all of them: time tells nothing of a key, nor which one it was.
        """
        self._refresh(time.monotonic())
        scheme, _, key = authorization.partition(" ")
        bearer = self._fits(key)
        return (scheme.lower() == "bearer" and bearer) | self._fits(api_key)

    def _fits(self, key: str) -> bool:
        shown = _digest(key.encode("latin-1", "replace"))
        return sum(hmac.compare_digest(shown, digest) for digest in self._digests) > 0

    def _refresh(self, now: float) -> None:
        if now - self._read_at >= READ_EVERY_S:
            self._read_at = now
            self._digests = [_digest(key) for key in _read_keys(self._folder)]


def _read_keys(folder: Path) -> Iterator[bytes]:
    """Yield the keys of a folder. Names that begin with `..` are Kubernetes' own: the versions of a Secret."""
    try:
        files = [path for path in folder.iterdir() if not path.name.startswith("..")]
    except OSError:
        return
    for path in files:
        if (key := _read_key(path)) and len(key) <= MAX_KEY_BYTES:
            yield key


def _read_key(path: Path) -> bytes:
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(MAX_KEY_BYTES + 1).strip()
    except OSError:
        return b""


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key.strip()).digest()
