"""Which files of a hub's repository an engine needs. Pure; called by `fetching_hub` and `asking_hub`."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from rhapsode_worker.errors import LoadError

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A revision that can never mean anything else."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")
"""A name that leads nowhere else and fits: what the hub tells becomes the name of a file, and stands in sentences."""
_BESIDE = re.compile(r".*\.(json|jinja|model|txt|tiktoken)")
"""Configuration, tokenizer and chat template, of whatever format the weights are."""
_IR = re.compile(r"openvino_.*\.(xml|bin)")
_SHOWN = 8


class HubFile(NamedTuple):
    """A file of a repository. `etag` is its sha256 if it is large, the SHA-1 of its git blob if not."""

    path: str
    size: int
    etag: str

    @property
    def sha256(self) -> str:
        """Its sha256, if the hub tells it."""
        return self.etag if _SHA256.fullmatch(self.etag) else ""


class Listing(NamedTuple):
    """What a revision of a repository is."""

    commit: str
    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def is_etag(text: str) -> bool:
    """Return whether this is a digest that files can be checked by, and named after."""
    return bool(_SHA256.fullmatch(text) or COMMIT.fullmatch(text))


def choose(paths: Sequence[str], engine: str, repo: str) -> list[str]:
    """Return the files that an engine needs. Raises LoadError, which says what there is instead."""
    plain = [path for path in paths if _PLAIN.fullmatch(path)]
    beside = [path for path in plain if _BESIDE.fullmatch(path)]
    if engine == "TensorRTLLM":
        return [*_choose_safetensors(plain, repo), *beside]
    if "openvino_model.xml" in plain:
        return [*(path for path in plain if _IR.fullmatch(path)), *beside]
    return [_choose_gguf(plain, repo)]


def main_file(paths: Sequence[str]) -> str:
    """Return the one file that an engine is given instead of the folder, if there is one."""
    return next((path for path in paths if path.endswith(".gguf")), "")


def _choose_safetensors(paths: Sequence[str], repo: str) -> list[str]:
    found = [path for path in paths if path.endswith(".safetensors") and not path.startswith("consolidated")]
    if not found or "config.json" not in paths:
        raise LoadError(
            "ModelNotFound",
            f"hf://{repo} holds no checkpoint for TensorRT-LLM: config.json and .safetensors. {_there(paths)}",
            "Name another repository, or another engine.",
        )
    return found


def _choose_gguf(paths: Sequence[str], repo: str) -> str:
    found = [path for path in paths if path.endswith(".gguf")]
    if len(found) == 1:
        return found[0]
    if found:
        raise LoadError(
            "ModelNotFound",
            f"hf://{repo} holds {len(found)} .gguf files, and one is needed: {_some(found)}",
            "Name a repository with one, or put the file on a claim and use pvc://CLAIM/FILE.",
        )
    raise LoadError(
        "ModelNotFound",
        f"hf://{repo} holds neither openvino_model.xml nor a .gguf file. {_there(paths)}",
        "Name a repository with OpenVINO IR (many begin with OpenVINO/), or one with a .gguf file.",
    )


def _there(paths: Sequence[str]) -> str:
    return f"There is {_some(paths)}" if paths else "It is empty"


def _some(paths: Sequence[str]) -> str:
    rest = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(sorted(paths)[:_SHOWN]) + rest
