"""A turn from its question to its writes: what its readers see, what its sinks get, and in which order."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from support.processes import DEADLINE_S, wait_until
from support.requests import assert_error
from support.streams import Stream, resume, text_of
from support.turns import INTENTS, NARRATIVE, Table, names_of, sitting

TEXT = "".join(NARRATIVE)


def test_a_turn_streams_its_narrative_and_then_is_judged_and_written() -> None:
    with sitting() as table, table.ask(headers={"X-Correlation-Id": "c-9"}) as stream:
        first = table.narrate()
        second = table.intend()
        told = stream.rest()
    assert names_of(told) == [
        "queued", "narration", "started", "token",
        "data outcome", "data write", "data write", "metrics", "end", "done",
    ]  # fmt: skip
    assert text_of(told) == TEXT
    end = told[-2].data
    assert end["outcome"] == {"narrative": TEXT, "intents": INTENTS}
    assert (end["text_len"], end["text_sha256"]) == (len(TEXT), hashlib.sha256(TEXT.encode()).hexdigest())
    assert [(one["sink"], one["status"], one["http_status"]) for one in end["writes"]] == [
        ("poi", "written", 204), ("narrative", "written", 204),
    ]  # fmt: skip
    assert end["normalized"] == []
    assert end["usage"] == {"prompt_tokens": 6, "completion_tokens": 7, "total_tokens": 13}
    assert {"context_ms", "ttft_ms", "stream_ms", "intents_ms", "validate_ms", "write_ms", "total_ms", "tokens"} <= (
        end["timing"].keys()
    )
    assert end["timing"]["tokens"] == len(NARRATIVE)
    assert first.json_schema is None
    assert second.json_schema is not None
    assert [message.role for message in second.messages or []] == ["system", "user", "assistant", "user"]
    assert [(call.path, call.method) for call in table.outside.calls] == [("/pois", "POST"), ("/narratives", "PUT")]
    poi, narrative = table.outside.calls
    assert poi.body == {"campaign": "c-1", "action": "create", "name": "Mossy Door"}
    assert narrative.body == {"text": TEXT}
    assert poi.headers["x-correlation-id"] == "c-9"
    assert poi.headers["x-rhapsode-turn"] == first.job_id
    assert len(poi.headers["idempotency-key"]) == 32
    assert poi.headers["idempotency-key"] != narrative.headers["idempotency-key"]


def test_what_a_worker_says_after_the_narrative_is_no_part_of_it(shared_table: Table) -> None:
    with shared_table.ask() as stream:
        job = shared_table.narrate()
        shared_table.worker.speak(job, "and more", start=len(NARRATIVE))
        shared_table.worker.finish(job, len(NARRATIVE) + 1)
        shared_table.intend()
        told = stream.rest()
    assert text_of(told) == told[-2].data["outcome"]["narrative"] == TEXT


def test_a_client_that_does_not_stream_gets_the_same_outcome_when_all_is_written() -> None:
    with sitting() as table, ThreadPoolExecutor() as pool:
        answering = pool.submit(table.post, {"X-Correlation-Id": "c-1"})
        table.play()
        answer = answering.result(DEADLINE_S)
    assert (answer.status_code, answer.headers["x-correlation-id"]) == (200, "c-1")
    result = answer.json()
    assert result["outcome"] == {"narrative": TEXT, "intents": INTENTS}
    assert (result["contract"], result["job_id"]) == ("tale", answer.headers["x-job-id"])
    assert [one["status"] for one in result["writes"]] == ["written", "written"]
    assert result["text_sha256"] == hashlib.sha256(TEXT.encode()).hexdigest()


def test_a_client_may_come_back_for_a_turn_later() -> None:
    with sitting() as table:
        accepted = table.post({"Prefer": "respond-async"})
        assert accepted.status_code == 202
        table.play()
        job_id = accepted.json()["job_id"]
        with resume(table.relay.port, job_id) as stream:
            told = stream.rest()
        assert text_of(told) == TEXT
        view = table.relay.get(f"/v1/inference/{job_id}").json()
    assert (view["status"], view["contract"], view["text"]) == ("completed", "tale", TEXT)
    assert view["outcome"] == told[-2].data["outcome"]


def test_a_reader_that_was_cut_off_gets_the_rest() -> None:
    with sitting() as table:
        stream = table.ask()
        job = table.worker.begin()
        table.worker.speak(job, "The ")
        cursor = stream.next("token")
        stream.close(hard=True)
        wait_until(lambda: table.relay.metric("rhapsode_relay_readers") == 0, "the reader is gone")
        table.worker.speak(job, *NARRATIVE[1:], start=1)
        table.worker.finish(job, len(NARRATIVE))
        table.intend()
        view = f"/v1/inference/{job.job_id}"
        wait_until(lambda: table.relay.get(view).json()["status"] == "completed", "the turn is over")
        with resume(table.relay.port, job.job_id, cursor.id) as again:
            told = again.rest()
        assert text_of(told) == "".join(NARRATIVE[1:])
        assert names_of(told)[-5:] == ["data write", "data write", "metrics", "end", "done"]
        assert len(table.outside.calls) == 2, "the turn went on without its reader"
        with resume(table.relay.port, job.job_id, f"{job.job_id}-oldepoch-3") as late:
            snapshot = late.rest()
    assert (snapshot[0].name, snapshot[0].data["text"]) == ("snapshot", TEXT)
    assert snapshot[-2].data["outcome"]["narrative"] == TEXT


@pytest.mark.parametrize(
    "intents",
    [
        {"poi": {"action": "destroy"}}, {}, {"poi": None}, [], "no json", '{"poi": {"action": "create"}', "",
        '{"a":' * 3000 + "1" + "}" * 3000, '{"poi": {"action": "create", "name": "' + "\\u0000" * 10 + '", "more": ' + "[" * 60 + "]" * 60 + "}}",
    ],
)  # fmt: skip
def test_nothing_is_written_when_the_outcome_is_not_valid(shared_table: Table, intents: Any) -> None:
    table = shared_table
    before = table.relay.metric("rhapsode_turn_validation_failures_total")
    table.outside.calls.clear()
    with table.ask() as stream:
        table.narrate()
        table.worker.serve(intents if isinstance(intents, str) and intents else json.dumps(intents))
        told = stream.rest()
    error = told[-2].data
    assert names_of(told)[-2:] == ["error", "done"]
    assert (error["error"]["code"], error["error"]["partial"], error["retryable"]) == ("outcome_invalid", True, False)
    assert not [one for one in told if one.name in ("data", "end")]
    assert table.outside.calls == []
    assert table.relay.metric("rhapsode_turn_validation_failures_total") == before + 1


@pytest.fixture(scope="module")
def shared_table() -> Iterator[Table]:
    with sitting() as table, table.worker.breathing():
        yield table


def test_an_error_has_its_status_for_a_client_that_does_not_stream(shared_table: Table) -> None:
    with ThreadPoolExecutor() as pool:
        answering = pool.submit(shared_table.post)
        shared_table.play({})
        error = assert_error(answering.result(DEADLINE_S), 422, "outcome_invalid")
    assert "poi" in error["message"]


def test_what_is_blank_or_too_long_is_put_right_and_listed(shared_table: Table) -> None:
    for name, put in ((" ", "A Notable Location"), ("x" * 201, "x" * 200), ("y" * 20_000, "y" * 200)):
        with shared_table.ask() as stream:
            shared_table.play({"poi": {"action": "create", "name": name}})
            end = stream.rest()[-2].data
        assert end["outcome"]["intents"]["poi"]["name"] == put
        assert [change["path"] for change in end["normalized"]] == ["/intents/poi/name"]
        assert shared_table.outside.wait_call("/pois")
        assert [call.body["name"] for call in shared_table.outside.calls if call.path == "/pois"][-1] == put


@pytest.mark.parametrize(
    ("policy", "action", "why"),
    [
        ({"memory": False}, "create", "/policy/memory of the request is not true"),
        ({}, "create", "/policy/memory of the request is not true"),
        ({"memory": "true"}, "create", "/policy/memory of the request is not true"),
        ({"memory": True}, "none", '/intents/poi/action of the outcome is not "create"'),
    ],
)
def test_a_closed_gate_skips_a_sink_and_says_so(
    shared_table: Table, policy: dict[str, Any], action: str, why: str
) -> None:
    shared_table.outside.calls.clear()
    with shared_table.ask(policy=policy) as stream:
        shared_table.play({"poi": {"action": action}})
        poi, narrative = stream.rest()[-2].data["writes"]
    assert (poi["status"], poi["reason"], narrative["status"]) == ("skipped", why, "written")
    assert shared_table.outside.paths() == ["/narratives"]


def test_a_dry_run_calls_nobody(shared_table: Table) -> None:
    shared_table.outside.calls.clear()
    with shared_table.ask(dry_run=True, context={"sparks": True}) as stream:
        shared_table.play()
        end = stream.rest()[-2].data
    assert [one["status"] for one in end["writes"]] == ["dry_run", "dry_run"]
    assert end["outcome"]["narrative"] == TEXT
    assert shared_table.outside.calls == []


def test_the_second_generation_is_nobody_s(shared_table: Table) -> None:
    with (
        Stream(shared_table.relay.port, "/v1/correlations/c-7/stream") as watcher,
        shared_table.ask(headers={"X-Correlation-Id": "c-7"}) as stream,
    ):
        first = shared_table.narrate()
        hidden = shared_table.worker.begin()
        tokens = shared_table.relay.metric("rhapsode_tokens_total")
        shared_table.worker.speak(hidden, "{")
        assert shared_table.relay.metric("rhapsode_tokens_total") == tokens, "or it would fall when they are done"
        path = f"/v1/inference/{hidden.job_id}"
        for asked in (shared_table.relay.get(path), httpx.delete(shared_table.relay.url + path)):
            assert_error(asked, 404, "job_not_found")
        with resume(shared_table.relay.port, hidden.job_id) as other:
            assert other.status == 404
        shared_table.worker.speak(hidden, '"poi":{"action":"none"}}', start=1)
        shared_table.worker.finish(hidden, 2)
        stream.rest()
        seen = watcher.until("done")
    assert {one.data["job_id"] for one in seen} == {first.job_id}
    assert hidden.correlation_id == "c-7"
