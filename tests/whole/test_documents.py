"""What stands in the documents is run: every command, every manifest, every program, and its output is compared."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from rhapsode_contract.validating import decode_manifest
from support.documents import Block, blocks
from support.models import small_hub
from support.processes import Play, manifest, playing
from support.sessions import Session, in_a_cluster, in_a_real_cluster, run_documented

RUN_BY_CI = {"make test", "make lint types test", "make generate", "make bench", ".ci/run"}
"""Commands that would run this test again, or for minutes; `.ci/run` runs them, and `test_bench` the bench."""
RUN_WITH_SDKS = "docs/clients.md"
"""Its programs need environments of their own: `tests/sdks` runs them."""
CONSOLES = [one for one in blocks("console") if not in_a_cluster(one) and not in_a_real_cluster(one)]
SESSIONS = {document: [one for one in CONSOLES if one.document == document] for document in
            dict.fromkeys(one.document for one in CONSOLES)}  # fmt: skip


@pytest.mark.model
@pytest.mark.parametrize("document", SESSIONS, ids=str)
def test_every_command_runs_and_says_what_the_document_shows(document: str) -> None:
    with tempfile.TemporaryDirectory() as folder, small_hub() as hub:
        fetched = {"HF_ENDPOINT": hub.url, "RHAPSODE_CACHE": folder} if document == "docs/models.md" else {}
        session = Session(Path(folder), fetched)
        try:
            run_documented(session, SESSIONS[document], RUN_BY_CI)
        finally:
            session.close()


def test_there_are_commands() -> None:
    assert {"README.md", "docs/stream.md", "CONTRIBUTING.md"} <= set(SESSIONS)


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_every_manifest_is_one(block: Block) -> None:
    decode_manifest(yaml.safe_load(block.text))


@pytest.fixture(scope="module")
def audience() -> Iterator[Play]:
    with playing(manifest(engine={"options": {"tools": True}})) as play:
        play.wait_ready()
        yield play


@pytest.mark.parametrize("block", [one for one in blocks("python") if one.document != RUN_WITH_SDKS], ids=str)
def test_every_program_runs(block: Block, audience: Play) -> None:
    environ = os.environ | {"RHAPSODE_SOCKET": str(audience.socket), "RHAPSODE_URL": audience.url}
    program = block.text.replace("8080", str(audience.port))
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
