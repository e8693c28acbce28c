"""What log and metrics tell of streams, turns or not: each phase once, counts and lengths, never a word of a text."""

from typing import Any

from rhapsode_contract import frames
from support.conversations import begin_and_leave, conversing
from support.fake_worker import FakeWorker
from support.processes import Relay, wait_until
from support.streams import Stream, ask
from support.turns import NARRATIVE, Table, declared, request, sitting

CROWD = 120


def phases(relay: Relay, job_id: str, last: str) -> list[dict[str, Any]]:
    """Return the records of a stream, once the last one is there."""

    def found() -> list[dict[str, Any]]:
        mine = [one for one in list(relay.records) if one["event"] == "stream" and one["job_id"] == job_id]
        return mine if mine and mine[-1]["stream_phase"] == last else []

    told: list[dict[str, Any]] = wait_until(found, f"{last} of {job_id} is logged")
    return told


def test_a_plain_stream_tells_its_phases(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port, "secret question", headers={"X-Correlation-Id": "c-3"}) as stream:
        job = worker.serve("secret ", "answer")
        stream.rest()
    told = phases(relay, job.job_id, "complete")
    assert [one["stream_phase"] for one in told] == ["start", "token_streaming", "complete"]
    assert [one["token_count"] for one in told] == [0, 1, 2]
    assert told[-1]["narrative_length"] == len("secret answer")
    assert told[-1]["duration_ms"] > 0
    assert {one["correlation_id"] for one in told} == {"c-3"}
    assert not [line for line in relay.lines if "secret" in line]
    for name in ("started", "completed"):
        assert relay.metric(f"rhapsode_streams_{name}_total") == 1
    assert relay.metric("rhapsode_stream_tokens_sum") == 2
    assert relay.metric("rhapsode_stream_duration_seconds_count") == 1


def test_a_client_that_leaves_and_an_error_are_told() -> None:
    with conversing(onDisconnect="cancel") as talk:
        job = begin_and_leave(talk, hard=True)
        assert talk.worker.receive(frames.Cancel).job_id == job.job_id
        told = phases(talk.relay, job.job_id, "error")
        assert [one["stream_phase"] for one in told] == ["start", "client_disconnect", "error"]
        assert (told[-1]["error_type"], told[-1]["level"]) == ("cancelled", "warn")
        assert talk.relay.metric("rhapsode_streams_disconnected_total") == 1
        assert talk.relay.metric("rhapsode_streams_completed_total") == 0


def test_a_turn_tells_its_phases_and_the_hidden_half_none() -> None:
    with sitting() as table:
        with table.ask() as stream:
            first = table.narrate()
            second = table.intend()
            stream.rest()
        told = phases(table.relay, first.job_id, "complete")
        assert [one["stream_phase"] for one in told] == [
            "start", "token_streaming", "parse_complete", "writes_start", "writes_complete", "complete",
        ]  # fmt: skip
        assert [one.get("is_valid") for one in told] == [None, None, True, True, True, True]
        assert told[-1]["narrative_length"] == len("".join(NARRATIVE))
        with table.ask() as stream:
            first = table.narrate()
            table.intend({})
            stream.rest()
        told = phases(table.relay, first.job_id, "error")
        assert [one["stream_phase"] for one in told][-2:] == ["parse_complete", "error"]
        assert (told[-1]["is_valid"], told[-1]["error_type"]) == (False, "outcome_invalid")
        assert not [one for one in table.relay.records if one.get("job_id") == second.job_id]
        assert not [line for line in table.relay.lines if "door" in line.lower()], "neither inputs nor texts"


def test_a_crowd_of_streams_and_turns_is_never_mixed() -> None:
    """120 turns and 120 plain streams at once, whose tokens come interleaved: each reader gets its own."""
    limits = {"turnLimit": CROWD, "queueLimit": 4 * CROWD}
    with sitting(relay=limits, slots=2 * CROWD, sinks=_patient_sinks) as table:
        turns = [_turn(table, f"t{n}") for n in range(CROWD)]
        plain = [ask(table.relay.port, f"p{n}") for n in range(CROWD)]
        jobs = [table.worker.begin() for _ in range(2 * CROWD)]
        mine = {job.job_id: _asked(job) for job in jobs}
        for at in range(5):
            table.worker.send(*(frames.Token(job_id=one, i=at, t=f"{word} ") for one, word in mine.items()))
        for job in jobs:
            table.worker.finish(job, 5)
        for _ in range(CROWD):
            second = table.worker.begin()
            word = (second.messages or [])[1].content
            table.worker.speak(second, f'{{"poi":{{"action":"create","name":"{word}"}}}}')
            table.worker.finish(second, 1)
        for number, stream in enumerate((*turns, *plain)):
            word = f"t{number}" if number < CROWD else f"p{number - CROWD}"
            told = stream.rest()
            assert [one.data["t"] for one in told if one.name == "token"] == [f"{word} "] * 5
            assert {one.data["job_id"] for one in told} == {stream.headers["x-job-id"]}
            assert mine[stream.headers["x-job-id"]] == word
            if number < CROWD:
                assert told[-2].data["outcome"] == {
                    "narrative": f"{word} " * 5, "intents": {"poi": {"action": "create", "name": word}},
                }  # fmt: skip
                assert [one["status"] for one in told[-2].data["writes"]] == ["written", "written"], told[-2].data
            stream.close()
        written = {call.headers["x-rhapsode-turn"]: call.body for call in table.outside.calls if call.path == "/pois"}
        assert {one: body["name"] for one, body in written.items()} == {
            one: word for one, word in mine.items() if word.startswith("t")
        }


def _patient_sinks(url: str) -> list[dict[str, Any]]:
    """The usual sinks, which a slow machine may take long to answer when all write at once."""
    return [sink | {"timeoutSeconds": 30} for sink in declared(url)["sinks"]]


def _turn(table: Table, word: str) -> Stream:
    body = request(inputs={"action": word, "campaign": word})
    return Stream(
        table.relay.port, "/v1/turns", method="POST", body=body, headers={"Accept": "text/event-stream"}, timeout=60
    )


def _asked(job: frames.Generate) -> str:
    return job.prompt if job.prompt is not None else (job.messages or [])[-1].content
