"""What we write on the worker socket is pinned by a golden file; what we read may have more in it."""

from pathlib import Path

import msgspec
import pytest

from rhapsode_contract import frames
from rhapsode_contract.tools import Function, FunctionCall, Tool, ToolCall

CALL = ToolCall(id="call_1", function=FunctionCall(name="get_rain", arguments="{}"))
GOLDEN = Path(__file__).parent / "golden" / "frames.ndjson"
WRITTEN: list[frames.WorkerFrame | frames.RelayFrame | frames.Note] = [
    frames.Hello(
        proto=1,
        boot_id="b1",
        engine="OpenVINO",
        model="smollm2",
        worker="smollm-0",
        caps=frames.Caps(slots=8, context_tokens=2048, json_schema=True, regex=True, grammar=True),
        jobs=[frames.JobState(job_id="smollm-0-abc", text="Hello", tokens=2, meta={"correlation_id": "r1"})],
        resumes=1,
    ),
    frames.Resume(job=frames.JobState(job_id="smollm-0-abd")),
    frames.State(phase="failed", reason="ModelNotFound", message="no such file"),
    frames.Load(stage="loading weights", percent=44.0, eta_s=12.0),
    frames.Narration(
        human="Loading weights", action="weights_load", actor="engine", progress=0.44, fields={"done": 1}
    ),
    frames.Data(action="table", payload=[{"a": 1}], job_id="smollm-0-abc"),
    frames.Vram(source="nvml", gpus=[frames.Gpu(uuid="GPU-1", name="H200", total_bytes=150, used_bytes=50)]),
    frames.Vram(
        source="nvml",
        gpus=[
            frames.Gpu(
                uuid="GPU-2",
                name="H200",
                total_bytes=150,
                used_bytes=50,
                reserved_bytes=1,
                utilization=0.07,
                temperature_c=41,
                power_w=92.4,
                power_limit_w=700.0,
                throttle=["power_cap"],
            ),
            frames.Gpu(
                uuid="MIG-3",
                name="H200 MIG 1g.18gb",
                total_bytes=18,
                used_bytes=5,
                healthy=False,
                trouble="GPU is lost",
                xid=79,
                mig=True,
            ),
        ],
    ),
    frames.Stats(active=1, queued=2, tokens_total=3),
    frames.Stats(active=1, kv_used=12, kv_total=1024),
    frames.Prefill(job_id="smollm-0-abc", prompt_tokens=36, cached_tokens=32),
    frames.Token(job_id="smollm-0-abc", i=0, t=" café"),
    frames.Token(job_id="smollm-0-abc", i=1, t="🌅", count=3),
    frames.Token(job_id="smollm-0-abc", i=4, ts=" the\x7f cat"),
    frames.Token(job_id="smollm-0-abh", i=1, t=" cat", count=2, lp=(-0.25, -9999.0)),
    frames.Finish(job_id="smollm-0-abc", stop_reason="stop", tokens_out=6, prompt_tokens=36, decode_time_ms=12.5),
    frames.Error(job_id="smollm-0-abc", code="engine_crashed", message="signal 9", retryable=True),
    frames.Generate(
        job_id="smollm-0-abc",
        max_tokens=10,
        correlation_id="r1",
        messages=[frames.Message(role="user", content="Hi")],
        temperature=0.5,
        seed=7,
        stop=["\n"],
        meta={"max_tokens": 10},
    ),
    frames.Generate(job_id="smollm-0-abe", max_tokens=5, correlation_id="r2", prompt="Hi", regex="[0-9]+"),
    frames.Generate(
        job_id="smollm-0-abf", max_tokens=5, correlation_id="r2", prompt="Hi", grammar='root ::= "yes" | "no"'
    ),
    frames.Generate(
        job_id="smollm-0-abg",
        max_tokens=5,
        correlation_id="r3",
        messages=[
            frames.Message(role="user", content="Rain?"),
            frames.Message(role="assistant", content="", tool_calls=[CALL]),
            frames.Message(role="tool", content="no", tool_call_id="call_1", name="get_rain"),
        ],
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        tools=[Tool(type="function", function=Function(name="get_rain", description="Rain now."))],
    ),
    frames.State(phase="ready", caps=frames.Caps(slots=8, tools=True, penalties=True, logprobs=True)),
    frames.Generate(job_id="smollm-0-abh", max_tokens=5, correlation_id="r4", prompt="Hi", logprobs=True),
    frames.Cancel(job_id="smollm-0-abc", reason="client"),
    frames.Drain(deadline_s=60.0),
    frames.Ping(),
    frames.Refused(reason="another worker is connected"),
    frames.Note(human="Fetching weights", action="fetch", progress=0.4),
]


def test_what_we_write_is_what_we_always_wrote() -> None:
    written = b"".join(map(frames.encode_frame, WRITTEN))
    assert written.decode() == GOLDEN.read_text()


def test_a_frame_is_one_line_whatever_its_text() -> None:
    frame = frames.Token(job_id="a-1", i=0, t='\n\r\u2028 "quoted" \\ 🌅')
    line = frames.encode_frame(frame)
    assert line.count(b"\n") == 1
    assert b"\r" not in line
    assert msgspec.json.decode(line, type=frames.Token) == frame


def test_a_reader_ignores_fields_of_a_newer_version() -> None:
    raw = b'{"type":"state","phase":"ready","mood":"sunny","caps":{"slots":4,"wings":2}}'
    assert msgspec.json.decode(raw, type=frames.WorkerFrame) == frames.State(phase="ready", caps=frames.Caps(slots=4))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"token","job_id":5,"i":0,"t":"x"}',
        b'{"type":"prefill","job_id":"a b","prompt_tokens":1}',
        b'{"type":"prefill","job_id":"a-1\\n","prompt_tokens":1}',
        b'{"type":"finish","job_id":"a-1","stop_reason":"bored","tokens_out":1}',
        b'{"type":"state","phase":"asleep"}',
        b'{"type":"load","stage":"x","percent":101}',
        b'{"type":"nonsense"}',
        b'{"type":"token","job_id":"a-1","i":0,"t":"\\ud800"}',
    ],
)
def test_a_frame_that_breaks_the_contract_is_refused(raw: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(raw, type=frames.WorkerFrame)
