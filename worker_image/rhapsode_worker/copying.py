"""Give an engine a model file that it can open. Called by `supervising`.

OpenVINO GenAI opens a GGUF file for writing although it only reads it, which fails where the model is part of an
image, or on a volume that is mounted read-only. Then it gets a copy in the cache. (Seen with openvino-genai 2026.4.1:
`strace` shows `openat(…, O_RDWR|O_APPEND)`.)
"""

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from rhapsode_worker.errors import LoadError
from rhapsode_worker.models import ModelFiles
from rhapsode_worker.voice import Voice

MayWrite = Callable[[Path], bool]


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK)


async def open_to_engine(
    found: ModelFiles, engine: str, cache: Path, voice: Voice, may_write: MayWrite = _may_write
) -> Path:
    """Return a path that the engine can open: the file itself, or a copy. Raises LoadError if there is no room."""
    if engine != "OpenVINO" or found.path.suffix != ".gguf" or may_write(found.path):
        return found.path
    copy = copy_path(found.path, cache)
    if not copy.is_file():
        voice.say("model_copy", source=found.path.name, bytes_total=found.size)
        await asyncio.to_thread(_copy, found, copy)
    return copy


def copy_path(path: Path, cache: Path) -> Path:
    """Return where the copy of a file is kept; another file, or another version of it, has another place."""
    status = path.stat()
    told = f"{path}\n{status.st_size}\n{status.st_mtime_ns}"
    return cache / "copies" / hashlib.sha256(told.encode()).hexdigest()[:16] / path.name


def _copy(found: ModelFiles, copy: Path) -> None:
    """Copy, and let the copy appear in one step: who is killed meanwhile leaves nothing that looks whole."""
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=copy.parent, prefix="copy-") as scratch:
            part = Path(scratch) / copy.name
            shutil.copyfile(found.path, part)
            part.replace(copy)
    except OSError as exc:
        raise LoadError(
            "FetchFailed",
            f"{found.path} cannot be opened for writing, as OpenVINO wants, nor copied: {exc.strerror or exc}",
            f"Make room for {found.size // 1_000_000} MB in {copy.parent}, or give a folder of OpenVINO IR.",
        ) from exc
