"""What README and the operations page tell people to type is typed, in their order, on a real cluster."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.clusters import Cluster
from e2e.operators import Operator

from support.documents import blocks
from support.sessions import Session, in_a_real_cluster, run_documented

BLOCKS = [block for block in blocks("console") if in_a_real_cluster(block)]


@pytest.fixture
def shell(cluster: Cluster, operator: Operator, namespace: str, tmp_path: Path) -> Iterator[Session]:
    """A shell in the repository, in a cluster without an operator, whose default namespace is the test's."""
    operator.uninstall()
    config = tmp_path / "kubeconfig"
    config.write_bytes(Path(os.environ["KUBECONFIG"]).read_bytes())
    context = ["kubectl", "config", "set-context", "--current", "--namespace", namespace]
    environ = {"KUBECONFIG": str(config), "KIND_CLUSTER_NAME": cluster.name}
    subprocess.run(context, env=os.environ | environ, check=True, capture_output=True)
    environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    session = Session(tmp_path, environ)
    try:
        yield session
    finally:
        session.close()


@pytest.mark.parametrize("document", dict.fromkeys(block.document for block in BLOCKS), ids=str)
def test_every_command_runs_and_says_what_the_document_shows(document: str, shell: Session) -> None:
    run_documented(shell, [block for block in BLOCKS if block.document == document])


def test_the_quickstart_and_the_operations_are_among_them() -> None:
    assert {block.document for block in BLOCKS} == {"README.md", "docs/operations.md"}
