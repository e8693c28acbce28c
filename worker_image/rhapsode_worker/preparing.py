"""Bring the model to this machine before the engine starts. Called by `supervising`, and by `prefetching`."""

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from rhapsode_worker.asking_hub import Hub
from rhapsode_worker.fetching import fetch_builtin
from rhapsode_worker.fetching_hub import HubFetch, Wish
from rhapsode_worker.models import (
    Builtin,
    ModelFiles,
    find_builtin,
    find_installed,
    find_local,
    find_mounted,
)
from rhapsode_worker.settings import WorkerSettings
from rhapsode_worker.voice import Voice

T = TypeVar("T")


async def prepare_model(settings: WorkerSettings, engine: str, voice: Voice) -> ModelFiles:
    """Return the model's files, fetched if need be and told about. Raises LoadError."""
    match settings.source.scheme:
        case "file":
            found = find_local(Path(settings.source.place), engine, settings.source.place)
            return _tell_found(found, settings.source.place, settings, voice)
        case "pvc":
            found = find_mounted(settings.source, settings.model_folder, engine)
            return _tell_found(found, f"pvc://{settings.source.place}/{settings.source.detail}", settings, voice)
        case "hf":
            return await _prepare_from_hub(settings, engine, voice)
        case _:
            return await _prepare_builtin(settings, voice)


async def _prepare_builtin(settings: WorkerSettings, voice: Voice) -> ModelFiles:
    builtin = find_builtin(settings.source.place)
    _tell_resolved(settings, voice, f"builtin://{settings.source.place}", 1, builtin.size)
    if installed := find_installed(builtin, settings.cache):
        voice.say("model_cached", model=settings.model, bytes_total=builtin.size)
        return installed
    return await _fetch(builtin, settings, voice)


async def _fetch(builtin: Builtin, settings: WorkerSettings, voice: Voice) -> ModelFiles:
    began = time.monotonic()

    def tell(done: int, total: int) -> None:
        seconds = time.monotonic() - began
        speed = done / seconds if done and seconds > 0.1 else None
        voice.say(
            "model_fetch",
            progress=done / total,
            model=settings.model,
            bytes_done=done,
            bytes_total=total,
            fraction=done / total,
            bytes_per_s=speed,
            eta_s=round((total - done) / speed, 1) if speed else None,
        )

    fetched = await fetch_builtin(builtin, settings.cache, tell)
    voice.say("model_verify", model=settings.model, sha256=builtin.sha256[:12])
    return fetched


async def _prepare_from_hub(settings: WorkerSettings, engine: str, voice: Voice) -> ModelFiles:
    loop = asyncio.get_running_loop()

    def say(action: str, *, progress: float | None = None, **fields: Any) -> None:
        loop.call_soon_threadsafe(functools.partial(voice.say, action, progress=progress, **fields))

    wish = Wish(
        model=settings.model,
        revision=settings.source.detail or "main",
        engine=engine,
        cache=settings.cache,
        offline=settings.offline,
    )
    hub = Hub(settings.source.place)
    return await _apart(lambda: HubFetch(hub, wish, say).fetch())


async def _apart(work: Callable[[], T]) -> T:
    """Return what work in a thread comes to. The process may end while it goes on: a fetch may take an hour."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(outcome: Callable[[], None]) -> None:
        if not done.done():
            outcome()

    def run() -> None:
        try:
            outcome = functools.partial(done.set_result, work())
        except Exception as exc:  # it is raised where it is awaited
            outcome = functools.partial(done.set_exception, exc)
        with contextlib.suppress(RuntimeError):  # the loop is over
            loop.call_soon_threadsafe(settle, outcome)

    threading.Thread(target=run, name="fetch", daemon=True).start()
    return await done


def _tell_found(found: ModelFiles, source: str, settings: WorkerSettings, voice: Voice) -> ModelFiles:
    _tell_resolved(settings, voice, source, found.files, found.size)
    return found


def _tell_resolved(settings: WorkerSettings, voice: Voice, source: str, files: int, size: int) -> None:
    voice.say("model_resolve", source=source, model=settings.model, files=files, bytes_total=size)
