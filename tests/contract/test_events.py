"""Events are pinned by a golden file, and the relay's fast way to write tokens gives the same bytes."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract import events
from rhapsode_contract.events import EventId
from rhapsode_contract.frames import TOKEN_SEPARATOR, Caps
from rhapsode_relay import encoding
from rhapsode_relay.encoding import StreamEncoder

GOLDEN = Path(__file__).parent / "golden" / "events.txt"
JOB: dict[str, Any] = {"job_id": "smollm-0-abc", "correlation_id": "r1", "ts": "2026-11-21T08:00:00.000Z"}
LIFE: dict[str, Any] = {"worker_id": "smollm-0", "ts": "2026-11-21T08:00:00.000Z"}
WRITTEN: list[events.StreamEvent] = [
    events.Replay(seq=3, **JOB, from_=4, to=9, gap=False),
    events.Snapshot(
        seq=9, **JOB, status="running", text="Hel", tokens=2, reason="epoch", narration=[events.Narrated(human="Hi")]
    ),
    events.Queued(seq=1, **JOB, position=0),
    events.Narration(
        seq=2, **JOB, actor="engine", action="first_token", human="First token after 43 ms", level="info", dropped=2
    ),
    events.Started(seq=3, **JOB, model="smollm2", worker="smollm-0", prompt_tokens=36, cached_tokens=32),
    events.Data(seq=5, **JOB, action="table", payload=[{"a": 1}]),
    events.Metrics(seq=6, **JOB, tokens_out=2, queue_ms=1.5, ttft_ms=43.2, tok_s=48.3),
    events.End(
        seq=7,
        **JOB,
        tokens_out=2,
        decode_time_ms=20.5,
        stop_reason="stop",
        usage=events.Usage(prompt_tokens=36, completion_tokens=2, total_tokens=38),
        timing=events.Timing(queue_ms=1.5, ttft_ms=43.2, decode_ms=20.5, total_ms=65.0),
        text_len=5,
        text_sha256="2cf2",
    ),
    events.End(
        seq=7,
        **JOB,
        tokens_out=2,
        decode_time_ms=20.5,
        stop_reason="stop",
        usage=events.Usage(prompt_tokens=36, completion_tokens=2, total_tokens=38),
        timing=events.Timing(
            queue_ms=1.5,
            ttft_ms=43.2,
            decode_ms=20.5,
            total_ms=65.0,
            context_ms=0,
            stream_ms=60.1,
            validate_ms=0.4,
            write_ms=4.0,
            tokens=2,
        ),
        text_len=5,
        text_sha256="2cf2",
        outcome={"narrative": "Hello", "intents": {}},
        normalized=[events.Change(path="/intents/poi/name", what="trimmed", from_length=300, to_length=200)],
        writes=[events.Write(sink="poi", status="written", ms=3.5, http_status=201)],
    ),
    events.Error(
        seq=8,
        **JOB,
        error=events.ErrorBody(message="gone", type="server_error", code="worker_lost", partial=True),
        retryable=True,
    ),
    events.Done(seq=9, **JOB),
    events.Worker(seq=0, **LIFE, phase="ready", engine="OpenVINO", caps=Caps(slots=8), running=1, queued=0),
    events.State(seq=1, **LIFE, phase="loading"),
    events.Load(seq=2, **LIFE, stage="loading weights", percent=44.0, eta_s=12.0),
    events.Vram(seq=3, **LIFE, source="none"),
]


def test_what_we_write_is_what_we_always_wrote() -> None:
    encoder = StreamEncoder("smollm-0-abc", "e1", "r1")
    written = b"".join(map(encoder.event, WRITTEN)) + encoder.token("Hé", 4, 0) + encoder.token("🌅", 5, 1, 3)
    written += encoder.token("a", 6, 4, 1, (-0.25,)) + encoder.token("b", 7, 5, 2, (-1.0, -9999.0))
    assert written.decode() == GOLDEN.read_text()


def surrogate_free(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


@given(
    st.lists(st.text(min_size=1).filter(surrogate_free), min_size=1, max_size=30),
    st.integers(0, 10),
    st.integers(0, 10),
)
def test_tokens_written_fast_are_tokens_written_by_the_contract(said: list[str], seq: int, i: int) -> None:
    said = [text.replace(TOKEN_SEPARATOR, "?") for text in said]
    encoder = StreamEncoder("w-1", "e1", 'odd"%d')
    fast = encoder.tokens(TOKEN_SEPARATOR.join(said), len(said), seq, i)
    assert fast == b"".join(encoder.token(text, seq + at, i + at) for at, text in enumerate(said))
    assert fast.count(b"\n\n") == len(said)
    for at, block in enumerate(fast.split(b"\n\n")[:-1]):
        id_line, name_line, data_line = block.split(b"\n")
        token = msgspec.json.decode(data_line.removeprefix(b"data: "), type=events.StreamEvent)
        assert id_line == b"id: w-1-e1-%d" % (seq + at)
        assert name_line == b"event: token"
        assert token == events.Token(seq=seq + at, job_id="w-1", correlation_id='odd"%d', t=said[at], i=i + at)


@given(st.text(min_size=1).filter(surrogate_free), st.lists(st.floats(-9999, 0), max_size=4))
def test_a_token_with_probabilities_is_what_the_contract_says(text: str, logprobs: list[float]) -> None:
    written = StreamEncoder("w-1", "e1", "c").token(text, 3, 2, len(logprobs) or 1, tuple(logprobs))
    token = msgspec.json.decode(written.split(b"\ndata: ")[1], type=events.StreamEvent)
    assert token == events.Token(
        seq=3, job_id="w-1", correlation_id="c", t=text, i=2, count=len(logprobs) or 1, logprobs=tuple(logprobs)
    )


def test_tokens_beyond_the_tables_are_the_same() -> None:
    encoder = StreamEncoder("w-1", "e1", "c")
    limit = encoding._TABLE_LIMIT
    assert encoder.tokens("a\x7fb", 2, limit + 5, limit) == encoder.token("a", limit + 5, limit) + encoder.token(
        "b", limit + 6, limit + 1
    )


@pytest.mark.parametrize("text", ["a\r\nevent: x", "a\n\ndata: forged", '"}\n\nid: 1', "\u2028", "\x00"])
def test_no_text_can_forge_an_event(text: str) -> None:
    written = StreamEncoder("w-1", "e1", "c").token(text, 1, 0)
    assert written.count(b"\n") == 4
    assert b"\r" not in written


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,60}", fullmatch=True), st.integers(0, 10**11))
def test_an_event_id_survives_its_text(stream: str, seq: int) -> None:
    assert EventId.parse(str(EventId(stream, "e1", seq))) == EventId(stream, "e1", seq)


@pytest.mark.parametrize("text", ["", "5", "a-5", "a:b-e1-5", "a-e1-", "a-e1--5", "a-e1-5\n", "x" * 200 + "-e1-5"])
def test_what_is_no_event_id_is_none(text: str) -> None:
    assert EventId.parse(text) is None
