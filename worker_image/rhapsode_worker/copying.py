"""Give an engine a model file that it can open. Called by `supervising`.

OpenVINO GenAI opens a GGUF file for writing although it only reads it, which fails where the model is part of an
image, or on a volume that is mounted read-only. Then it gets a copy in the cache. (Seen with openvino-genai 2026.4.1:
`strace` shows `openat(…, O_RDWR|O_APPEND)`.)
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from rhapsode_worker.errors import LoadError
from rhapsode_worker.hub_parts import FULL
from rhapsode_worker.models import ModelFiles
from rhapsode_worker.voice import Voice

MayWrite = Callable[[Path], bool]
_SCRATCH = "copy-"


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK)


async def open_to_engine(
    found: ModelFiles, engine: str, cache: Path, voice: Voice, may_write: MayWrite = _may_write
) -> Path:
    """Return a path that the engine can open: the file itself, or a copy. Raises LoadError if there is no room."""
    if engine != "OpenVINO" or found.path.suffix != ".gguf" or may_write(found.path):
        return found.path
    copy = copy_path(found.path, cache)
    if not _is_whole(copy, found.size):
        voice.say("model_copy", source=found.path.name, bytes_total=found.size)
        await asyncio.to_thread(_copy, found, copy)
    return copy


def copy_path(path: Path, cache: Path) -> Path:
    """Return where the copy of a file is kept; another file, or another version of it, has another place."""
    status = path.stat()
    told = f"{path}\n{status.st_size}\n{status.st_mtime_ns}"
    return cache / "copies" / hashlib.sha256(told.encode()).hexdigest()[:16] / path.name


def _is_whole(copy: Path, size: int) -> bool:
    return copy.is_file() and copy.stat().st_size == size


def _copy(found: ModelFiles, copy: Path) -> None:
    """Copy, and let the copy appear in one step: who is killed meanwhile leaves nothing that looks whole."""
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with _alone(copy.parent), tempfile.TemporaryDirectory(dir=copy.parent, prefix=_SCRATCH) as scratch:
            part = Path(scratch) / copy.name
            shutil.copyfile(found.path, part)
            with part.open("rb") as written:
                os.fsync(written.fileno())
            part.replace(copy)
    except OSError as exc:
        raise LoadError(
            "CacheFull" if exc.errno in FULL else "FetchFailed",
            f"{found.path} cannot be opened for writing, as OpenVINO wants, nor copied: {exc.strerror or exc}",
            f"Make room for {found.size // 1_000_000} MB in {copy.parent}, or give a folder of OpenVINO IR.",
        ) from exc


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Take away what killed ones left, unless another copies just now: then both copy, and the last one's stays."""
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o660)
    try:
        with contextlib.suppress(OSError):  # another's, or a volume without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in folder.glob(f"{_SCRATCH}*"):
                shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)
