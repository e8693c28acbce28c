"""The init container's process: it fetches, the relay hears how far it is, and its end says whether a restart helps."""

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rhapsode_contract import names
from support.hub import Hub, Repository
from support.hub_fetches import GGUF, REPO, here
from support.narrations import narrations, said
from support.processes import Relay, Running, manifest, running_relay, wait_until
from support.streams import Stream


class Prefetch(Running):
    """The process, as its container runs it."""

    def __init__(self, folder: Path, socket: Path, source: str = f"hf://{REPO}", engine: str = "OpenVINO") -> None:
        resource = manifest("m", engine={"name": engine})
        resource["spec"]["model"] = {"source": source}
        (folder / "manifest.json").write_text(json.dumps(resource))
        self.last_words = folder / "termination-log"
        environ = {
            names.ENV_MANIFEST: str(folder / "manifest.json"),
            names.ENV_SOCKET: str(socket),
            names.ENV_CACHE: str(folder / "cache"),
            names.ENV_TERMINATION_LOG: str(self.last_words),
        }
        super().__init__([sys.executable, "-m", "rhapsode_worker.prefetching"], environ)

    def told(self) -> dict[str, Any]:
        """Return what stands in the termination log."""
        found: dict[str, Any] = json.loads(self.last_words.read_text())
        return found


def steps(relay: Relay) -> list[str]:
    """Return what a relay was told of fetches, each step once."""
    return list(dict.fromkeys(one["action"] for one in narrations(relay) if one["actor"] == "fetcher"))


@pytest.fixture
def listener() -> Iterator[Relay]:
    with running_relay() as relay:
        yield relay


def run(folder: Path, relay: Relay, **how: str) -> tuple[int, Prefetch]:
    process = Prefetch(folder, relay.socket, **how)
    try:
        return process.wait(), process
    finally:
        process.close()


def test_the_relay_hears_every_step_and_how_far_it_is(hub: Hub, listener: Relay, tmp_path: Path) -> None:
    hub.faults.pause_s, hub.faults.hold_after = 0.05, 2 << 20  # 2 MiB take longer than the second between two words
    percents: list[float] = []

    def hear() -> float:
        load = stream.next("load").data
        assert load["stage"] == "fetching the model"
        percents.append(load["percent"])
        return percents[-1]

    with Stream(listener.port, "/v1/worker/stream") as stream:
        stream.next("worker")
        with contextlib.closing(Prefetch(tmp_path, listener.socket)) as process:
            while hear() == 0:
                hub.faults.hold_after += 1 << 18  # one that stood still has it all at once: a later piece is told
            assert 0 < percents[-1] < 100
            hub.faults.hold_after = None
            while hear() < 100:
                continue
            assert process.wait() == 0
    assert process.errors == []
    assert "s3cret" not in "".join(process.lines), "an address that the hub signed is as good as a token"
    assert percents == sorted(percents)
    assert percents[-1] == 100
    wait_until(lambda: "model_verify" in steps(listener), "the relay has heard the last step")
    assert steps(listener) == ["model_resolve", "model_fetch", "model_verify"]
    assert [path.read_bytes() == GGUF for path in tmp_path.glob("cache/hub/*/snapshots/*/model.gguf")] == [True]


def test_a_model_that_is_there_is_fetched_by_nobody(hub: Hub, listener: Relay, tmp_path: Path) -> None:
    assert run(tmp_path, listener)[0] == 0
    assert run(tmp_path, listener)[0] == 0
    assert len(hub.fetched()) == 1
    wait_until(lambda: "model_cached" in steps(listener), "the relay has heard it")


def test_killed_it_goes_on_where_it_was(hub: Hub, listener: Relay, tmp_path: Path) -> None:
    hub.faults.hold_after = 2 << 20
    process = Prefetch(tmp_path, listener.socket)
    try:
        wait_until(lambda: here(tmp_path) > 1 << 20, "a MiB is here")
        process.send(signal.SIGKILL)
    finally:
        process.close()
    hub.faults.hold_after = None
    assert run(tmp_path, listener)[0] == 0
    first, second = (one.began for one in hub.fetched())
    assert first < 1 << 20 < second


def test_without_a_relay_it_fetches_all_the_same(hub: Hub, tmp_path: Path) -> None:
    process = Prefetch(tmp_path, tmp_path / "nobody.sock")
    try:
        assert process.wait() == 0
    finally:
        process.close()


def test_told_to_stop_it_does_not_pretend_to_be_done(hub: Hub, listener: Relay, tmp_path: Path) -> None:
    hub.faults.hold_after = 0
    process = Prefetch(tmp_path, listener.socket)
    try:
        wait_until(hub.fetched, "it fetches")
        process.send(signal.SIGTERM)
        assert process.wait() == 143
    finally:
        process.close()


@pytest.mark.parametrize(
    ("change", "source", "engine", "reason", "status"),
    [
        ("gone", "hf://org/other", "OpenVINO", "ModelGated", 78),
        ("revision", "hf://org/model@v9", "OpenVINO", "ModelNotFound", 78),
        ("gated", "hf://org/model", "OpenVINO", "ModelGated", 78),
        ("corrupt", "hf://org/model", "OpenVINO", "FetchFailed", 1),
        ("engine", "hf://org/model", "TensorRTLLM", "ModelNotFound", 78),
    ],
)
def test_why_it_gave_up_stands_in_the_termination_log_and_is_told(
    hub: Hub, listener: Relay, tmp_path: Path, change: str, source: str, engine: str, reason: str, status: int
) -> None:
    hub.repositories[REPO].gated = change == "gated"
    hub.repositories[REPO].token = "hf_x" if change == "gated" else ""
    hub.faults.corrupt = change == "corrupt"
    ended, process = run(tmp_path, listener, source=source, engine=engine)
    assert (ended, process.told()["reason"]) == (status, reason)
    heard = said(listener, process.told()["message"])
    assert (heard["action"], heard["level"]) == ("load_failed", "error")
    assert sum(one["action"] == "load_failed" for one in narrations(listener)) == 1
    assert process.errors == [], "no traceback"


def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    environ = {names.ENV_MANIFEST: str(tmp_path / "none.json")}
    process = Running([sys.executable, "-m", "rhapsode_worker.prefetching"], environ)
    try:
        assert process.wait() == names.EXIT_CANNOT_WORK
        assert "none.json" in process.errors[0]
    finally:
        process.close()


def test_a_relay_that_comes_later_hears_how_far_it_is(hub: Hub, tmp_path: Path) -> None:
    hub.faults.hold_after = 1 << 20
    with running_relay() as relay, contextlib.closing(Prefetch(tmp_path, relay.socket)) as process:
        wait_until(lambda: "load" in relay.get("/v1/worker").json(), "the first relay heard")
        relay.send(signal.SIGKILL)
        relay.wait()  # until then its ports and its socket are taken
        with Stand(relay) as again:
            wait_until(lambda: "load" in again.get("/v1/worker").json(), "the second relay heard too")
            hub.faults.hold_after = None
            assert process.wait() == 0


class Stand:
    """A relay in the place of one that was killed."""

    def __init__(self, before: Relay) -> None:
        self._folder, self._ports = before.socket.parent, (before.port, int(before.admin_url.rsplit(":", 1)[1]))

    def __enter__(self) -> Relay:
        self._relay = Relay(manifest(), self._folder, *self._ports)
        return self._relay

    def __exit__(self, *_: object) -> None:
        self._relay.close()


def test_another_repository_of_the_same_files_lies_apart(hub: Hub, listener: Relay, tmp_path: Path) -> None:
    hub.repositories["other/model"] = Repository({"model.gguf": GGUF})
    assert run(tmp_path, listener)[0] == run(tmp_path, listener, source="hf://other/model")[0] == 0
    assert sorted(path.name for path in tmp_path.glob("cache/hub/*")) == [
        "models--org--model",
        "models--other--model",
    ]
