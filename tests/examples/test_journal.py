"""The example's journal as a process: what it keeps, what it answers, and what it refuses."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.journals import Journal, between, exits, running_journal
from support.processes import DEADLINE_S, wait_until

ENTRIES: dict[str, dict[str, Any]] = {
    "quests": {"session": "s", "title": "Find the bell", "description": "It rang."},
    "combats": {"session": "s", "enemies": ["wolf", "wolf"], "description": "At dusk."},
    "pois": {"session": "s", "name": "The Old Mill", "description": "It turns.", "tags": ["mill"]},
    "narratives": {"session": "s", "narrative": "You enter."},
}


@pytest.fixture(scope="module")
def journal() -> Iterator[Journal]:
    with running_journal() as running:
        yield running


@pytest.fixture
def empty() -> Iterator[Journal]:
    with running_journal() as running:
        yield running


@pytest.mark.parametrize("kind", ENTRIES)
def test_what_is_posted_is_found_by_its_id_and_in_its_list(journal: Journal, kind: str) -> None:
    answer = journal.post(kind, ENTRIES[kind])
    kept = answer.json()
    assert answer.status_code == 201
    assert {name: kept[name] for name in ENTRIES[kind]} == ENTRIES[kind]
    assert journal.get(answer.headers["Location"]) == kept
    assert kept in journal.get(f"/{kind}")
    other = next(name for name in ENTRIES if name != kind)
    assert journal.client.get(f"/{other}/{kept['id']}").status_code == 404


def test_text_is_kept_byte_for_byte(journal: Journal) -> None:
    text = "".join(map(chr, range(32))) + '\x7f\x80\u2028\ufeff"\\é👋\U0010ffff \r\n\t '
    kept = journal.post("narratives", {"session": "s", "narrative": text}).json()
    assert journal.get(f"/narratives/{kept['id']}")["narrative"].encode() == text.encode()


def test_the_same_key_and_body_is_the_same_entry(empty: Journal) -> None:
    first = empty.post("quests", ENTRIES["quests"], "turn-1")
    again = empty.post("quests", dict(reversed(ENTRIES["quests"].items())), "turn-1")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.content == first.content
    assert len(empty.get("/quests")) == 1


def test_the_same_key_with_another_body_is_refused_and_changes_nothing(empty: Journal) -> None:
    kept = empty.post("quests", ENTRIES["quests"], "turn-1").json()
    answer = empty.post("quests", ENTRIES["quests"] | {"title": "Another"}, "turn-1")
    assert (answer.status_code, answer.json()["error"]["where"]) == (409, "Idempotency-Key")
    assert empty.get("/quests") == [kept]


def test_a_key_is_of_one_kind_and_without_a_key_each_post_is_an_entry(empty: Journal) -> None:
    for kind, entry in ENTRIES.items():
        assert empty.post(kind, entry, "turn-1").status_code == 201
    assert [empty.post("pois", ENTRIES["pois"]).status_code for _ in range(2)] == [201, 201]
    assert len(empty.get("/pois")) == 3


def test_a_long_list_is_read_page_by_page(empty: Journal) -> None:
    ids = [empty.post("pois", ENTRIES["pois"]).json()["id"] for _ in range(5)]
    assert [one["id"] for one in empty.get("/pois?limit=2")] == ids[:2]
    assert [one["id"] for one in empty.get(f"/pois?limit=2&after={ids[1]}")] == ids[2:4]


def test_a_list_can_be_of_one_session(empty: Journal) -> None:
    for session in ("s", "t", "s"):
        empty.post("pois", ENTRIES["pois"] | {"session": session})
    assert [one["id"] for one in empty.get("/pois?session=s")] == [1, 3]
    assert empty.get("/pois?session=%00'--") == []


def test_random_places_are_different_ones_and_as_many_as_asked_for(empty: Journal) -> None:
    assert empty.get("/pois/random") == []
    names = {empty.post("pois", ENTRIES["pois"] | {"name": f"Place {n}"}).json()["name"] for n in range(8)}
    assert len(empty.get("/pois/random")) == 3
    assert {one["name"] for one in empty.get("/pois/random?count=20")} == names
    orders = {json.dumps(empty.get("/pois/random?count=8")) for _ in range(10)}
    assert len(orders) > 1


# What it refuses


@pytest.mark.parametrize(
    ("kind", "body", "where"),
    [
        ("quests", b"", "body"),
        ("quests", b'{"session":"s"', "body"),
        ("quests", b"[]", "$"),
        ("quests", b'{"session":"s","title":3}', "$.title"),
        ("quests", b'{"session":"s"}', "$"),
        ("quests", b'{"session":"s","title":""}', "$.title"),
        ("quests", json.dumps({"session": "s", "title": "x" * 201}).encode(), "$.title"),
        ("pois", json.dumps({"session": "s", "name": "x", "description": "x" * 2001}).encode(), "$.description"),
        ("combats", b'{"session":"s","enemies":["wolf",7]}', "$.enemies[1]"),
        ("combats", json.dumps({"session": "s", "enemies": ["x"] * 21}).encode(), "$.enemies"),
        ("narratives", json.dumps({"session": "s", "narrative": "x" * 65537}).encode(), "$.narrative"),
        ("narratives", b'{"session":"s","narrative":"\\ud800"}', "body"),
        ("narratives", b'{"session":"s","narrative":"\xff"}', "body"),
        ("narratives", b'{"session":"s","narrative":"\x01"}', "body"),
        ("quests", b'{"session":"s","title":"x","y":' + b"[" * 200_000, "body"),
        ("quests", b"[" * 500_000, "$"),
    ],
)
def test_a_body_that_is_wrong_is_told_where_and_nothing_is_kept(
    journal: Journal, kind: str, body: bytes, where: str
) -> None:
    before = journal.get(f"/{kind}?limit=100")
    answer = journal.client.post(f"/{kind}", content=body)
    assert (answer.status_code, answer.json()["error"]["where"]) == (400, where)
    assert answer.json()["error"]["message"]
    assert journal.get(f"/{kind}?limit=100") == before


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "é".encode(), b"\xff"])
def test_a_key_that_is_none_is_refused(journal: Journal, key: Any) -> None:
    answer = journal.client.post("/quests", json=ENTRIES["quests"], headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["error"]["where"]) == (400, "Idempotency-Key")


@pytest.mark.parametrize("query", ["count=0", "count=21", "count=-1", "count=x", "count=", "count=٣", "count=1e1"])
def test_a_count_that_is_none_is_refused(journal: Journal, query: str) -> None:
    answer = journal.client.get(f"/pois/random?{query}")
    assert (answer.status_code, answer.json()["error"]["where"]) == (400, "?count")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/dragons", 404),
        ("GET", "/quests/999999", 404),
        ("GET", "/quests/99999999999999999999999", 404),
        ("GET", "/quests/..%2f..%2fetc", 404),
        ("GET", f"/quests?after={2**63}", 400),
        ("PUT", "/quests", 405),
        ("DELETE", "/quests/1", 405),
    ],
)
def test_what_is_not_there_is_an_error_in_json(journal: Journal, method: str, path: str, status: int) -> None:
    answer = journal.client.request(method, path)
    assert (answer.status_code, set(answer.json()["error"])) == (status, {"code", "message", "where"})


def test_a_body_that_is_too_long_is_refused_however_it_comes(journal: Journal) -> None:
    whole = b"x" * (512 * 1024 + 1)
    chunks = (b"x" * 1024 for _ in range(1024))
    for content in (whole, chunks):
        assert journal.client.post("/quests", content=content).status_code == 413


def test_a_body_that_breaks_off_keeps_nothing(empty: Journal) -> None:
    with socket.create_connection((httpx.URL(empty.url).host, httpx.URL(empty.url).port or 0)) as broken:
        broken.sendall(b'POST /quests HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"session":"s","title":"x"}')
    assert empty.get("/healthz") == {"status": "ok"}
    assert empty.get("/quests") == []


# The process


def test_help_shows_how_it_is_used() -> None:
    said = exits("--help").stdout
    assert "examples:" in said
    assert "curl" in said


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"not a database" * 100, "file is not a database"), (None, "unable to open database file")],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "x" / "journal.db"
    if content is not None:
        path.parent.mkdir()
        path.write_bytes(content)
    done = exits("--database", str(path), "--port", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"journal: {path}: {words}\n"


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = exits("--database", str(tmp_path / "j.db"), "--port", str(port))
    assert done.returncode == 1
    assert done.stderr == f"journal: port {port} of 127.0.0.1: Address already in use; choose another with --port\n"


@pytest.mark.parametrize("wish", [["--port", "70000"], ["--max-megabytes", "0"]])
def test_a_wish_that_cannot_be_is_one_line(tmp_path: Path, wish: list[str]) -> None:
    done = exits("--database", str(tmp_path / "j.db"), *wish)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "expected" in done.stderr


def test_it_ends_when_it_is_told_to(empty: Journal) -> None:
    empty.post("quests", ENTRIES["quests"])
    empty.end(signal.SIGTERM)
    assert not os.path.exists(f"{empty.database}-wal"), "the file alone is the whole journal"  # noqa: PTH110


# The proxy of other tests


def test_the_proxy_passes_on_answers_itself_holds_back_and_goes_away(empty: Journal) -> None:
    with between(empty.url) as proxy, httpx.Client(base_url=proxy.url, timeout=DEADLINE_S) as client:
        assert client.post("/quests", json=ENTRIES["quests"], headers={"Idempotency-Key": "k"}).status_code == 201
        proxy.answers["/quests"] = (500, b"oh")
        assert client.post("/quests", json=ENTRIES["quests"]).status_code == 500
        held = proxy.hold("/pois")
        with pytest.raises(httpx.ReadTimeout):
            client.get("/pois", timeout=httpx.Timeout(DEADLINE_S, read=0.2))
        wait_until(lambda: "/pois" in proxy.paths(), "the call that is held came")
        held.set()
        proxy.go_away()
        with pytest.raises(httpx.ConnectError):
            httpx.get(proxy.url)
        proxy.come_back()
        assert httpx.get(f"{proxy.url}/pois").json() == []
        assert proxy.paths() == ["/quests", "/quests", "/pois", "/pois"]
        assert proxy.calls[0].headers["Idempotency-Key"] == "k"
