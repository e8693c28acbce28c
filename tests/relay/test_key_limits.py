"""The clients of a key get as many streams and requests as it may have, and get them back however a stream ends."""

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract import names
from rhapsode_contract.access import KeyLimits
from rhapsode_relay.limiting import Request
from rhapsode_relay.rationing import Bucket, Rations
from support.fake_worker import FakeWorker
from support.processes import DEADLINE_S, Relay, manifest, running_relay, wait_until
from support.requests import assert_error
from support.sockets import WebSocket
from support.streams import Stream, ask

ALICE, BOB = {"Authorization": "Bearer first"}, {"X-Api-Key": "other"}


@contextlib.contextmanager
def rationed(folder: Path, **limits: int) -> Iterator[tuple[Relay, FakeWorker]]:
    (folder / "alice").write_text("first")
    (folder / "bob").write_text("other")
    resource = manifest()
    resource["spec"]["auth"] = {"secretRef": {"name": "keys"}, "limits": limits}
    with (
        running_relay(resource, {names.ENV_KEYS: str(folder)}) as relay,
        FakeWorker(relay.socket) as worker,
    ):
        yield relay, worker


def watch(relay: Relay, key: dict[str, str] = ALICE) -> Stream:
    return Stream(relay.port, "/v1/worker/stream", headers=key)


def begin(relay: Relay, key: dict[str, str] = ALICE, path: str = "/v1/inference", **body: Any) -> httpx.Response:
    return httpx.post(f"{relay.url}{path}", json={"prompt": "x"} | body, headers=key)


def test_a_stream_too_many_is_told_to_come_back(tmp_path: Path) -> None:
    with rationed(tmp_path, streams=2) as (relay, _), watch(relay), watch(relay):
        refused = httpx.get(f"{relay.url}/v1/worker/stream", headers=ALICE)
        error = assert_error(refused, 429, "rate_limited", retryable=True)
        assert error["type"] == "rate_limit_error"
        assert error["message"] == "key alice has 2 streams open, which is its limit"
        assert (refused.headers["retry-after"], refused.headers["retry-after-ms"]) == ("1", "1000")
        assert begin(relay, path="/execute").status_code == 429, "nothing is begun that could not be read"
        assert relay.metric("rhapsode_requests_accepted_total") == 0
        assert begin(relay).status_code == 202, "what does not stream needs no place"
        assert httpx.get(f"{relay.url}/v1/worker", headers=ALICE).status_code == 200
        with watch(relay, BOB) as other:
            assert other.status == 200, "each key counts for itself"
        assert relay.metric('rhapsode_requests_refused_total{code="rate_limited"}') == 2


@pytest.mark.parametrize("how", ["it ends", "it leaves", "it is killed", "it is refused", "it fails"])
def test_a_stream_gives_its_place_back(tmp_path: Path, how: str) -> None:
    with rationed(tmp_path, streams=1) as (relay, worker):
        if how in ("it ends", "it leaves", "it is killed"):
            stream = ask(relay.port, headers=ALICE)
            if how == "it ends":
                worker.serve("a")
                stream.rest()
            stream.close(hard=how == "it is killed")
        elif how == "it is refused":
            assert httpx.get(f"{relay.url}/v1/inference/sim-1/stream", headers=ALICE).status_code == 404
        else:
            assert begin(relay, path="/execute", max_tokens=-1).status_code == 400
        with contextlib.closing(wait_until(lambda: _opened(relay), "there is a place again")):
            assert httpx.get(f"{relay.url}/v1/worker/stream", headers=ALICE).status_code == 429


@pytest.mark.parametrize(
    ("path", "asked"),
    [("/v1/responses", b'{"model":"sim","input":"x"}'), ("/execute", b'{"prompt":"x"}'),
     ("/v1/chat/completions", b'{"model":"sim","messages":[{"role":"user","content":"x"}]}')],
)  # fmt: skip
def test_a_client_that_is_killed_the_moment_it_has_asked_gives_its_place_back(
    tmp_path: Path, path: str, asked: bytes
) -> None:
    """Its request and its end come together: the end must not get lost between the two."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer first\r\nContent-Length: {len(asked)}\r\n\r\n"
    with rationed(tmp_path, streams=1) as (relay, _):
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", relay.port), DEADLINE_S) as killed:
                killed.sendall(head.encode() + asked)
                killed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wait_until(lambda: _opened(relay), "there is a place again").close(hard=True)


def _opened(relay: Relay) -> Stream | None:
    stream = watch(relay)
    if stream.status == 200:
        return stream
    stream.close()
    return None


def test_streams_by_ticket_and_by_websocket_count_for_their_key(tmp_path: Path) -> None:
    with rationed(tmp_path, streams=1) as (relay, worker):
        job_id = begin(relay).json()["job_id"]
        worker.begin()
        url = httpx.post(f"{relay.url}/v1/tickets", json={"job_id": job_id}, headers=ALICE).json()["url"]
        with Stream(relay.port, url) as stream:
            assert stream.status == 200
            assert httpx.get(f"{relay.url}/v1/worker/stream", headers=ALICE).status_code == 429
        with contextlib.closing(wait_until(lambda: _socket(relay, url), "there is a place again")):
            assert httpx.get(f"{relay.url}/v1/worker/stream", headers=ALICE).status_code == 429
        wait_until(lambda: _opened(relay), "there is a place again").close()


def _socket(relay: Relay, url: str) -> WebSocket | None:
    wire = WebSocket(relay.port, url.replace("/stream?", "/ws?"))
    if wire.status == 101:
        return wire
    wire.close()
    return None


def test_a_request_too_many_is_told_when_to_come_back(tmp_path: Path) -> None:
    with rationed(tmp_path, requestsPerMinute=2) as (relay, _):
        assert [begin(relay).status_code for _ in range(2)] == [202] * 2
        refused = begin(relay)
        assert_error(refused, 429, "rate_limited", retryable=True)
        assert 0 < int(refused.headers["retry-after-ms"]) <= 30_000, "half a minute at most"
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert refused.headers["x-should-retry"] == "true"
        for path in ("/execute", "/v1/turns", "/v1/chat/completions", "/v1/completions"):
            assert begin(relay, path=path).status_code == 429
        assert begin(relay, BOB).status_code == 202
        assert httpx.get(f"{relay.url}/v1/models", headers=ALICE).status_code == 200
        ticket = httpx.post(f"{relay.url}/v1/tickets", json={"job_id": "sim-1"}, headers=ALICE)
        assert ticket.status_code == 201, "what begins no work does not count"


def test_what_the_worker_cannot_take_does_not_count(tmp_path: Path) -> None:
    with rationed(tmp_path, requestsPerMinute=2) as (relay, _):
        httpx.post(f"{relay.admin_url}/v1/drain")
        for _ in range(5):
            assert begin(relay).status_code == 503
        with running_relay(manifest(queueLimit=0)) as other:
            assert begin(other, {}).status_code == 503
    with rationed(tmp_path, requestsPerMinute=2) as (relay, _):
        assert [begin(relay, max_tokens=-1).status_code for _ in range(3)] == [400, 400, 429], "a mistake counts"


def test_without_limits_nothing_is_counted(tmp_path: Path) -> None:
    with rationed(tmp_path) as (relay, _):
        assert {begin(relay).status_code for _ in range(20)} == {202}


# Counting


def test_a_bucket_is_refilled_evenly() -> None:
    bucket = Bucket(per_minute=60, left=60, at=0.0)
    assert [bucket.take(0.0) for _ in range(60)] == [0.0] * 60
    assert bucket.take(0.0) == pytest.approx(1.0)
    assert bucket.take(0.5) == pytest.approx(0.5)
    assert bucket.take(1.0) == 0.0
    assert bucket.take(3600.0) == 0.0
    assert bucket.left == 59, "a minute's worth at most"


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=60), st.integers(1, 40))
def test_nobody_gets_more_than_a_minutes_worth_and_what_is_refilled(
    steps: list[tuple[float, bool]], rate: int
) -> None:
    rations, now, taken, back = Rations(KeyLimits(requests_per_minute=rate)), 0.0, 0, 0
    for pause, gives_back in steps:
        now += pause
        wait_s = rations.take("a", now)
        assert 0 <= wait_s <= 60 / rate + 1e-6
        taken += wait_s == 0
        if gives_back and wait_s == 0:
            rations.give_back("a")
            back += 1
    assert taken - back <= rate + now * rate / 60 + 1e-6


@given(st.lists(st.sampled_from("ab+"), max_size=40))
def test_places_are_counted_for_each_key(steps: list[str]) -> None:
    rations, open_ = Rations(KeyLimits(streams=2)), {"a": 0, "b": 0}
    for step in steps:
        name = "a" if step == "+" else step
        if step == "+" and open_[name]:
            rations.close(name)
            open_[name] -= 1
        elif step != "+" and rations.has_place(name):
            rations.open(name)
            open_[name] += 1
    assert rations.streams == {name: count for name, count in open_.items() if count}
    assert max(open_.values()) <= 2


@pytest.mark.parametrize(
    ("asked", "works", "streams"),
    [
        (Request("POST", "/v1/inference"), True, False), (Request("POST", "/v1/inference", "text/event-stream"), True, True),
        (Request("POST", "/v1/chat/completions"), True, True), (Request("POST", "/v1/turns"), True, True),
        (Request("POST", "/v1/tickets"), False, False), (Request("POST", "/v1/responses/resp_1/cancel"), False, False),
        (Request("GET", "/v1/inference/a/stream"), False, True), (Request("GET", "/v1/inference/a/ws"), False, True),
        (Request("GET", "/v1/responses/resp_a", stream="true"), False, True), (Request("GET", "/v1/responses/resp_a"), False, False),
        (Request("GET", "/v1/inference/a"), False, False), (Request("DELETE", "/v1/inference/a"), False, False),
        (Request("HEAD", "/v1/inference/a/stream"), False, False), (Request("OPTIONS", "/v1/inference"), False, False),
    ],
)  # fmt: skip
def test_what_a_request_takes_up(asked: Request, works: bool, streams: bool) -> None:
    assert (asked.begins_work(), asked.may_stream()) == (works, streams)
