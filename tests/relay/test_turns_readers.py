"""Who reads a turn: over either transport, leaving in any phase, asking again with the same key while it runs."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.processes import DEADLINE_S, wait_until
from support.sockets import follow
from support.streams import text_of
from support.transports import SOCKET, SSE, TRANSPORTS, Transport, essence, is_over
from support.turns import INTENTS, NARRATIVE, Table, generation, names_of, sitting, stopped_in

TEXT = "".join(NARRATIVE)


def test_a_turn_is_the_same_over_both_transports() -> None:
    with sitting() as table:
        job_id = table.post({"Prefer": "respond-async"}).json()["job_id"]
        with SSE.open(table.relay.port, job_id) as stream, SOCKET.open(table.relay.port, job_id) as socket:
            table.play()
            streamed, told = stream.rest(), socket.rest()
            assert is_over(socket)
    assert [essence(one) for one in told] == [essence(one) for one in streamed]
    assert names_of(told) == [
        "queued", "narration", "started", "token",
        "data outcome", "data write", "data write", "metrics", "end", "done",
    ]  # fmt: skip
    assert told[-2].data["outcome"] == {"narrative": TEXT, "intents": INTENTS}


def test_a_socket_that_was_cut_off_goes_on_where_it_was() -> None:
    with sitting() as table, stopped_in(table, "narrative") as (stream, job_id):
        with follow(table.relay.port, job_id) as first:
            cursor = first.next("token").id
            first.close(hard=True)
        table.worker.speak(generation(job_id), *NARRATIVE[1:], start=1)
        table.worker.finish(generation(job_id), len(NARRATIVE))
        table.intend()
        whole = stream.rest()
        with follow(table.relay.port, job_id, cursor) as again:
            told = again.rest()
        with follow(table.relay.port, job_id, f"{job_id}-oldepoch-3") as late:
            snapshot = late.rest()
    assert told[0].name == "replay"
    assert [essence(one) for one in told[1:]] == [essence(one) for one in whole]
    assert text_of(whole) == "".join(NARRATIVE[1:])
    assert (snapshot[0].name, snapshot[0].data["text"]) == ("snapshot", TEXT)


@pytest.mark.parametrize("transport", TRANSPORTS, ids=lambda one: one.name)
@pytest.mark.parametrize("phase", ["context", "narrative", "intents", "writes"])
def test_a_reader_that_leaves_changes_nothing_and_may_come_back(phase: str, transport: Transport) -> None:
    with sitting() as table, stopped_in(table, phase) as (stream, running):
        job_id = stream.headers["x-job-id"]
        with transport.open(table.relay.port, job_id) as reader:
            cursor = reader.next("queued" if phase == "context" else "token").id
            stream.close(hard=True)
            reader.close(hard=True)
        wait_until(lambda: table.relay.metric("rhapsode_relay_readers") == 0, "nobody reads")
        _go_on(table, phase, running)
        wait_until(lambda: _status(table, job_id) == "completed", "the turn is over")
        with transport.open(table.relay.port, job_id, cursor) as again:
            told = again.rest()
        assert names_of(told)[-5:] == ["data write", "data write", "metrics", "end", "done"]
        assert [one["status"] for one in told[-2].data["writes"]] == ["written", "written"]
        assert table.outside.paths()[-2:] == ["/pois", "/narratives"]
        assert len(table.outside.calls) == (3 if phase == "context" else 2)
        wait_until(lambda: _phases(table)[-1:] == [("complete", job_id)], "its end is logged")
        assert _phases(table).count(("client_disconnect", job_id)) == 1
        assert table.relay.metric("rhapsode_streams_disconnected_total") == 1


def _go_on(table: Table, phase: str, running: str) -> None:
    """Let a turn that was stopped in a phase come to its end."""
    for event in table.outside.held.values():
        event.set()
    if phase == "context":
        table.narrate()
    elif phase == "narrative":
        table.worker.finish(generation(running), 1)
    elif phase == "intents":
        table.worker.speak(generation(running), json.dumps(INTENTS))
        table.worker.finish(generation(running), 1)
    if phase in ("context", "narrative"):
        table.intend()


def _phases(table: Table) -> list[tuple[str, str]]:
    """Return the phases that are logged, with the jobs that they are about."""
    return [(one["stream_phase"], one["job_id"]) for one in list(table.relay.records) if one["event"] == "stream"]


def _status(table: Table, job_id: str) -> str:
    return str(table.relay.get(f"/v1/inference/{job_id}").json()["status"])


def test_the_same_key_while_a_turn_runs_is_the_same_turn() -> None:
    key = {"Idempotency-Key": "turn-1"}
    with sitting() as table, table.ask(headers=key) as first, ThreadPoolExecutor() as pool:
        job = table.worker.begin()
        table.worker.speak(job, NARRATIVE[0])
        first.next("token")
        with table.ask(headers=key) as second:
            whole = pool.submit(table.post, key)
            accepted = table.post(key | {"Prefer": "respond-async"})
            table.worker.speak(job, *NARRATIVE[1:], start=1)
            table.worker.finish(job, len(NARRATIVE))
            table.intend()
            told = second.rest()
        answer = whole.result(DEADLINE_S)
        assert text_of(told) == TEXT
        assert told[-2].data == first.rest()[-2].data
        assert (accepted.status_code, accepted.json()["job_id"]) == (202, job.job_id)
        assert (answer.headers["idempotent-replayed"], answer.json()["job_id"]) == ("true", job.job_id)
        assert table.outside.paths() == ["/pois", "/narratives"]
        assert table.relay.metric("rhapsode_streams_started_total") == 1
