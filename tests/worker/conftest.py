"""A hub of our own, with one model."""

from collections.abc import Iterator

import pytest

from support.hub import Hub, Repository
from support.hub_fetches import GGUF, REPO


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that HF_ENDPOINT names; no token is known. Its client does not take a stall of the machine for one."""
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "60")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 60)
    with Hub({REPO: Repository({"model.gguf": GGUF, "README.md": b"read me", ".gitattributes": b"x"})}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running
