"""What the UI protocols say for events of ours: byte by byte, and in whatever order a job goes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract import events
from rhapsode_relay.dialects import Dialect
from rhapsode_relay.uis.agui import AguiDialect
from rhapsode_relay.uis.vercel import VercelDialect
from support.uis import kinds_of, of_kind, said_in, text_of, verify_message, verify_run

GOLDEN = Path(__file__).parent / "golden"
IDS: dict[str, Any] = {"seq": 1, "job_id": "sim-1", "correlation_id": "thread-1", "ts": "2026-11-20T17:18:02.113Z"}
QUEUED = events.Queued(**IDS, position=0)
STARTED = events.Started(**IDS, model="sim", worker="sim-0", prompt_tokens=3)
NARRATION = events.Narration(
    **IDS, actor="engine", action="inference_start", human='Generating "ü"\n', level="info", fields={"n": 1}
)
END = events.End(
    **IDS,
    tokens_out=2,
    decode_time_ms=1.5,
    stop_reason="stop",
    usage=events.Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5),
    timing=events.Timing(queue_ms=1, ttft_ms=2, decode_ms=1.5, total_ms=4),
    text_len=2,
    text_sha256="0" * 64,
)
ERROR = events.Error(
    **IDS,
    error=events.ErrorBody(message="the engine crashed", type="server_error", code="engine_crashed", partial=True),
    retryable=True,
)
CANCELLED = events.Error(
    **IDS,
    error=events.ErrorBody(message="cancelled by client", type="cancelled", code="cancelled", partial=True),
    retryable=False,
)
METRICS = events.Metrics(**IDS, tokens_out=2, queue_ms=1, ttft_ms=2, tok_s=50.0)
DONE = events.Done(**IDS)
WHOLE: list[events.StreamEvent] = [
    QUEUED, NARRATION, STARTED, events.Token(seq=4, t="Ü\u2028", i=0), events.Token(seq=5, t='"\\\n\x00', i=1),
    events.Data(**IDS, action="outcome", payload={"narrative": "…", "intents": None}), METRICS, END, DONE,
]  # fmt: skip
both = pytest.mark.parametrize("protocol", ["agui", "vercel"])


def speaker(protocol: str) -> Dialect:
    return AguiDialect("sim-1", "thread-1", "run-1") if protocol == "agui" else VercelDialect("sim-1")


def told(protocol: str, job: Sequence[events.StreamEvent]) -> bytes:
    dialect = speaker(protocol)
    return b"".join(map(dialect.tell, job))


def verified(protocol: str, raw: bytes) -> list[dict[str, Any]]:
    said = said_in(raw)
    (verify_run if protocol == "agui" else verify_message)(said)
    return said


@both
@pytest.mark.parametrize("ending", [END, ERROR, CANCELLED], ids=["end", "error", "cancelled"])
def test_the_wire_is_as_it_was(protocol: str, ending: events.StreamEvent) -> None:
    raw = told(protocol, [*WHOLE[:-2], ending, DONE])
    verified(protocol, raw)
    name = "end" if ending is END else "error" if ending is ERROR else "cancelled"
    assert raw.decode() == (GOLDEN / f"{protocol}_{name}.txt").read_text()


_between = st.sampled_from([NARRATION, METRICS, events.Data(**IDS, action="write", payload=[1]), QUEUED])
_jobs = st.builds(
    lambda before, started, tokens, ending: [
        QUEUED, *before, *started, *(one for text, after in tokens for one in (events.Token(seq=1, t=text, i=0), *after)),
        ending, DONE,
    ],
    st.lists(_between, max_size=4),
    st.sampled_from([[STARTED], []]),
    st.lists(st.tuples(st.text(min_size=1), st.lists(_between, max_size=2)), max_size=20),
    st.sampled_from([END, ERROR, CANCELLED]),
)  # fmt: skip


@both
@given(_jobs)
def test_every_job_is_told_in_an_order_that_clients_take(protocol: str, job: list[events.StreamEvent]) -> None:
    said = verified(protocol, told(protocol, job))
    assert text_of(said) == "".join(event.t for event in job if isinstance(event, events.Token))


@both
@given(_jobs, st.integers(min_value=1, max_value=60))
def test_a_stream_that_ends_early_says_so_wherever_it_is(
    protocol: str, job: list[events.StreamEvent], cut: int
) -> None:
    dialect = speaker(protocol)
    said = verified(protocol, b"".join(map(dialect.tell, job[:cut])) + dialect.part())
    assert text_of(said) == "".join(event.t for event in job[:cut] if isinstance(event, events.Token))
    assert dialect.part() == b"", "it is said once"


@both
def test_a_stream_that_ends_before_its_first_word_is_an_error(protocol: str) -> None:
    said = said_in(speaker(protocol).part())
    assert kinds_of(said) == (["RUN_ERROR"] if protocol == "agui" else ["error", "[DONE]"])


def _snapshot(status: events.JobStatus, text: str) -> events.Snapshot:
    known = [events.Narrated(human="Loading", action="load", ts=IDS["ts"])]
    return events.Snapshot(**IDS, status=status, text=text, tokens=len(text), reason="evicted", narration=known)


@both
@pytest.mark.parametrize(
    ("status", "text", "after", "steps"),
    [
        ("queued", "", [STARTED, events.Token(seq=9, t="b", i=0), END], ["queue", "prefill", "decode"]),
        ("running", "", [events.Token(seq=9, t="b", i=0), END], ["prefill", "decode"]),
        ("running", "a", [events.Token(seq=9, t="b", i=1), ERROR], ["decode"]),
        ("completed", "ab", [END], ["decode"]),
        ("completed", "", [END], []),
    ],
)
def test_what_came_before_a_snapshot_is_told_at_once(
    protocol: str, status: events.JobStatus, text: str, after: list[events.StreamEvent], steps: list[str]
) -> None:
    said = verified(protocol, told(protocol, [_snapshot(status, text), *after, DONE]))
    assert text_of(said) == text + "".join(one.t for one in after if isinstance(one, events.Token))
    about = of_kind(said, "narration" if protocol == "agui" else "data-narration")
    assert [(one.get("value") or one["data"])["human"] for one in about] == ["Loading"]
    if protocol == "agui":
        assert [one["stepName"] for one in of_kind(said, "STEP_STARTED")] == steps


@both
def test_silence_is_filled_with_comments(protocol: str) -> None:
    beat = speaker(protocol).beat()
    assert beat.startswith(b":")
    assert beat.endswith(b"\n\n")
    assert said_in(beat) == []


@both
def test_what_nobody_knows_is_passed_over(protocol: str) -> None:
    dialect = speaker(protocol)
    assert dialect.tell(DONE) == b""
    assert dialect.tell(events.Vram(seq=1, source="none")) == b""
    first = dialect.tell(QUEUED)
    assert first
    assert dialect.tell(events.Replay(seq=1, from_=1, to=2, gap=False)) == b""
