"""Fetched models on disk, in the layout of the hub's own cache: its tools list and delete what is here.

    hub/models--ORG--REPO/blobs/ETAG            a whole, verified file; ETAG.incomplete while it comes
                          snapshots/COMMIT/PATH  a link to it
                          refs/REVISION          the commit that a branch or tag was, last time
                          .rhapsode/COMMIT.ENGINE.json   what an engine needs of a commit is all here

Called by `fetching_hub`. Nothing has its final name before it is whole, so a kill at any moment harms nothing.
"""

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from rhapsode_worker.hub_files import HubFile, main_file
from rhapsode_worker.models import ModelFiles

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


class _Kept(msgspec.Struct):
    """A file of a snapshot."""

    path: str
    size: int


class HubCache:
    """The part of the cache that holds one repository."""

    def __init__(self, cache: Path, repo: str) -> None:
        self.folder = cache / "hub" / f"models--{repo.replace('/', '--')}"

    def find(self, commit: str, engine: str) -> ModelFiles | None:
        """Return what an engine needs of a commit, if it is whole."""
        try:
            kept = msgspec.json.decode(self._list(commit, engine).read_bytes(), type=list[_Kept])
            whole = all(self._pointer(commit, one.path).stat().st_size == one.size for one in kept)
        except (OSError, msgspec.DecodeError):
            return None
        main = main_file([one.path for one in kept])
        folder = self.folder / "snapshots" / commit
        return (
            ModelFiles(folder / main if main else folder, len(kept), sum(one.size for one in kept)) if whole else None
        )

    def commit_of(self, revision: str) -> str:
        """Return the commit that a branch or tag was when it was last fetched."""
        try:
            return (self.folder / "refs" / revision).read_text().strip()
        except OSError:
            return ""

    def blob(self, file: HubFile) -> Path:
        return self.folder / "blobs" / file.etag

    def part(self, file: HubFile) -> Path:
        return self.folder / "blobs" / f"{file.etag}.incomplete"

    def has(self, file: HubFile) -> bool:
        """Return whether a file is here, whole."""
        return _size(self.blob(file)) == file.size

    def bytes_here(self, files: Sequence[HubFile]) -> int:
        """Return how much of these files is here, half-done ones included."""
        return sum(file.size if self.has(file) else min(file.size, max(0, _size(self.part(file)))) for file in files)

    def finish(self, commit: str, engine: str, files: Sequence[HubFile]) -> None:
        """Put fetched files where they belong, and say last that they are all there."""
        for file in files:
            self._point(file, self._pointer(commit, file.path))
        kept = [_Kept(file.path, file.size) for file in files]
        _write(self._list(commit, engine), msgspec.json.encode(kept))

    def note(self, revision: str, commit: str) -> None:
        """Remember which commit a revision is. A cache that is read-only forgets it."""
        if revision != commit and self.commit_of(revision) != commit:
            with contextlib.suppress(OSError):
                _write(self.folder / "refs" / revision, commit.encode())

    @contextlib.contextmanager
    def locked(self, wait: Callable[[], None]) -> Iterator[None]:
        """Hold the repository alone; call `wait` as long as another has it. A kill gives it back."""
        (self.folder / "blobs").mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / ".rhapsode.lock", os.O_RDWR | os.O_CREAT, 0o660)
        try:
            while not _lock(descriptor):
                wait()
            yield
        finally:
            os.close(descriptor)

    def _pointer(self, commit: str, path: str) -> Path:
        return self.folder / "snapshots" / commit / path

    def _list(self, commit: str, engine: str) -> Path:
        return self.folder / ".rhapsode" / f"{commit}.{engine}.json"

    def _point(self, file: HubFile, pointer: Path) -> None:
        pointer.parent.mkdir(parents=True, exist_ok=True)
        if _size(pointer) == file.size:
            return
        fresh = _beside(pointer)
        try:
            fresh.symlink_to(Path("../../blobs") / file.etag)
        except OSError:  # a volume without symbolic links
            fresh = self.blob(file)
        fresh.replace(pointer)


def _lock(descriptor: int) -> bool:
    """Return whether we may go on. A volume without locks holds nobody: there two may fetch the same bytes."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        if exc.errno not in _NO_LOCKS:
            raise
    return True


def _size(path: Path) -> int:
    """Return a file's size, -1 if it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = _beside(path)
    fresh.write_bytes(data)
    fresh.replace(path)


def _beside(path: Path) -> Path:
    """Return a name that nobody else takes: pods that share a volume may have equal process ids."""
    return path.with_name(f".{secrets.token_hex(8)}")
