"""The example's journal when many write at once, when it is killed, and when the disk is full."""

import json
import signal
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from support.journals import Journal, running_journal
from support.processes import DEADLINE_S, wait_until

QUEST = {"session": "s", "title": "Find the bell"}


@pytest.fixture
def journal() -> Iterator[Journal]:
    with running_journal() as running:
        yield running


def post(url: str, kind: str, entry: dict[str, Any], key: str) -> httpx.Response:
    return httpx.post(f"{url}/{kind}", json=entry, headers={"Idempotency-Key": key}, timeout=DEADLINE_S)


def test_fifty_posts_at_once_with_one_key_are_one_entry(journal: Journal) -> None:
    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(lambda _: post(journal.url, "quests", QUEST, "one"), range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [201]
    assert len({answer.content for answer in answers}) == 1
    assert len(journal.get("/quests")) == 1


def test_fifty_bodies_at_once_with_one_key_are_the_first_of_them(journal: Journal) -> None:
    with ThreadPoolExecutor(50) as threads:
        answers = list(
            threads.map(lambda n: post(journal.url, "quests", QUEST | {"title": f"{n}"}, "one"), range(50))
        )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 49
    kept = next(answer.json() for answer in answers if answer.status_code == 201)
    assert journal.get("/quests") == [kept]


def test_two_journals_on_one_file_share_the_keys(journal: Journal) -> None:
    second = Journal(journal.database)
    try:
        urls = [journal.url, second.url] * 20
        with ThreadPoolExecutor(20) as threads:
            answers = list(threads.map(lambda url: post(url, "quests", QUEST, "one"), urls))
    finally:
        second.close()
    assert sorted(answer.status_code for answer in answers) == [200] * 39 + [201]
    assert len(journal.get("/quests")) == 1


def test_a_kill_loses_nothing_that_was_answered_and_a_retry_finds_it(journal: Journal) -> None:
    answered: dict[str, Any] = {}
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            key = f"turn-{len(answered)}"
            try:
                answered[key] = post(journal.url, "quests", QUEST | {"title": key}, key).json()
            except httpx.TransportError:
                return

    writing = threading.Thread(target=write)
    writing.start()
    wait_until(lambda: len(answered) >= 30, "thirty quests are kept")
    journal.end(signal.SIGKILL)
    stop.set()
    writing.join(2 * DEADLINE_S)
    journal.start()
    for key, entry in answered.items():
        again = journal.post("quests", QUEST | {"title": key}, key)
        assert (again.status_code, again.json()) == (200, entry)
    newest = journal.get(f"/quests?after={len(answered)}")
    assert [entry["title"] for entry in newest] in ([], [f"turn-{len(answered)}"]), "it is there whole, or not at all"


def test_a_full_disk_refuses_keeps_what_there_is_and_takes_entries_again_when_there_is_room() -> None:
    with running_journal("--max-megabytes", "1") as journal:
        text, kept = "x" * 60_000, 0
        while (answer := post(journal.url, "narratives", {"session": "s", "narrative": text}, f"{kept}")).is_success:
            kept += 1
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "full")
        assert "nothing was written" in answer.json()["error"]["message"]
        assert kept > 5
        assert len(journal.get("/narratives?limit=100")) == kept
        assert post(journal.url, "narratives", {"session": "s", "narrative": text}, "0").status_code == 200
        journal.end(signal.SIGTERM)
        with sqlite3.connect(journal.database) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            database.execute("DELETE FROM entries WHERE id = 1")
        database.close()
        journal.start()
        again = post(journal.url, "narratives", {"session": "s", "narrative": text}, f"{kept}")
        assert again.status_code == 201, "the refused key was not used up"


def test_a_database_that_breaks_is_told_and_not_hidden(journal: Journal) -> None:
    with sqlite3.connect(journal.database) as database:
        database.execute("DROP TABLE entries")
    database.close()
    answer = journal.post("quests", QUEST)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "storage_failed")
    assert journal.client.get("/healthz").status_code == 500


def test_a_reader_that_leaves_in_the_middle_disturbs_nobody(journal: Journal) -> None:
    for n in range(20):
        post(journal.url, "narratives", {"session": "s", "narrative": "x" * 60_000}, f"{n}")
    for _ in range(5):
        with httpx.stream("GET", f"{journal.url}/narratives") as answer:
            next(answer.iter_raw(100))
    assert len(json.loads(httpx.get(f"{journal.url}/narratives").content)) == 20
