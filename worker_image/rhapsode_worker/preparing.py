"""Bring the model to this machine before the engine starts. Called by `supervising`."""

import time

from rhapsode_worker.fetching import fetch_builtin
from rhapsode_worker.models import (
    Builtin,
    ModelFiles,
    find_builtin,
    find_installed,
    find_local,
    refuse_remote,
)
from rhapsode_worker.settings import WorkerSettings
from rhapsode_worker.voice import Voice


async def prepare_model(settings: WorkerSettings, voice: Voice) -> ModelFiles:
    """Return the model's files, fetched if need be and told about. Raises LoadError."""
    source = settings.source
    if source.scheme == "file":
        found = find_local(source)
        _tell_resolved(settings, voice, source.place, found.files, found.size)
        return found
    if source.scheme != "builtin":
        raise refuse_remote(source)
    builtin = find_builtin(source.place)
    _tell_resolved(settings, voice, f"builtin://{source.place}", 1, builtin.size)
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


def _tell_resolved(settings: WorkerSettings, voice: Voice, source: str, files: int, size: int) -> None:
    voice.say("model_resolve", source=source, model=settings.model, files=files, bytes_total=size)
