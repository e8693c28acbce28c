"""Rules of the house that no linter knows."""

import ast
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from support.documents import ROOT, blocks, documents, fences, links

SOURCES = sorted(
    path
    for folder in ("contract", "relay", "worker_image", "cli", "operator", "bench", "scripts", "tests", "examples")
    for path in (ROOT / folder).rglob("*.py")
)
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))


def committed() -> list[Path]:
    """Return every file that git knows or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_the_operator_folder_is_no_package() -> None:
    """`operator/__init__.py` would shadow the standard library's `operator` for everything started here."""
    assert not (ROOT / "operator/__init__.py").exists()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_says_one_thing(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 300
    tree = ast.parse(text)
    long = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= (60 if "tests" in path.parts else 40)
    ]
    assert long == [], "functions longer than 40 lines"
    if "fakes" not in path.parts:  # a fake has the names of what it stands for
        assert path.stem not in ("utils", "helpers", "manager", "common", "misc")


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.stem)
def test_requirements_are_pinned_and_hashed_and_name_no_host(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    lines = [line for line in re.sub(r"\\\n\s*", "", text).splitlines() if line and not line.lstrip().startswith("#")]
    assert lines
    for line in lines:
        assert re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+", line), line
        assert "--hash=sha256:" in line, line


def test_every_image_has_its_requirements() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    sdks = {f"sdks-{path.stem}" for path in (ROOT / "tests/sdks").glob("*.in")}
    assert {path.stem for path in REQUIREMENTS} == set(project["optional-dependencies"]) | sdks


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests/sdks/node").rglob("*.json")), ids=lambda path: path.parent.name
)
def test_packages_of_node_are_pinned_and_hashed_and_name_no_host(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    if path.name == "package-lock.json":
        packages = [entry for name, entry in json.loads(text)["packages"].items() if name]
        assert all(entry["integrity"].startswith("sha512-") for entry in packages)


def test_no_lock_file_with_addresses_is_committed() -> None:
    known = {"uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock"}
    assert not [path for path in committed() if path.name in known]


def test_every_link_of_a_document_leads_somewhere() -> None:
    dead = [(page.name, link) for page in documents() for link in links(page) if not (page.parent / link).exists()]
    assert dead == []


@pytest.mark.parametrize("page", documents(), ids=lambda page: page.name)
def test_every_block_of_a_document_names_its_language_and_ends(page: Path) -> None:
    marks = fences(page)
    assert all(re.fullmatch(r"[a-z]+", mark) for mark in marks[::2]), marks
    assert not any(marks[1::2]), marks
    assert len(marks) % 2 == 0, "the last block has no end"


def test_there_are_blocks_in_documents() -> None:
    assert {block.language for block in blocks("console", "yaml", "python", "text")} >= {"console", "yaml", "python"}
