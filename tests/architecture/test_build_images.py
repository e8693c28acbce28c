"""`make images` on a machine like a user's: BuildKit builds from a base without giving it to `docker images`."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILT = 200_000_000
DOCKER = """#!/bin/sh
# A docker whose BuildKit keeps bases to itself: one is known by its name only after a pull.
echo "$*" >>"$LOG"
case "$1 $2" in
"info "*) exit "${INFO:-0}" ;;
"build "*)
    printf '#1 [internal] load build definition\n#7 [packages 3/3] RUN pip install\n#7 12.3 Collecting httpx\n'
    [ -z "${BROKEN:-}" ] || { echo "#7 ERROR: no space left"; exit 1; } ;;
"pull "*) touch "$LOG.base" ;;
"image inspect")
    case "$*" in
    *rhapsode-*) echo "$BUILT" ;;
    *) [ -e "$LOG.base" ] || { echo "Error: No such image" >&2; exit 1; }; echo 120000000 ;;
    esac ;;
esac
"""


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    return tmp_path


def _build(docker: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    given = {"PATH": f"{docker}:{os.environ['PATH']}", "LOG": str(docker / "log"), "BUILT": str(BUILT)}
    return subprocess.run(
        ["sh", str(ROOT / "scripts/build-images"), "mine"],
        env=os.environ | given | environ, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip


def test_the_sizes_are_told_where_the_base_was_never_pulled_by_name(docker: Path) -> None:
    done = _build(docker)
    assert done.returncode == 0, done.stderr
    assert "rhapsode-relay:mine                 200 MB = base 120 MB + ours 80 MB (at most 80)" in done.stdout


def test_a_base_that_is_there_is_not_asked_for_at_a_registry(docker: Path) -> None:
    (docker / "log.base").touch()
    assert _build(docker).returncode == 0
    assert "pull" not in (docker / "log").read_text()


def test_an_image_that_has_grown_is_named(docker: Path) -> None:
    done = _build(docker, BUILT=str(BUILT + 1_000_000))
    assert (done.returncode, "rhapsode-relay has grown past 80 MB" in done.stderr) == (1, True)


def test_without_docker_it_says_what_to_do(docker: Path) -> None:
    done = _build(docker, INFO="1")
    assert (done.returncode, done.stderr) == (1, "build-images: docker does not answer: install it, or start it\n")


def test_a_build_tells_its_steps_while_it_runs_and_no_more(docker: Path) -> None:
    told = _build(docker).stderr.splitlines()
    at = told.index("· building rhapsode-relay:mine")
    assert told[at + 1] == "  [packages 3/3] RUN pip install"
    assert told[at + 2] == "· building rhapsode-worker-cpu:mine"


def test_a_build_that_fails_shows_its_last_lines_and_where_the_rest_is(docker: Path) -> None:
    done = _build(docker, BROKEN="yes")
    assert done.returncode == 1
    assert "#7 ERROR: no space left\nbuild-images: rhapsode-operator:mine could not be built" in done.stderr
    log = Path(done.stderr.split()[-1])
    assert "Collecting httpx" in log.read_text()
    log.unlink()
