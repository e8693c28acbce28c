"""What stands in the documents about clusters is run: an API server, an operator, and pods that really run."""

import dataclasses
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from rhapsode_operator.settings import OperatorSettings
from support.api_server import ApiServer, ControllerManager
from support.documents import ROOT, blocks
from support.gated_engine import Gates
from support.kubelet import Kubelet
from support.models import small_hub
from support.service_proxy import ServiceProxy
from support.sessions import Session, in_a_cluster, in_a_real_cluster, run_documented

BLOCKS = [block for block in blocks("console") if in_a_cluster(block) and not in_a_real_cluster(block)]
STAGES = ("importing", "loading weights", "warming up")


@pytest.fixture
def session(document: str, api_server: ApiServer, namespace: str, gates: Gates) -> Iterator[Session]:
    """A shell whose kubectl speaks to the API server, in a namespace of its own."""
    with (
        ControllerManager(api_server),
        small_hub() as hub,
        Kubelet(api_server, environ=gates.environ | {"HF_ENDPOINT": hub.url}) as kubelet,
        ServiceProxy(api_server) as proxy,
        tempfile.TemporaryDirectory() as folder,
    ):
        session = Session(
            Path(folder),
            {
                "KUBECONFIG": str(proxy.config(namespace)),
                "RHAPSODE_NAMESPACE": namespace,
                "RHAPSODE_WATCH_NAMESPACES": namespace,
                "HOME": folder,
            },
        )
        session.environ["PATH"] = f"{api_server.tools}:{session.environ['PATH']}"
        session.environ["RHAPSODE_PORT"] = str(session.admin_port)
        if document == "docs/operator.md":
            hold(session, gates, kubelet)
        try:
            yield session
        finally:
            session.close()


def hold(session: Session, gates: Gates, kubelet: Kubelet) -> None:
    """Let each line that the page shows of a load stay until it was printed: what it tells is over in two seconds."""
    pull = kubelet.image_pull_takes("choir-*", "relay")  # who has told nothing yet has told no VRAM
    session.held[r"Starting +builtin:"] = pull.release
    gates.hold(*STAGES)
    for stage in STAGES:
        session.held[rf"Loading +{stage} \d+% +n/a "] = partial(gates.release, stage)


@pytest.mark.parametrize("document", dict.fromkeys(block.document for block in BLOCKS), ids=str)
def test_every_command_runs_and_says_what_the_document_shows(document: str, session: Session) -> None:
    run_documented(session, [block for block in BLOCKS if block.document == document])


def test_there_are_commands() -> None:
    assert {block.document for block in BLOCKS} >= {"docs/operator.md", "docs/kubectl.md"}


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs/operator.md").read_text()
    settings = OperatorSettings.from_env({})
    assert len(dataclasses.fields(settings)) == page.count("| `RHAPSODE_")
    assert "RHAPSODE_LEASE_SECONDS" in page
