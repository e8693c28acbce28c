"""With keys, a client must show one; they are rotated without a restart, and the admin port needs none."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from rhapsode_contract import names
from rhapsode_contract.validating import decode_manifest
from rhapsode_relay.keys import KeyFolder
from rhapsode_relay.settings import RelaySettings
from support.commands import Command
from support.fake_worker import FakeWorker
from support.processes import Relay, manifest, running_relay, wait_until
from support.replicas import replicas
from support.requests import assert_error
from support.streams import Stream, ask, text_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Secret as the kubelet mounts it: links into a version that is swapped as a whole."""
    version = tmp_path / "..2026_11_21"
    version.mkdir()
    (version / "alice").write_text("first\n")
    (tmp_path / "..data").symlink_to(version.name)
    (tmp_path / "alice").symlink_to("..data/alice")
    (tmp_path / "..hidden").write_text("hidden")
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "long").write_text("x" * 5000)
    return tmp_path


@pytest.fixture
def locked(folder: Path) -> Iterator[Relay]:
    with running_relay(environ={names.ENV_KEYS: str(folder)}) as relay:
        yield relay


def knock(
    relay: Relay, authorization: str | bytes | None, path: str = "/v1/models", method: str = "GET"
) -> httpx.Response:
    headers = {} if authorization is None else {"Authorization": authorization}
    return httpx.request(method, f"{relay.url}{path}", headers=headers)  # type: ignore[arg-type]


def test_the_right_key_opens(locked: Relay) -> None:
    assert knock(locked, "Bearer first").status_code == 200
    assert knock(locked, "bearer  first").status_code == 200, "as HTTP writes schemes and spaces"


@pytest.mark.parametrize(
    "shown",
    [None, "", "Bearer", "Bearer firs", "Bearer firstt", "Bearer FIRST", "Basic first", "first",
     "Bearer hidden", "Bearer alice", "Bearer first first", b"Bearer \xff\xfe", "Bearer " + "x" * 5000],
)  # fmt: skip
def test_nothing_else_opens(locked: Relay, shown: str | bytes | None) -> None:
    answer = knock(locked, shown)
    assert_error(answer, 401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_key_may_come_in_a_header_of_its_own(locked: Relay) -> None:
    """A proxy of the API server keeps `Authorization` for itself."""

    def knock_with(**headers: str) -> int:
        return httpx.get(
            f"{locked.url}/v1/models", headers={k.replace("_", "-"): v for k, v in headers.items()}
        ).status_code

    assert knock_with(X_Api_Key="first") == 200
    assert knock_with(X_Api_Key="first", Authorization="Bearer of-someone-else") == 200
    assert knock_with(X_Api_Key="wrong", Authorization="Bearer first") == 200
    for shown in ("", "firs", "FIRST", "Bearer first", "hidden", "alice", "x" * 5000):
        assert knock_with(X_Api_Key=shown) == 401


def test_every_key_is_compared_whichever_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a time that says nothing of the key: digests of one length, by the library's own comparison, and all of them."""
    for name, key in {"a": "first", "b": "second", "c": "third"}.items():
        (tmp_path / name).write_text(key)
    compared: list[tuple[bytes, bytes]] = []

    def compare(shown: bytes, kept: bytes) -> bool:
        compared.append((shown, kept))
        return shown == kept

    monkeypatch.setattr("rhapsode_relay.keys.hmac.compare_digest", compare)
    folder = KeyFolder(tmp_path)
    for shown, found in (("first", "a"), ("third", "c"), ("x" * 5000, None), ("", None)):
        compared.clear()
        assert folder.find(f"Bearer {shown}") == found
        assert folder.find("", shown) == found
        assert len(compared) == 2 * 2 * 3, "both headers with each key, whatever was shown"
        assert {len(digest) for pair in compared for digest in pair} == {32}


def test_keys_travel_to_the_other_replicas(folder: Path) -> None:
    key = {"X-Api-Key": "first"}
    with replicas(2, ready=0, environ={names.ENV_KEYS: str(folder)}) as (loading, ready):
        worker = ready.come()
        with ask(loading.port, headers=key) as stream:
            job = worker.serve("a")
            assert text_of(stream.rest()) == "a"
        with Stream(
            loading.port, f"/v1/inference/{job.job_id}/stream", headers={"Authorization": "Bearer first"}
        ) as again:
            assert text_of(again.rest()) == "a"
        with Stream(loading.port, f"/v1/correlations/{job.correlation_id}/stream", headers=key) as screen:
            assert text_of(screen.until("done")) == "a"
        for path in (f"/v1/inference/{job.job_id}", f"/v1/correlations/{job.correlation_id}/stream"):
            hopped = httpx.get(f"{loading.relay.url}{path}", headers={names.HOP_HEADER: "sim-1"})
            assert_error(hopped, 401, "invalid_api_key")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/inference"), ("POST", "/execute"), ("GET", "/v1/inference/sim-1/stream"),
        ("DELETE", "/v1/inference/sim-1"), ("GET", "/v1/correlations/c/stream"), ("GET", "/v1/worker"),
        ("GET", "/v1/worker/stream"), ("GET", "/nowhere"), ("OPTIONS", "/v1/models"),
    ],
)  # fmt: skip
def test_no_door_of_the_client_port_is_open(locked: Relay, method: str, path: str) -> None:
    assert_error(knock(locked, None, path, method), 401, "invalid_api_key")


def test_a_key_is_rotated_without_a_restart(locked: Relay, folder: Path) -> None:
    version = folder / "..2026_11_22"
    version.mkdir()
    (version / "alice").write_text("second")
    (folder / "..new").symlink_to(version.name)
    (folder / "..new").rename(folder / "..data")
    wait_until(lambda: knock(locked, "Bearer second").status_code == 200, "the new key opens")
    assert_error(knock(locked, "Bearer first"), 401, "invalid_api_key")


def test_no_keys_let_nobody_in(locked: Relay, folder: Path) -> None:
    assert knock(locked, "Bearer first").status_code == 200
    folder.rename(folder.with_name("elsewhere"))
    wait_until(lambda: knock(locked, "Bearer first").status_code == 401, "the keys are gone")
    assert knock(locked, "Bearer").status_code == 401
    folder.mkdir()
    assert knock(locked, "Bearer first").status_code == 401


def test_the_admin_port_needs_no_key(locked: Relay) -> None:
    with FakeWorker(locked.socket):
        wait_until(lambda: httpx.get(f"{locked.admin_url}/readyz").status_code == 200, "the worker is ready")
    assert httpx.get(f"{locked.admin_url}/v1/worker").status_code == 200
    assert httpx.post(f"{locked.admin_url}/v1/narration", json={"human": "x"}).status_code == 204


def test_an_empty_name_of_a_folder_is_a_mistake_not_an_open_door() -> None:
    with pytest.raises(ValueError, match="RHAPSODE_KEYS is empty"):
        RelaySettings.load(decode_manifest(manifest()), {names.ENV_KEYS: ""})


def test_the_command_line_shows_its_key(locked: Relay) -> None:
    key = {names.ENV_KEY: "first"}
    with FakeWorker(locked.socket) as worker:
        asked = Command("ask", "--url", locked.url, "Why?", environ=key)
        worker.serve("Be", "cause")
        assert asked.done()[:2] == (0, "Because")
        assert Command("watch", "--url", locked.url, "--until-ready", environ=key).done()[0] == 0
        for command in (["ask", "Why?"], ["watch"]):
            status, _, err = Command(*command, "--url", locked.url, environ={names.ENV_KEY: "wrong"}).done()
            assert status == 1
            assert "invalid_api_key" in err
    assert names.ENV_KEY not in os.environ


def test_the_admin_port_tells_nothing_that_a_client_said_or_was_told() -> None:
    with (
        running_relay() as relay,
        FakeWorker(relay.socket) as worker,
        Stream(_admin_port(relay), "/v1/worker/stream") as told,
    ):
        with ask(relay.port, "a secret question", headers={"X-Correlation-Id": "secret-id"}) as stream:
            job = worker.serve("a", " secret", " answer")
            stream.rest()
        for path in ("/v1/inference/" + job.job_id, f"/v1/inference/{job.job_id}/stream", "/v1/models", "/openapi.json",
                     "/v1/correlations/secret-id/stream", "/", "/page/page.js", "/v1/tickets", "/execute"):  # fmt: skip
            assert httpx.get(f"{relay.admin_url}{path}").status_code == 404
        assert httpx.post(f"{relay.admin_url}/v1/narration", json={"human": "the end"}).status_code == 204
        while b"the end" not in told.raw:
            assert told.read_some()
        shown = told.raw.decode() + "".join(
            httpx.get(f"{relay.admin_url}{path}").text
            for path in ("/v1/worker", "/metrics", "/readyz", "/healthz/worker")
        )
    for secret in ("secret", job.job_id):
        assert secret not in shown


def _admin_port(relay: Relay) -> int:
    return int(relay.admin_url.rpartition(":")[2])
