"""A ticket opens one stream for a page that cannot show its key: that one, to read, for five minutes, in every replica."""

import base64
import hashlib
import hmac
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from rhapsode_contract import names
from rhapsode_relay import tickets
from rhapsode_relay.keys import KeyFolder
from rhapsode_relay.tickets import Claim
from support.fake_worker import FakeWorker
from support.processes import Relay, running_relay, wait_until
from support.replicas import Replica, replicas, worker_of
from support.requests import assert_error
from support.sockets import WebSocket
from support.streams import Stream, ask, text_of

KEY = {"Authorization": "Bearer first"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "alice").write_text("first\n")
    (tmp_path / "bob").write_text("other")
    return tmp_path


@pytest.fixture
def locked(folder: Path) -> Iterator[Relay]:
    with running_relay(environ={names.ENV_KEYS: str(folder)}) as relay:
        yield relay


@pytest.fixture
def worker(locked: Relay) -> Iterator[FakeWorker]:
    with FakeWorker(locked.socket) as worker:
        yield worker


def ticket_for(relay: Relay, key: dict[str, str] = KEY, **subject: str) -> dict[str, Any]:
    answer = httpx.post(f"{relay.url}/v1/tickets", json=subject, headers=key)
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    body: dict[str, Any] = answer.json()
    return body


def finished_job(relay: Relay, worker: FakeWorker, *texts: str, correlation_id: str = "c-1") -> str:
    with ask(relay.port, headers=KEY | {"X-Correlation-Id": correlation_id}) as stream:
        job = worker.serve(*texts)
        stream.rest()
    return job.job_id


def made_with(key: bytes, claim: Claim) -> str:
    """Return a ticket as a relay with that key makes it."""
    return tickets.write(claim, hmac.digest(key, b"rhapsode ticket v1", "sha256"))


def get(relay: Relay, path: str, ticket: str) -> httpx.Response:
    return httpx.get(f"{relay.url}{path}", params={"ticket": ticket})


def test_a_ticket_opens_the_job_that_it_is_for(locked: Relay, worker: FakeWorker) -> None:
    job_id = finished_job(locked, worker, "a", "b")
    given = ticket_for(locked, job_id=job_id)
    assert given["url"] == f"/v1/inference/{job_id}/stream?ticket={given['ticket']}"
    assert given["expires_at"].endswith("Z")
    with Stream(locked.port, given["url"]) as stream:
        assert text_of(stream.rest()) == "ab"
    assert get(locked, f"/v1/inference/{job_id}", given["ticket"]).json()["text"] == "ab"
    with WebSocket(locked.port, f"/v1/inference/{job_id}/ws?ticket={given['ticket']}") as socket:
        assert text_of(socket.rest()) == "ab"


def test_a_ticket_of_a_correlation_id_opens_its_stream(locked: Relay, worker: FakeWorker) -> None:
    given = ticket_for(locked, correlation_id="screen-1")
    with Stream(locked.port, given["url"]) as screen:
        job_id = finished_job(locked, worker, "a", correlation_id="screen-1")
        assert text_of(screen.until("done")) == "a"
    assert_error(get(locked, f"/v1/inference/{job_id}", given["ticket"]), 403, "ticket_not_for_this")


def test_a_page_comes_back_with_its_ticket_and_its_place(locked: Relay, worker: FakeWorker) -> None:
    """As an EventSource does: the same URL, and the id in a header. A new one cannot set it: it has a parameter."""
    job_id = finished_job(locked, worker, "a", "b", "c")
    url = ticket_for(locked, job_id=job_id)["url"]
    with Stream(locked.port, url) as stream:
        first = stream.next("token")
    with Stream(locked.port, url, headers={"Last-Event-ID": first.id}) as again:
        rest = text_of(again.rest())
    assert first.data["t"] + rest == "abc"
    with Stream(locked.port, f"{url}&last_event_id={first.id}") as anew:
        assert text_of(anew.rest()) == rest


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/v1/inference/{job}"), ("HEAD", "/v1/inference/{job}/stream"), ("POST", "/v1/inference/{job}/stream"),
        ("POST", "/v1/inference"), ("POST", "/v1/tickets"), ("POST", "/execute"), ("GET", "/v1/models"),
        ("GET", "/v1/worker"), ("GET", "/v1/worker/stream"), ("GET", "/v1/inference/{job}x/stream"),
        ("GET", "/v1/inference/{other}"), ("GET", "/v1/inference/{other}/stream"), ("GET", "/v1/inference/{other}/ws"),
        ("GET", "/v1/correlations/c-1/stream"), ("GET", "/v1/inference/{job}/stream/"), ("GET", "/nowhere"),
    ],
)  # fmt: skip
def test_it_opens_nothing_else(locked: Relay, method: str, path: str) -> None:
    jobs = {"job": "sim-0123456789abcdef", "other": "sim-0123456789abcdeg"}
    ticket = ticket_for(locked, job_id=jobs["job"])["ticket"]
    answer = httpx.request(method, f"{locked.url}{path.format(**jobs)}?ticket={ticket}")
    assert answer.status_code == 403
    if method != "HEAD":
        assert_error(answer, 403, "ticket_not_for_this")


def test_no_ticket_that_we_did_not_make_opens(locked: Relay) -> None:
    job_id = "sim-0123456789abcdef"
    soon = int(time.time()) + 100
    good = ticket_for(locked, job_id=job_id)["ticket"]
    version, name, subject, until, mac = good.split(".")
    other = base64.urlsafe_b64encode(b"jsim-other").decode().rstrip("=")
    bob = base64.urlsafe_b64encode(b"bob").decode().rstrip("=")
    forged = [
        "", "v1", ".", "....", "first", good[:-1], good + "x", good + ".", good.upper(), f" {good}", f"{good}\n",
        f"v2.{name}.{subject}.{until}.{mac}", f"{version}.{bob}.{subject}.{until}.{mac}",
        f"{version}.{name}.{other}.{until}.{mac}", f"{version}.{name}.{subject}.{int(until) + 1}.{mac}",
        f"{version}.{name}.{subject}.-1.{mac}", f"{version}.{name}.{subject}.{'9' * 40}.{mac}",
        f"{version}..{subject}.{until}.{mac}", f"{version}.{name}..{until}.{mac}",
        made_with(b"wrong", Claim("alice", "job", job_id, soon)), made_with(b"first", Claim("bob", "job", job_id, soon)),
        made_with(b"first", Claim("nobody", "job", job_id, soon)), made_with(b"first", Claim("..", "job", job_id, soon)),
        made_with(b"first", Claim("alice/../bob", "job", job_id, soon)), "v1." + "A" * 2000, "é" * 300,
        made_with(hashlib.sha256(b"first").digest(), Claim("alice", "job", job_id, soon)),
    ]  # fmt: skip
    for ticket in forged:
        assert_error(get(locked, f"/v1/inference/{job_id}", ticket), 401, "invalid_ticket")
    assert_error(get(locked, f"/v1/inference/{job_id}", good), 404, "job_not_found")
    assert locked.metric('rhapsode_requests_refused_total{code="invalid_ticket"}') == len(forged)


def test_a_huge_ticket_is_refused_before_it_is_read(locked: Relay) -> None:
    assert_error(get(locked, "/v1/inference/x", "v1." + "A" * 20_000), 401, "invalid_ticket")
    assert get(locked, "/v1/inference/x", "A" * 60_000).status_code in (401, 431), "as it comes: at once or in pieces"


def test_a_ticket_expires(locked: Relay) -> None:
    claim = Claim("alice", "job", "sim-0123456789abcdef", int(time.time()) - 1)
    answer = get(locked, "/v1/inference/sim-0123456789abcdef", made_with(b"first", claim))
    assert_error(answer, 401, "ticket_expired")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_ticket_ends_with_its_key(locked: Relay, folder: Path) -> None:
    job = "/v1/inference/sim-0123456789abcdef"
    ticket = ticket_for(locked, job_id="sim-0123456789abcdef")["ticket"]
    assert get(locked, job, ticket).status_code == 404
    (folder / "alice").write_text("second")
    wait_until(lambda: get(locked, job, ticket).status_code == 401, "the new key is read")
    assert_error(get(locked, job, ticket), 401, "invalid_ticket")
    (folder / "alice").unlink()
    wait_until(lambda: httpx.get(f"{locked.url}/v1/models", headers=KEY).status_code == 401, "the key is gone")
    assert_error(get(locked, job, ticket), 401, "invalid_ticket")


@pytest.mark.parametrize(
    "body",
    [{}, {"job_id": "a", "correlation_id": "b"}, {"job_id": ""}, {"job_id": "a/b"}, {"job_id": "a\n"}, {"job_id": "a" * 161},
     {"correlation_id": "a b"}, {"correlation_id": "x" * 65}, {"job_id": 1}, [], "x", {"job_id": "é"}],
)  # fmt: skip
def test_a_ticket_for_nothing_is_refused(locked: Relay, body: Any) -> None:
    answer = httpx.post(f"{locked.url}/v1/tickets", json=body, headers=KEY)
    assert_error(answer, 400, "invalid_request")


def test_a_key_wins_over_a_ticket(locked: Relay) -> None:
    assert httpx.get(f"{locked.url}/v1/models", params={"ticket": "garbage"}, headers=KEY).status_code == 200


def test_without_keys_nothing_has_to_be_shown() -> None:
    with running_relay() as relay:
        given = ticket_for(relay, {}, job_id="sim-1")
        assert given == {"ticket": "", "expires_at": None, "url": "/v1/inference/sim-1/stream"}
        assert ticket_for(relay, {}, correlation_id="c")["url"] == "/v1/correlations/c/stream"
        assert get(relay, "/v1/models", "anything").status_code == 200


# Other replicas


@pytest.fixture
def pair(folder: Path) -> Iterator[list[Replica]]:
    with replicas(2, environ={names.ENV_KEYS: str(folder)}) as both:
        yield both


def test_a_ticket_opens_at_every_replica(pair: list[Replica]) -> None:
    here, there = pair
    job_id = finished_job(there.relay, worker_of(there), "a", "b")
    ticket = ticket_for(here.relay, job_id=job_id)["ticket"]
    with Stream(here.port, f"/v1/inference/{job_id}/stream?ticket={ticket}") as stream:
        assert text_of(stream.rest()) == "ab"
    with WebSocket(here.port, f"/v1/inference/{job_id}/ws?ticket={ticket}") as socket:
        assert text_of(socket.rest()) == "ab"
    assert get(there.relay, f"/v1/inference/{job_id}", ticket).json()["text"] == "ab"


def test_a_screen_hears_all_replicas_with_one_ticket(pair: list[Replica]) -> None:
    here, there = pair
    url = ticket_for(here.relay, correlation_id="c-1")["url"]
    with Stream(here.port, url) as screen:
        finished_job(there.relay, worker_of(there), "far")
        assert text_of(screen.until("done")) == "far"
        finished_job(here.relay, worker_of(here), "near")
        assert text_of(screen.until("done")) == "near"


def test_what_a_stream_asks_of_others_outlives_the_ticket_that_opened_it(folder: Path) -> None:
    keys, now = KeyFolder(folder), time.time()
    expired = made_with(b"first", Claim("alice", "correlation", "c-1", int(now) - 1))
    renewed = tickets.renew_in(f"channels=token&ticket={expired}&x=y".encode(), keys, now).decode()
    assert renewed.startswith("channels=token&ticket=v1.")
    assert renewed.endswith("&x=y")
    ticket = renewed.split("&")[1].removeprefix("ticket=")
    assert tickets.check(ticket, keys, now)._replace(expires_at=0) == Claim("alice", "correlation", "c-1", 0)


def test_nothing_is_renewed_that_was_never_good(folder: Path) -> None:
    keys = KeyFolder(folder)
    forged = made_with(b"wrong", Claim("alice", "job", "sim-1", 0))
    for query in (
        b"",
        b"ticket=",
        b"ticket=x",
        f"ticket={forged}".encode(),
        f"aticket={forged}".encode(),
        b"\xff&ticket=\xff",
    ):
        assert tickets.renew_in(query, keys, time.time()) == query


# Logs


def test_no_ticket_and_no_key_is_ever_logged(folder: Path) -> None:
    """Whatever becomes of a request: also when another replica refuses it, is gone, or swallows what it is told."""
    with replicas(2, environ={names.ENV_KEYS: str(folder)}) as (here, there):
        job_id = finished_job(there.relay, worker_of(there), "a")
        seen = [ticket_for(here.relay, job_id=job_id)["ticket"], ticket_for(here.relay, correlation_id="c")["ticket"]]
        for ticket in seen:
            for path in (f"/v1/inference/{job_id}", "/v1/worker", "/nowhere", "/v1/correlations/c%20/stream"):
                get(here.relay, path, ticket)
        there.die()
        assert get(here.relay, f"/v1/inference/{job_id}", seen[0]).status_code == 503
        said = here.relay.wait_record("owner_unreachable")
        assert said["fields"]["peer"] == there.name
        relays = [here.relay, there.relay]
        written = "".join(line for relay in relays for line in [*relay.lines, *relay.errors])
        for secret in (*seen, "first", "ticket=", *(ticket.split(".")[-1] for ticket in seen)):
            assert secret not in written
