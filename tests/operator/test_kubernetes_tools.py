"""Where the programs of a real API server come from, and what is said where they are not."""

import os
import subprocess
from pathlib import Path

from support.documents import ROOT
from support.processes import DEADLINE_S

TOOLS = ("kube-apiserver", "etcd", "kube-controller-manager", "kubectl")


def find(**environ: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(ROOT / "scripts/kubernetes-tools"), "--find"]
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | environ
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def put_tools(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch(mode=0o755)
    return folder


def test_the_folder_that_is_named_is_used_if_it_has_everything(tmp_path: Path) -> None:
    named = put_tools(tmp_path / "named", *TOOLS)
    assert find(KUBEBUILDER_ASSETS=str(named)).stdout == f"{named}\n"


def test_a_folder_without_the_controllers_is_passed_over_for_the_cache(tmp_path: Path) -> None:
    named = put_tools(tmp_path / "named", "kube-apiserver", "etcd", "kubectl")
    cache = put_tools(tmp_path / "cache/kubernetes-1.34.4", *TOOLS)
    assert find(KUBEBUILDER_ASSETS=str(named), RHAPSODE_CACHE=str(tmp_path / "cache")).stdout == f"{cache}\n"


def test_where_they_are_not_one_sentence_says_how_to_get_them(tmp_path: Path) -> None:
    done = find(RHAPSODE_CACHE=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "set KUBEBUILDER_ASSETS to their folder, or install Go" in done.stderr
