"""What the log of a turn never holds, however it ends: words of its client, its model, its engine and its sinks."""

from collections.abc import Iterator
from typing import Any

import pytest

from rhapsode_contract import frames
from support.processes import wait_until
from support.turns import NARRATIVE, PATIENCE_S, SCHEMA, Table, sitting

WORD = "Sesame"
WILD = f"{WORD}\n\u0000\u001b[31m\u202e"
LOOSE = {"type": "object", "additionalProperties": {"type": "integer"}}


def _schema() -> dict[str, Any]:
    return SCHEMA | {"properties": SCHEMA["properties"] | {"intents": LOOSE}}


@pytest.fixture
def table() -> Iterator[Table]:
    prompt = {"narrative": "{{ inputs.action }}", "intents": "{{ inputs[inputs.key] }}"}
    sinks = [{"name": "all", "url": "http://127.0.0.1:9/x"}]
    with sitting(prompt=prompt, schema=_schema(), normalize=[], sinks=sinks) as running:
        yield running


def ended(table: Table) -> dict[str, Any]:
    """Return the record of how the turn ended, once it is logged; nothing before it has what nobody may read."""
    [record] = wait_until(
        lambda: [one for one in list(table.relay.records) if one.get("stream_phase") in ("complete", "error")],
        "it is logged",
    )
    assert not [line for line in table.relay.lines if WORD.lower() in line.lower()]
    assert all(line.rstrip("\n").isprintable() for line in table.relay.lines)
    return dict(record)


def test_an_input_that_does_not_fit_is_not_quoted(table: Table) -> None:
    with table.ask(inputs={"action": WILD, "key": WILD}) as stream:
        table.narrate((WILD,))
        error = stream.rest()[-2].data["error"]
    assert error["code"] == "invalid_inputs"
    assert error["message"].isprintable()
    assert ended(table)["error_type"] == "invalid_inputs"
    told = [one["fields"] for one in table.relay.records if one["event"] == "turn_failed"]
    assert told == [{"code": "invalid_inputs", "why": "prompt.intents, line 1"}]


@pytest.mark.parametrize("intents", [{WILD: WILD}, f'{{"{WORD}": {WORD}}}', f'{{"a": "{WORD}\\ud800"}}', [WORD]])
def test_what_a_model_got_wrong_is_not_quoted(table: Table, intents: Any) -> None:
    with table.ask(inputs={"action": WILD, "key": "action"}) as stream:
        table.play(intents, (WILD, WORD))
        error = stream.rest()[-2].data["error"]
    assert error["code"] == "outcome_invalid"
    assert WORD not in error["message"]
    assert ended(table)["is_valid"] is False


def test_an_engine_s_words_are_its_client_s(table: Table) -> None:
    with table.ask(inputs={"action": WILD, "key": "action"}) as stream:
        table.narrate()
        job = table.worker.begin()
        table.worker.send(frames.Error(job_id=job.job_id, code="engine_error", message=WILD, retryable=False))
        error = stream.rest()[-2].data["error"]
    assert WORD in error["message"]
    assert error["message"].isprintable()
    assert ended(table)["error_type"] == "engine_error"


def test_what_is_written_is_not_logged_and_neither_is_what_a_sink_answers() -> None:
    loud = {"name": "loud", "part": "/narrative", "as": "text", "timeoutSeconds": PATIENCE_S}
    with sitting(sinks=lambda url: [loud | {"url": f"{url}/{WORD}"}]) as table:
        table.outside.answers[f"/{WORD}"] = (500, WILD.encode() * 60_000)
        with table.ask(inputs={"action": WILD}) as stream:
            table.play(texts=(WILD, *NARRATIVE))
            told = stream.rest()
        assert told[-2].data["writes"][0]["reason"] == "it answered 500"
        assert table.outside.calls[0].body == {"text": WILD + "".join(NARRATIVE)}, "to the sink it goes as it was"
        assert ended(table)["narrative_length"] == len(WILD + "".join(NARRATIVE))
