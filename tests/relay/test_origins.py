"""Pages of other origins may ask where the manifest allows it, and read every kind of answer; no others may."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from rhapsode_contract import names
from rhapsode_relay.origins import Asked
from support.fake_worker import FakeWorker
from support.processes import Relay, manifest, running_relay
from support.replicas import replicas, worker_of
from support.requests import assert_error
from support.sockets import WebSocket
from support.streams import Stream, ask, text_of

APP, OTHER = "https://app.example.com", "https://evil.example.com"
SENT = "authorization, content-type, idempotency-key, last-event-id, x-api-key, x-correlation-id, x-stainless-lang"
KEY = {"Authorization": "Bearer first"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "alice").write_text("first")
    return folder


@contextlib.contextmanager
def allowing(*origins: str, folder: Path | None = None) -> Iterator[tuple[Relay, FakeWorker]]:
    environ = {names.ENV_KEYS: str(folder)} if folder else {}
    resource = manifest(cors={"allowedOrigins": list(origins)}) if origins else manifest()
    with running_relay(resource, environ) as relay, FakeWorker(relay.socket) as worker:
        yield relay, worker


@pytest.fixture(scope="module")
def open_to_app(folder: Path) -> Iterator[tuple[Relay, FakeWorker]]:
    with allowing(APP, "http://localhost:3000", folder=folder) as talk, talk[1].breathing():
        yield talk


def preflight(relay: Relay, path: str, origin: str = APP, method: str = "POST") -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": SENT}
    return httpx.options(f"{relay.url}{path}", headers=asked)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/inference"), ("GET", "/v1/inference/sim-1/stream"), ("DELETE", "/v1/inference/sim-1"),
     ("POST", "/v1/chat/completions"), ("POST", "/v1/tickets"), ("GET", "/v1/correlations/c/stream")],
)  # fmt: skip
def test_a_page_may_ask_before_it_has_shown_its_key(
    open_to_app: tuple[Relay, FakeWorker], method: str, path: str
) -> None:
    answer = preflight(open_to_app[0], path, method=method)
    assert answer.status_code == 200
    told = answer.headers
    assert told["access-control-allow-origin"] == APP
    assert {name.strip() for name in told["access-control-allow-headers"].lower().split(",")} == set(SENT.split(", "))
    assert method in told["access-control-allow-methods"]
    assert int(told["access-control-max-age"]) > 0
    assert "access-control-allow-credentials" not in told, "keys are headers, never cookies"
    assert "Origin" in told["vary"]


def test_a_page_reads_streams_and_their_headers(open_to_app: tuple[Relay, FakeWorker]) -> None:
    relay, worker = open_to_app
    with ask(relay.port, headers=KEY | {"Origin": APP}) as stream:
        worker.serve("a")
        assert text_of(stream.rest()) == "a"
        assert stream.headers["access-control-allow-origin"] == APP
        exposed = stream.headers["access-control-expose-headers"]
        for name in ("X-Job-Id", "X-Correlation-Id", "X-Request-Id", "X-Replay", "Link", "Location", "Retry-After"):
            assert name in exposed
    with Stream(relay.port, "/v1/correlations/c/stream", headers=KEY | {"Origin": "http://localhost:3000"}) as screen:
        assert screen.headers["access-control-allow-origin"] == "http://localhost:3000"


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [("/v1/models", {}, 401), ("/v1/models", KEY, 200), ("/nowhere", KEY, 404), ("/v1/inference/sim-1", KEY, 404),
     ("/v1/inference", KEY, 405)],
)  # fmt: skip
def test_a_page_reads_refusals(
    open_to_app: tuple[Relay, FakeWorker], path: str, key: dict[str, str], status: int
) -> None:
    answer = httpx.get(f"{open_to_app[0].url}{path}", headers=key | {"Origin": APP})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, APP)


@pytest.mark.parametrize(
    "origin", [OTHER, "null", f"{APP}.evil.example", "http://app.example.com", "https://app.example.com:8443"]
)
def test_a_page_of_another_origin_may_not(open_to_app: tuple[Relay, FakeWorker], origin: str) -> None:
    relay = open_to_app[0]
    for answer in (
        preflight(relay, "/v1/inference", origin),
        httpx.get(f"{relay.url}/v1/models", headers=KEY | {"Origin": origin}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_what_a_browser_sends_without_asking_begins_nothing(open_to_app: tuple[Relay, FakeWorker]) -> None:
    """A form or a `no-cors` fetch is sent unasked; where there are no keys, it would begin work."""
    site = {"Origin": OTHER, "Sec-Fetch-Site": "cross-site"}
    with allowing() as (relay, _):
        answer = httpx.post(f"{relay.url}/v1/inference", content=b'{"prompt":"x"}', headers=site)
        assert_error(answer, 403, "origin_not_allowed")
        with WebSocket(relay.port, "/v1/inference/sim-1/ws", headers=site) as socket:
            assert socket.status == 403
        assert httpx.get(f"{relay.url}/v1/models", headers=site).status_code == 200, "which that page cannot read"
        assert relay.metric('rhapsode_requests_refused_total{code="origin_not_allowed"}') == 2
        assert relay.metric("rhapsode_requests_accepted_total") == 0
    relay, worker = open_to_app
    asked = {"Origin": APP, "Sec-Fetch-Site": "cross-site"}
    with ask(relay.port, headers=KEY | asked) as stream:
        worker.serve("a")
        assert text_of(stream.rest()) == "a"


def test_every_origin_may_where_that_is_said() -> None:
    with allowing("*") as (relay, worker):
        with ask(relay.port, headers={"Origin": OTHER, "Sec-Fetch-Site": "cross-site"}) as stream:
            worker.serve("a")
            assert stream.headers["access-control-allow-origin"] == "*"
            stream.rest()
        assert preflight(relay, "/v1/inference", "null").headers["access-control-allow-origin"] == "*"


def test_nobody_is_told_of_origins_where_none_are_allowed() -> None:
    with allowing() as (relay, _):
        for answer in (
            preflight(relay, "/v1/inference"),
            httpx.get(f"{relay.url}/v1/models", headers={"Origin": APP}),
        ):
            assert answer.status_code == 200
            assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_page_reads_what_another_replica_answers() -> None:
    with replicas(2, cors={"allowedOrigins": [APP]}) as (here, there):
        with ask(there.port) as stream:
            job = worker_of(there).serve("a")
            stream.rest()
        with Stream(here.port, f"/v1/inference/{job.job_id}/stream", headers={"Origin": APP}) as far:
            assert text_of(far.rest()) == "a"
            assert far.headers["access-control-allow-origin"] == APP


@pytest.mark.parametrize("site", ["same-origin", "same-site", "none", "cross-site"])
def test_only_what_another_site_cannot_read_anyway_is_let_through(site: str) -> None:
    crosses = site == "cross-site"
    for method in ("POST", "DELETE", "PUT"):
        assert Asked(method, "/v1/inference", origin=OTHER, site=site).is_foreign() is crosses
    for method in ("GET", "HEAD", "OPTIONS"):
        assert not Asked(method, "/v1/inference/sim-1/stream", origin=OTHER, site=site).is_foreign()
    for path in ("/v1/inference/sim-1/ws", "/prestop"):
        assert Asked("GET", path, site=site).is_foreign() is crosses


@pytest.mark.parametrize(
    ("origin", "host", "foreign"),
    [("http://gpu.lan:8080", "gpu.lan:8080", False), ("http://GPU.lan", "gpu.lan.", False), ("http://[::1]:80", "[::1]:8080", False),
     ("http://localhost:3000", "localhost:8080", False), ("", "gpu.lan:8080", False), (OTHER, "gpu.lan:8080", True),
     ("http://gpu.lan.evil.example", "gpu.lan", True), ("null", "gpu.lan", True), ("http://[evil", "gpu.lan", True),
     ("http://localhost", "127.0.0.1:8080", True)],
)  # fmt: skip
def test_where_a_browser_does_not_judge_the_names_do(origin: str, host: str, foreign: bool) -> None:
    """Chromium judges neither WebSockets nor, over plain HTTP, what goes to other machines."""
    assert Asked("POST", "/v1/inference", host, origin).is_foreign() is foreign
    assert Asked("GET", "/v1/inference/sim-1/ws", host, origin).is_foreign() is foreign
    assert not Asked("GET", "/v1/models", host, origin).is_foreign()


def test_a_socket_from_another_site_is_refused_although_no_browser_says_that_it_is(
    open_to_app: tuple[Relay, FakeWorker],
) -> None:
    with allowing(APP) as (relay, _):
        for origin, status in ((OTHER, 403), ("null", 403), (APP, 101), ("http://test:1", 101)):
            with WebSocket(relay.port, "/v1/inference/sim-1/ws", headers={"Origin": origin}) as socket:
                assert socket.status == status, origin
    relay = open_to_app[0]
    with WebSocket(relay.port, "/v1/inference/sim-1/ws", headers=KEY | {"Origin": OTHER}) as socket:
        assert socket.status == 101, "a key is nothing that a page has unasked"


def test_a_strangers_name_that_leads_here_opens_nothing(open_to_app: tuple[Relay, FakeWorker]) -> None:
    """Its page would be of our origin, for its browser: it could ask, read and cancel."""
    with allowing("http://box.example.com") as (relay, _):
        for host, status in (("evil.example:8080", 403), ("localhost.evil.example", 403), ("box.example.com", 200),
                             ("localhost:1", 200), ("[::1]:80", 200), ("10.1.2.3", 200), ("gpubox", 200),
                             ("host.docker.internal", 200)):  # fmt: skip
            for url in (relay.url, relay.admin_url):
                answer = httpx.get(f"{url}/v1/worker", headers={"Host": host})
                if url == relay.url or host != "box.example.com":
                    assert answer.status_code == status, (host, url)
        answer = httpx.get(f"{relay.url}/", headers={"Host": "evil.example"})
        assert_error(answer, 403, "host_not_allowed")
    answer = httpx.get(f"{open_to_app[0].url}/v1/worker", headers=KEY | {"Host": "gpu.example.com"})
    assert answer.status_code == 200, "a stranger's page has no key"


def test_no_page_can_drain_a_worker() -> None:
    """The port of health and metrics needs no key either, and a picture's address is enough to ask for `/prestop`."""
    site = {"Sec-Fetch-Site": "cross-site"}
    with allowing(OTHER) as (relay, _):
        assert_error(httpx.get(f"{relay.admin_url}/prestop", headers=site), 403, "origin_not_allowed")
        for path in ("/v1/drain", "/v1/narration"):
            answer = httpx.post(f"{relay.admin_url}{path}", headers={"Origin": OTHER})
            assert_error(answer, 403, "origin_not_allowed")
        assert relay.get("/v1/worker").json()["phase"] == "ready"
