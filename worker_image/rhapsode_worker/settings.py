"""Settings of one worker, read once by `__main__` from the manifest and the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rhapsode_contract import names
from rhapsode_contract.resources import EngineSpec, InferenceWorker
from rhapsode_contract.sources import ModelSource, parse_source
from rhapsode_worker.counting_kills import memory_events


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """What one worker serves, and how."""

    worker_id: str
    model: str
    source: ModelSource
    engine: EngineSpec
    socket: Path
    cache: Path
    model_folder: Path | None = None
    """Where the claim of a pvc:// source is mounted."""
    offline: bool = False
    """Whether no hub may be asked."""
    termination_log: Path | None = None
    """Where the reason is written when the worker gives up."""
    memory_events: Path | None = None
    """Where the kernel counts the processes that it killed for their memory."""
    gpus: int = 1
    """GPUs of this worker, for an engine that uses any."""
    drain_s: float = 60.0
    """How long running requests may take after SIGTERM."""
    relay_grace_s: float = 30.0
    """How long the engine goes on without a relay; then its requests are stopped."""
    max_restarts: int = 4
    """Engine processes that may end in a row before the worker gives up."""
    stable_s: float = 60.0
    """How long an engine must have been ready to be forgiven earlier ends."""

    @classmethod
    def load(cls, resource: InferenceWorker, environ: Mapping[str, str]) -> "WorkerSettings":
        """Return the settings of this process."""
        spec = resource.spec
        return cls(
            worker_id=environ.get(names.ENV_WORKER_ID) or resource.metadata.name,
            model=spec.model.name,
            source=parse_source(spec.model.source),
            engine=spec.engine,
            socket=names.default_socket(environ, int(environ.get(names.ENV_PORT, names.DEFAULT_PORT))),
            cache=names.default_cache(environ),
            model_folder=Path(told) if (told := environ.get(names.ENV_MODEL_FOLDER)) else None,
            offline=environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"),
            termination_log=Path(told) if (told := environ.get(names.ENV_TERMINATION_LOG)) else None,
            memory_events=memory_events(),
            gpus=spec.gpus or 1,
            drain_s=spec.relay.drain_seconds,
        )
