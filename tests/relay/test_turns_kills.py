"""A relay that is killed in a turn: what was written stays, nothing more is, and asking again shows sinks the same keys."""

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.fake_worker import FakeWorker
from support.outside import Outside, outside
from support.processes import Relay, free_port, manifest, wait_until
from support.requests import assert_error
from support.streams import text_of
from support.turns import NARRATIVE, Table, declared

KEY = {"Idempotency-Key": "mine"}


class House:
    """A place where one relay comes after another."""

    def __init__(self, folder: Path, server: Outside) -> None:
        self._folder = folder
        self._server = server
        self._ports = free_port(), free_port()
        self._resource = manifest()
        self._resource["spec"]["outcomes"] = [declared(server.url)]

    @contextlib.contextmanager
    def open(self) -> Iterator[Table]:
        """Run a relay with a worker that has never heard of any job."""
        relay = Relay(self._resource, self._folder, *self._ports)
        try:
            with FakeWorker(relay.socket, json_schema=True) as worker:
                yield Table(relay, worker, self._server)
        finally:
            relay.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with outside() as server:
        yield House(tmp_path, server)


def kill(table: Table) -> None:
    table.relay.send(signal.SIGKILL)
    table.relay.wait()


def assert_lost(table: Table, job_id: str) -> None:
    """Who shows the last id hears that the job is lost; of nobody else is it known that there was one."""
    path = f"/v1/inference/{job_id}"
    again = table.relay.client.get(f"{path}/stream", headers={"Last-Event-ID": f"{job_id}-oldepoch-2"})
    assert_error(again, 410, "job_lost", retryable=True)
    assert_error(table.relay.get(path), 404, "job_not_found")


def keys(table: Table, path: str) -> list[str]:
    return [call.headers["idempotency-key"] for call in table.outside.calls if call.path == path]


def test_a_kill_in_the_writes_writes_nothing_more_and_asking_again_shows_the_same_keys(house: House) -> None:
    with house.open() as table, table.ask(KEY) as stream:
        held = table.outside.hold("/pois")
        table.play()
        table.outside.wait_call("/pois")
        kill(table)
        job_id = stream.headers["x-job-id"]
        assert text_of(stream.rest()) == "".join(NARRATIVE)
    held.set()
    assert table.outside.paths() == ["/pois"]
    with house.open() as table:
        assert_lost(table, job_id)
        with table.ask(KEY) as stream:
            table.play()
            assert [write["status"] for write in stream.rest()[-2].data["writes"]] == ["written", "written"]
        assert stream.headers["x-job-id"] != job_id
        assert table.outside.paths() == ["/pois", "/pois", "/narratives"]
        assert len(set(keys(table, "/pois"))) == 1
        assert set(keys(table, "/pois")).isdisjoint(keys(table, "/narratives"))


@pytest.mark.parametrize("phase", ["context", "intents"])
def test_a_kill_before_the_writes_has_written_nothing(house: House, phase: str) -> None:
    wishes: dict[str, Any] = {"context": {"sparks": True}} if phase == "context" else {}
    with house.open() as table:
        held = table.outside.hold("/sparks")
        with table.ask(**wishes) as stream:
            if phase == "context":
                table.outside.wait_call("/sparks")
            else:
                table.narrate()
                table.worker.begin()
            kill(table)
            job_id = stream.headers["x-job-id"]
    held.set()
    with house.open() as table:
        assert_lost(table, job_id)
        assert not {"/pois", "/narratives"} & set(table.outside.paths())


def test_a_worker_that_is_lost_while_context_is_fetched_is_waited_for(house: House) -> None:
    with house.open() as table:
        held = table.outside.hold("/sparks")
        with table.ask(context={"sparks": True}) as stream:
            table.outside.wait_call("/sparks")
            table.worker.close()
            wait_until(lambda: table.relay.get("/v1/worker").json()["phase"] == "lost", "the relay knows")
            held.set()
            with FakeWorker(table.relay.socket, json_schema=True) as worker:
                Table(table.relay, worker, table.outside).play({"poi": {"action": "none"}})
                assert json.dumps(stream.rest()[-2].data["writes"]).count("written") == 1
