"""A hub or mirror that means no good, or a volume that is no disk: nothing waits for ever, fills up or is half used."""

import errno
import fcntl
import itertools
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from rhapsode_worker import asking_hub
from rhapsode_worker.asking_hub import PATIENCE_S
from rhapsode_worker.errors import LoadError
from rhapsode_worker.hub_files import choose
from rhapsode_worker.hub_parts import Part
from support.hub import Hub, Repository
from support.hub_fetches import GGUF, NO_LOCKS, REPO, Told, actions, fetch, fetching, left_over
from support.processes import wait_until

YEAR_S = 31_536_000


def refusal(cache: Path, told: list[Told] | None = None) -> LoadError:
    with pytest.raises(LoadError) as caught:
        fetch(cache, told)
    return caught.value


# Time


@pytest.mark.parametrize("store_only", [False, True], ids=["hub", "store"])
@pytest.mark.parametrize(
    "headers", [{"Retry-After": str(YEAR_S)}, {"RateLimit": f'"api";r=0;t={YEAR_S}'}, {"Retry-After": "9" * 5000}]
)
def test_a_hub_that_wants_to_be_left_alone_for_a_year_is_asked_again_in_minutes_and_that_is_told(
    hub: Hub, tmp_path: Path, headers: dict[str, str], *, store_only: bool
) -> None:
    hub.faults.status, hub.faults.headers, hub.faults.store_only = 429, headers, store_only
    pauses: list[float] = []
    told: list[Told] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        hub.faults.status = 0

    assert fetch(tmp_path, told, pause=pause).path.read_bytes() == GGUF
    assert pauses == [0.5 if "9" * 5000 in headers.values() else PATIENCE_S]
    assert "model_retry" in actions(told)


def test_a_short_pause_that_a_hub_asks_for_is_kept(hub: Hub, tmp_path: Path) -> None:
    hub.faults.status, hub.faults.headers = 429, {"Retry-After": "45"}
    pauses: list[float] = []
    with pytest.raises(LoadError, match="answers 429"):
        fetch(tmp_path, pause=pauses.append)
    assert set(pauses) == {45.0}


def test_a_hub_that_gives_drop_by_drop_is_asked_again(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client waits ten seconds for each drop, and would wait for years. Here each drop takes ten seconds."""
    drop_s = [10.0]
    clock = itertools.accumulate(drop_s[0] for _ in itertools.count())
    monkeypatch.setattr(asking_hub, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    hub.faults.block, hub.faults.pause_s = 1, 0.02
    told: list[Told] = []

    def pause(_: float) -> None:
        drop_s[0] = 0.0
        hub.faults.block, hub.faults.pause_s = 1 << 16, 0.0

    assert fetch(tmp_path, told, pause=pause).path.read_bytes() == GGUF
    (said,) = [one.fields["why"] for one in told if one.action == "model_retry"]
    assert said.startswith(f"{hub.url} gave no more than ")


# Room


def test_an_answer_without_an_end_fills_no_memory(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking_hub, "ANSWER_BYTES", 1_000_000)
    hub.faults.excess = 8 << 20
    error = refusal(tmp_path)
    assert (error.reason, error.why) == ("FetchFailed", f"{hub.url} answers with more than 1 MB")
    hub.faults.excess = 0
    assert fetch(tmp_path).path.read_bytes() == GGUF, "a file may be longer"


def test_a_file_that_goes_on_after_its_end_fills_no_disk(hub: Hub, tmp_path: Path) -> None:
    hub.faults.excess = 8 << 20
    error = refusal(tmp_path)
    assert error.reason == "FetchFailed"
    assert f"model.gguf goes on after the {len(GGUF)} bytes that the hub told of" in error.why
    assert left_over(tmp_path) == []
    hub.faults.excess = 0
    assert fetch(tmp_path).path.read_bytes() == GGUF


def test_a_name_that_no_disk_takes_is_no_file_of_a_model_and_stands_in_no_sentence() -> None:
    assert choose(["x" * 250 + ".gguf", "model.gguf"], "OpenVINO", REPO) == ["model.gguf"]
    with pytest.raises(LoadError) as caught:
        choose([f"{'x' * 5_000_000}{n}.gguf" for n in range(3)], "OpenVINO", REPO)
    assert len(str(caught.value)) < 1000


def test_a_file_that_the_hubs_client_does_not_fetch_is_refused_before_a_byte_comes(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.MAX_HTTP_DOWNLOAD_SIZE", 1_000_000)
    error = refusal(tmp_path)
    assert (error.reason, hub.fetched()) == ("SourceNotSupported", [])
    assert "model.gguf has 4.19 MB, and the hub's client fetches 1 MB. Name a repository whose" in str(error)


def test_ten_thousand_files_are_counted_and_not_listed(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[REPO] = Repository({f"{n:05}.gguf": b"x" for n in range(10_000)})
    assert "holds 10000 .gguf files" in refusal(tmp_path).why
    assert len(str(refusal(tmp_path))) < 1000


def test_what_is_there_is_read_once_however_often_the_connection_is_cut(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large model on a bad network, everything that came would be read again after each cut."""
    opened: list[str] = []
    monkeypatch.setattr(Part, "_take_in", lambda self: opened.append(str(self)))
    hub.faults.status, hub.faults.store_only = 503, True

    def pause(_: float) -> None:
        hub.faults.status = 0 if hub.faults.cuts <= 0 else 503
        hub.faults.cuts -= 1

    hub.faults.cuts = 3
    assert fetch(tmp_path, pause=pause).path.read_bytes() == GGUF
    assert len(opened) == 1


def test_that_a_hub_begins_anew_is_told(hub: Hub, tmp_path: Path) -> None:
    hub.faults.cut_after, hub.faults.cuts, hub.faults.no_ranges = 1 << 20, 1, True
    told: list[Told] = []
    assert fetch(tmp_path, told).path.read_bytes() == GGUF
    assert [one.fields["bytes_done"] for one in told if one.action == "model_resume"] == [0]


# Secrets


@pytest.mark.parametrize("token", ["\ufeffhf_secret", "hf_secret other", "hf_sécret"])
def test_a_token_that_is_none_is_refused_and_not_shown(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    error = refusal(tmp_path)
    assert error.reason == "ModelGated"
    assert "spec.model.tokenSecretRef" in error.remedy
    assert "cret" not in str(error).replace("Secret", "")
    assert hub.asked == []


def test_who_asks_a_mirror_is_not_told(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url.replace("//", "//me:s3cret@"))
    told: list[Told] = []
    assert fetch(tmp_path / "cache", told).path.read_bytes() == GGUF
    hub.faults.status = 503
    words = [str(refusal(tmp_path, told))]
    hub.faults.status, hub.repositories = 0, {}
    words.append(str(refusal(tmp_path, told)))
    assert f"{hub.url} answers 503" in words[0]
    assert "s3cret" not in json.dumps(told) + "".join(words)


# Volumes


def test_two_pods_on_a_volume_whose_locks_hold_nobody_do_no_harm(hub: Hub, tmp_path: Path) -> None:
    """NFS with `nolock` and many FUSE volumes lock on each machine for itself."""
    hub.faults.hold_after = 0
    with fetching(tmp_path, NO_LOCKS) as first, fetching(tmp_path, NO_LOCKS) as second:
        wait_until(lambda: len(hub.fetched()) == 2, "both fetch")
        hub.faults.hold_after, hub.faults.pause_s = None, 0.005
        said = [one.communicate(timeout=60) for one in (first, second)]
    assert [found.strip() for found, _ in said] == [str(fetch(tmp_path).path)] * 2, said
    assert fetch(tmp_path).path.read_bytes() == GGUF
    assert left_over(tmp_path) == []


def test_a_volume_without_locks_is_used_all_the_same(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert fetch(tmp_path).path.read_bytes() == GGUF


def test_a_volume_that_became_read_only_serves_what_is_there(hub: Hub, tmp_path: Path) -> None:
    found = fetch(tmp_path)
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert fetch(tmp_path) == found
    assert {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")} == before, "nothing is written"
