"""A worker whose engine plays a script (`scripted_engine`), on GPUs that the test moves."""

import json
import os
from itertools import groupby
from pathlib import Path
from typing import Any, Self

from rhapsode_contract import frames
from rhapsode_contract.manifests import load_manifest
from rhapsode_worker.history import Times, load_key, remember_times
from rhapsode_worker.settings import WorkerSettings
from support.fake_nvml import GIB, FakeNvml
from support.processes import manifest, wait_until
from support.scripted_engine import SCRIPT
from support.worker_process import Worker

TESTS = Path(__file__).parents[1]


class Loading:
    """One worker that loads."""

    def __init__(
        self, folder: Path, script: list[str | dict[str, Any]], gpus: int = 2, usual: Times | None = None
    ) -> None:
        self.folder = folder / "checkpoint"
        self.folder.mkdir()
        (self.folder / "config.json").write_text("{}")
        for part in ("model-1.safetensors", "model-2.safetensors"):
            with (self.folder / part).open("wb") as file:
                file.truncate(int(63.32 * GIB))
        (self.folder / SCRIPT).write_text(json.dumps(script))
        self.driver = FakeNvml(folder, gpus=gpus)
        resource = manifest(engine={"name": "TensorRTLLM"})
        resource["spec"]["model"] = {"source": f"file://{self.folder}", "servedName": "m"}
        path = ":".join((str(TESTS / "support/scripted"), str(TESTS), os.environ.get("PYTHONPATH", "")))
        if usual:
            (folder / "before.json").write_text(json.dumps(resource))
            settings = WorkerSettings.load(load_manifest(folder / "before.json"), {})
            remember_times(folder / "cache", load_key("TensorRTLLM", settings.source, settings.engine), usual)
        self.worker = Worker(folder, resource, PYTHONPATH=path, **self.driver.environ)
        self.told: list[frames.WorkerFrame] = []

    def __enter__(self) -> Self:
        self.worker.relay.meet()
        return self

    def __exit__(self, *_: object) -> None:
        self.worker.close()

    def go(self, name: str) -> None:
        """Let the engine go on."""
        (self.folder / name).touch()

    def until(self, kind: type[frames.WorkerFrame], **wanted: Any) -> None:
        self.told += self.worker.relay.until(kind, **wanted)

    def until_room(self, percent: float) -> None:
        """Wait until so much of the room is told to be taken. GPUs change one after the other: half of it may be told first."""
        while True:
            self.until(frames.Narration, action="weights_room")
            if abs(100 * (self.said[-1].progress or 0) - percent) < 1:
                return

    def until_told(self, gib: float) -> None:
        """Wait until it is told that every GPU holds so much."""
        wanted = {int(gib * GIB)}
        while True:
            self.until(frames.Vram)
            last = self.told[-1]
            if isinstance(last, frames.Vram) and {gpu.used_bytes for gpu in last.gpus} == wanted:
                return

    def until_there(self, name: str) -> str:
        """Wait until the engine has written a file; return what it holds."""
        path = self.folder / name
        text: str = wait_until(lambda: path.exists() and path.read_text(), f"the engine has written {name}")
        return text

    def take(self, gib: float) -> None:
        """Let the engine have so much of each GPU."""
        for gpu in range(self.driver.state.count):
            self.driver.gpus[gpu].used = int((1 + gib) * GIB)

    @property
    def actions(self) -> list[str]:
        """What was told of the load, each once in a row; when it was silent for long is no matter."""
        told = [one.action for one in self.said if one.action != "still"]
        return [action for action, _ in groupby(told[told.index("model_resolve") :])]

    @property
    def said(self) -> list[frames.Narration]:
        return [one for one in self.told if isinstance(one, frames.Narration)]

    @property
    def loads(self) -> list[frames.Load]:
        return [one for one in self.told if isinstance(one, frames.Load)]
