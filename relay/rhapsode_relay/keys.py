"""The keys that let clients in: a folder with one file each, as a mounted Secret is. Called by `gate` and `tickets`.

A file's name names its key, for the people who rotate them, for limits and for tickets: a name is no secret. An empty
folder, or one that cannot be read, lets nobody in.
"""

import hashlib
import hmac
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

READ_EVERY_S = 1.0
"""How soon a new key opens, and an old one no longer does."""
MAX_KEY_BYTES = 4096
"""A longer file is no key."""
_SEAL = b"rhapsode ticket v1"


class Key(NamedTuple):
    """One key, as far as it is kept: enough to know it again, not enough to show it to anyone."""

    name: str
    digest: bytes
    seal: bytes
    """What tickets of this key are sealed with: the same in every replica, and another once the key is another."""


class KeyFolder:
    """The keys of one folder, read again when they may have changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys: list[Key] = []
        self._read_at = -math.inf

    def find(self, authorization: str, api_key: str = "") -> str | None:
        """Return the name of the key that a client's `Authorization` or `X-Api-Key` header shows, if it is here.

        Digests of one length are compared, and all of them: time tells nothing of a key, nor which one it was.
        """
        self._refresh(time.monotonic())
        scheme, _, key = authorization.partition(" ")
        bearer, own = self._fitting(key), self._fitting(api_key)
        fitting = [*(bearer if scheme.lower() == "bearer" else []), *own]
        return fitting[0] if fitting else None

    def seal_of(self, name: str) -> bytes | None:
        """Return what tickets of a key are sealed with; None if there is no such key now."""
        self._refresh(time.monotonic())
        return next((key.seal for key in self._keys if key.name == name), None)

    def _fitting(self, shown: str) -> list[str]:
        digest = _digest(shown.encode("latin-1", "replace"))
        return [key.name for key in self._keys if hmac.compare_digest(digest, key.digest)]

    def _refresh(self, now: float) -> None:
        if now - self._read_at >= READ_EVERY_S:
            self._read_at = now
            self._keys = [Key(name, _digest(key), _seal(key)) for name, key in sorted(_read_keys(self._folder))]


def _read_keys(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the keys of a folder. Names that begin with `..` are Kubernetes' own: the versions of a Secret."""
    try:
        files = [path for path in folder.iterdir() if not path.name.startswith("..")]
    except OSError:
        return
    for path in files:
        if (key := _read_key(path)) and len(key) <= MAX_KEY_BYTES:
            yield path.name, key


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


def _seal(key: bytes) -> bytes:
    return hmac.digest(key, _SEAL, "sha256")
