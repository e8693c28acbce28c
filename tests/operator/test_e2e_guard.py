"""The end-to-end scenarios delete things: they must not meet a cluster that was not made for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support.api_server import find_tools
from support.documents import ROOT


@pytest.mark.parametrize(
    ("context", "cluster"), [("production", "rhapsode-e2e"), ("kind-dev", "rhapsode-e2e"), ("", "")]
)
def test_the_scenarios_refuse_a_context_that_is_not_theirs(context: str, cluster: str, tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    entry = [{"name": context, "context": {"cluster": "c", "user": "u"}}] if context else []
    config.write_text(
        yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": context, "contexts": entry})
    )
    path = f"{find_tools()}:{os.environ['PATH']}"
    environ = os.environ | {"KUBECONFIG": str(config), "RHAPSODE_E2E_CLUSTER": cluster, "PATH": path}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "e2e/scaling"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode != 0
    assert f"e2e: kubectl points to {context or 'nothing'!r}" in done.stdout + done.stderr
    assert "run 'make e2e'" in done.stdout + done.stderr
