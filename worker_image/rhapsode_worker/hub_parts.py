"""A file while it comes: what is written is counted and hashed, and a later process goes on where this one ended.

Called by `fetching_hub`; `asking_hub` lets the hub's client write into it. Every byte is written where it belongs,
and nothing is cut off: two that write the same file, where a volume's locks hold nobody, do each other no harm.
"""

import contextlib
import errno
import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from rhapsode_contract.wording import UNITS
from rhapsode_worker.errors import LoadError
from rhapsode_worker.hub_files import HubFile

_BLOCK = 4 * 1024 * 1024
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What a disk says that takes no more."""


class TooMuch(Exception):
    """The hub gives more than it told of."""


class Part:
    """A half-done file, open at its end. Raises LoadError where the disk refuses."""

    def __init__(self, path: Path, file: HubFile, came: Callable[[int], None]) -> None:
        self._path, self._wanted, self._came = path, file, came
        if path.exists() and path.stat().st_size > file.size:
            path.unlink()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as exc:
            raise refused(exc, path, file.size) from exc
        self._digest = self._new_digest()
        self.size = 0
        self._take_in()
        self.pieced = self.size > 0
        """Whether its bytes came in more than one go: then it may be wrong although the hub is right."""
        self.excess = False

    def write(self, data: bytes) -> int:
        """Append bytes of the file. Raises TooMuch if it has no such bytes: a disk is not filled by a stranger."""
        if self.size + len(data) > self._wanted.size:
            self.excess = True
            raise TooMuch(f"{self._wanted.path} goes on after its end")
        left = memoryview(data)
        while left:
            try:
                written = os.pwrite(self._file, left, self.size)
            except OSError as exc:
                raise refused(exc, self._path, self._wanted.size - self.size) from exc
            self._digest.update(left[:written])
            self.size += written
            self._came(written)
            left = left[written:]
        return len(data)

    def tell(self) -> int:
        return self.size

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go back to the beginning, which a hub asks for that cannot go on in the middle; nowhere else."""
        if (offset, whence) not in ((0, 0), (self.size, 0)):
            raise io.UnsupportedOperation(f"seek to {offset} of {self.size}")
        if offset == 0 and self.size:
            self._start_anew()
        return offset

    def truncate(self, size: int | None = None) -> int:
        """Take everything away, or nothing: see `seek`."""
        if size == 0 and self.size:
            self._start_anew()
        return self.size

    def wrong(self) -> str:
        """Return what is wrong with the whole file, if anything is."""
        if self.excess:
            return f"{self._wanted.path} goes on after the {self._wanted.size} bytes that the hub told of"
        if self.size != self._wanted.size:
            return f"{self._wanted.path} has {self.size} bytes, the hub told of {self._wanted.size}"
        found = self._digest.hexdigest()
        if found != self._wanted.etag:
            kind = "sha256" if self._wanted.sha256 else "git SHA-1"
            return f"the {kind} of {self._wanted.path} is {found[:12]}…, the hub told of {self._wanted.etag[:12]}…"
        return ""

    def finish(self, final: Path) -> None:
        """Give the whole file its name. Another may have done so meanwhile, where locks hold nobody."""
        try:
            os.fsync(self._file)
            with contextlib.suppress(FileNotFoundError):
                self._path.replace(final)
            final.stat()
        except OSError as exc:
            raise refused(exc, final, 0) from exc

    def drop(self) -> None:
        """Forget what came: it is of no use."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _new_digest(self) -> "hashlib._Hash":
        if self._wanted.sha256:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self._wanted.size, usedforsecurity=False)

    def _take_in(self) -> None:
        while block := os.pread(self._file, _BLOCK, self.size):
            self._digest.update(block)
            self.size += len(block)

    def _start_anew(self) -> None:
        self._came(-self.size)
        self._digest, self.size = self._new_digest(), 0


def refused(exc: OSError, path: Path, needed: int) -> LoadError:
    """Return what it means that the disk does not take a file."""
    words = exc.strerror or str(exc)
    if exc.errno in FULL:
        return LoadError(
            "CacheFull",
            f"{path.parent} takes no more: {words}; {UNITS['size'](needed)} of this file are missing",
            "Make room there; in a cluster name a larger spec.cache. The fetch goes on from where it is.",
        )
    return LoadError(
        "FetchFailed",
        f"{words} ({path})",
        "Let this user write there, or set RHAPSODE_CACHE to another folder.",
    )
