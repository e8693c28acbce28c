"""Whole plays that several tests share: the real relay and the real worker, as `rhapsode play` runs them."""

from collections.abc import Iterator

import pytest
import yaml

from support.documents import ROOT
from support.models import smollm
from support.processes import Play, manifest, playing


@pytest.fixture(scope="session")
def smollm_play() -> Iterator[Play]:
    """`examples/smollm.yaml`, ready: a real model on this machine's CPU."""
    smollm()
    with playing(yaml.safe_load((ROOT / "examples/smollm.yaml").read_text())) as play:
        play.wait_ready(120)
        yield play


@pytest.fixture(scope="session")
def fast_play() -> Iterator[Play]:
    """The simulator, as fast as it can, ready."""
    resource = manifest(engine={"options": {"tokensPerSecond": 0}}, onDisconnect="continue")
    with playing(resource) as play:
        play.wait_ready()
        yield play
