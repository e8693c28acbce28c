"""A model comes from a hub through its own client: whole, checked, once, and on from where an earlier fetch ended."""

import hashlib
import json
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from rhapsode_worker.errors import LoadError
from support.hub import Hub
from support.hub_fetches import GGUF, REPO, Told, actions, fetch, fetching, files_up_to, here, left_over
from support.processes import wait_until

SHA = hashlib.sha256(GGUF).hexdigest()


def test_a_model_is_fetched_whole_and_every_step_is_told(hub: Hub, tmp_path: Path) -> None:
    told: list[Told] = []
    found = fetch(tmp_path, told)
    assert (found.path.name, found.files, found.size) == ("model.gguf", 1, len(GGUF))
    assert found.path.read_bytes() == GGUF
    assert actions(told) == ["model_resolve", "model_fetch", "model_verify"]
    resolved, verified = told[0].fields, told[-1].fields
    commit = hub.repositories[REPO].commit
    assert (resolved["source"], resolved["bytes_total"]) == (f"hf://org/model@{commit[:12]}", len(GGUF))
    assert (verified["files"], verified["sha256"]) == (1, SHA[:12])
    done = [one.fields["bytes_done"] for one in told if one.action == "model_fetch"]
    assert (done[0], done[-1]) == (0, len(GGUF))
    assert done == sorted(done)


def test_it_lies_where_the_hubs_own_tools_look(hub: Hub, tmp_path: Path) -> None:
    from huggingface_hub import scan_cache_dir, try_to_load_from_cache

    found = fetch(tmp_path)
    cached = try_to_load_from_cache(REPO, "model.gguf", cache_dir=tmp_path / "hub")
    assert cached == str(found.path)
    (repo,) = scan_cache_dir(tmp_path / "hub").repos
    assert (repo.repo_id, repo.nb_files) == (REPO, 1)


def test_a_slow_hub_tells_how_fast_and_how_long(hub: Hub, tmp_path: Path) -> None:
    hub.faults.pause_s = 0.05
    told: list[Told] = []
    fetch(tmp_path, told)
    measured = [one.fields for one in told if one.fields.get("bytes_per_s")]
    assert measured
    first = measured[0]
    assert first["eta_s"] == pytest.approx((len(GGUF) - first["bytes_done"]) / first["bytes_per_s"], abs=0.1)


def test_a_second_start_fetches_nothing_and_a_commit_asks_nobody(hub: Hub, tmp_path: Path) -> None:
    first = fetch(tmp_path)
    told: list[Told] = []
    assert fetch(tmp_path, told) == first
    assert actions(told) == ["model_resolve", "model_cached"]
    assert len(hub.fetched()) == 1
    hub.asked.clear()
    assert fetch(tmp_path, revision=hub.repositories[REPO].commit) == first
    assert fetch(tmp_path, offline=True) == first
    assert hub.asked == []


def test_a_new_commit_brings_only_what_changed(hub: Hub, tmp_path: Path) -> None:
    first = fetch(tmp_path)
    hub.repositories[REPO].files["README.md"] = b"read me again"
    second = fetch(tmp_path)
    assert second.path != first.path
    assert second.path.read_bytes() == GGUF
    assert len(hub.fetched()) == 1


def test_a_killed_fetch_goes_on_with_the_bytes_that_are_there(hub: Hub, tmp_path: Path) -> None:
    hub.faults.hold_after = 1 << 20
    with fetching(tmp_path) as process:
        wait_until(lambda: here(tmp_path) > 1 << 19, "half a MiB is here")
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = here(tmp_path)
    hub.faults.hold_after = None
    told: list[Told] = []
    assert fetch(tmp_path, told).path.read_bytes() == GGUF
    assert [one.began for one in hub.fetched("model.gguf")] == [0, kept]
    assert told[1] == Told("model_resume", {"progress": None, "model": "model", "bytes_done": kept, "bytes_total": len(GGUF)})  # fmt: skip
    assert left_over(tmp_path) == []


def test_a_connection_that_is_cut_again_and_again_loses_no_byte(hub: Hub, tmp_path: Path) -> None:
    hub.faults.cut_after, hub.faults.cuts = 1 << 20, 3
    assert fetch(tmp_path).path.read_bytes() == GGUF
    begun = [one.began for one in hub.fetched()]
    assert begun == sorted(set(begun))
    assert len(begun) == 4


def test_a_hub_that_cannot_go_on_in_the_middle_begins_anew(hub: Hub, tmp_path: Path) -> None:
    hub.faults.cut_after, hub.faults.cuts, hub.faults.no_ranges = 1 << 20, 1, True
    assert fetch(tmp_path).path.read_bytes() == GGUF


def test_a_hub_that_is_away_is_asked_again_with_growing_pauses_and_then_given_up(hub: Hub, tmp_path: Path) -> None:
    hub.faults.status = 503
    told: list[Told] = []
    pauses: list[float] = []
    with pytest.raises(LoadError) as caught:
        fetch(tmp_path, told, pause=pauses.append)
    assert (caught.value.reason, "answers 503" in caught.value.why) == ("FetchFailed", True)
    assert "the next start goes on" in caught.value.remedy
    assert pauses == sorted(pauses)
    assert len(pauses) >= 5
    assert {one.action for one in told} == {"model_retry"}


def test_a_hub_that_comes_back_is_forgiven(hub: Hub, tmp_path: Path) -> None:
    hub.faults.status = 503

    def pause(_: float) -> None:
        hub.faults.status = 0

    assert fetch(tmp_path, pause=pause).path.read_bytes() == GGUF


def test_without_the_hub_the_copy_that_is_here_serves_and_that_is_told(hub: Hub, tmp_path: Path) -> None:
    first = fetch(tmp_path)
    hub.faults.status = 503
    told: list[Told] = []
    assert fetch(tmp_path, told) == first
    (said,) = told
    assert (said.action, said.fields["commit"]) == ("model_unchecked", hub.repositories[REPO].commit[:12])


def test_offline_and_not_here_says_so(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="HF_HUB_OFFLINE is set") as caught:
        fetch(tmp_path, offline=True)
    assert caught.value.reason == "ModelNotFound"
    assert hub.asked == []


def test_bytes_that_are_not_what_the_hub_told_of_are_refused(hub: Hub, tmp_path: Path) -> None:
    hub.faults.corrupt = True
    with pytest.raises(LoadError, match=r"the sha256 of model\.gguf is") as caught:
        fetch(tmp_path)
    assert caught.value.reason == "FetchFailed"
    assert "not to be trusted" in caught.value.remedy
    assert left_over(tmp_path) == []
    hub.faults.corrupt = False
    assert fetch(tmp_path).path.read_bytes() == GGUF


def test_a_half_done_file_that_went_bad_on_disk_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    part = tmp_path / f"hub/models--org--model/blobs/{SHA}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"nonsense" * 1000)
    assert fetch(tmp_path).path.read_bytes() == GGUF
    assert [one.began for one in hub.fetched()] == [8000, 0]


def test_two_that_come_at_once_fetch_once_and_the_second_hears_how_far_the_first_is(hub: Hub, tmp_path: Path) -> None:
    hub.faults.hold_after = half = len(GGUF) // 2
    told: list[Told] = []

    def pause(_: float) -> None:
        """Let more of it come once the second one waits, and the rest when it has heard of that."""
        if hub.faults.hold_after == half:
            hub.faults.hold_after = len(GGUF) - hub.faults.block
            wait_until(lambda: here(tmp_path) > half, "more than half is here")
        else:
            hub.faults.hold_after = None
            time.sleep(0.05)

    with fetching(tmp_path) as process:
        wait_until(hub.fetched, "the first one fetches")
        second = fetch(tmp_path, told, pause=pause)
        assert process.stdout is not None
        assert process.stdout.read().strip() == str(second.path)
    assert len(hub.fetched()) == 1
    first, then, *_ = [one.fields["fraction"] for one in told if one.action == "model_wait"]
    assert first <= 0.5 < then


def test_a_disk_that_takes_no_more_says_what_is_missing_and_keeps_what_came(hub: Hub, tmp_path: Path) -> None:
    """A file may grow to 2 MiB, the model has 4: the kernel refuses the rest, as a full disk does."""
    with fetching(tmp_path, files_up_to(2 << 20)) as process:
        said, complaints = process.communicate(timeout=60)
    assert said, complaints
    reason, words = json.loads(said)
    assert reason == "CacheFull"
    assert "takes no more: File too large; 2.1 MB of this file are missing" in words
    assert fetch(tmp_path).path.read_bytes() == GGUF
    assert [one.began for one in hub.fetched()] == [0, 2 << 20]


def test_a_cache_that_is_too_small_is_said_before_a_byte_comes(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(LoadError, match=r"needs 4\.19 MB more, and .* has 1 MB free") as caught:
        fetch(tmp_path)
    assert caught.value.reason == "CacheFull"
    assert hub.fetched() == []


def test_a_cache_that_cannot_be_written_is_named(hub: Hub) -> None:
    with pytest.raises(LoadError) as caught:
        fetch(Path("/proc/nowhere"))
    assert "/proc/nowhere" in str(caught.value)
    assert "RHAPSODE_CACHE" in caught.value.remedy
