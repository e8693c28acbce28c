"""The worker as a process that plays a script; the test plays the relay."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from rhapsode_contract import frames, names
from rhapsode_worker.joining import text_in
from support.fake_relay import FakeRelay
from support.processes import Running, held, manifest, wait_until


class Worker(Running):
    """A worker process and the relay that the test plays for it.

    The relay is there before the worker, which so tells it everything as it happens, however short its life is.
    """

    def __init__(self, folder: Path, resource: dict[str, Any], alone: bool = False, /, **environ: str) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps(resource))
        self.relay = FakeRelay(folder / "worker.sock")
        if not alone:
            self.relay.listen()
        defaults = {
            names.ENV_MANIFEST: str(path),
            names.ENV_SOCKET: str(self.relay.path),
            names.ENV_CACHE: str(folder / "cache"),
        }
        super().__init__([sys.executable, "-m", "rhapsode_worker"], defaults | environ)

    def engine_pid(self) -> int:
        """Return the process of the engine."""
        found: int = wait_until(self._find_engine, "the engine runs")
        return found

    @contextlib.contextmanager
    def engine_held(self) -> Iterator[None]:
        """Let the engine stand still meanwhile: what it does cannot be over before the test is ready for it."""
        with held(self.engine_pid()):
            yield

    def _find_engine(self) -> int:
        for child in psutil.Process(self.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "rhapsode_worker.child" in child.cmdline():
                    return child.pid
        return 0

    def ready(self) -> None:
        self.relay.meet()
        self.relay.wait(frames.State, phase="ready")

    def close(self) -> None:
        self.relay.die()
        super().close()


@contextlib.contextmanager
def working(
    tmp_path: Path, relay: dict[str, Any] | None = None, *, alone: bool = False, **options: Any
) -> Iterator[Worker]:
    """A worker that plays a script; one that is `alone` finds no relay before the test meets it."""
    options = {"load": [], "tokensPerSecond": 100} | options
    worker = Worker(tmp_path, manifest(engine={"options": options}, **(relay or {})), alone)
    try:
        yield worker
    finally:
        worker.close()


def job(job_id: str = "sim-1", **wishes: Any) -> frames.Generate:
    """Return a request for ten tokens, or with other wishes."""
    defaults: dict[str, Any] = {
        "max_tokens": 10,
        "correlation_id": "req-1",
        "prompt": "hello",
        "seed": 7,
        "meta": {"k": 1},
    }
    return frames.Generate(job_id=job_id, **(defaults | wishes))


def text_of(told: list[frames.WorkerFrame]) -> str:
    """Return the text that frames carry."""
    return "".join(text_in(frame) for frame in told if isinstance(frame, frames.Token))


def actions(told: list[frames.WorkerFrame]) -> list[str]:
    """Return the actions of the narrations among frames."""
    return [frame.action for frame in told if isinstance(frame, frames.Narration)]
