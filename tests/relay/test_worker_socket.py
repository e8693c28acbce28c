"""The worker socket in hostile hands: who may say what, what a bad line does, who is lost and who comes back.

Each attack's comment says what it would do if it worked.
"""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rhapsode_contract import frames, names
from support.fake_worker import FakeWorker
from support.processes import Relay, free_port, manifest, running_relay, wait_until
from support.streams import Event, Stream, ask, resume, text_of


def narrations(relay: Relay) -> list[dict[str, Any]]:
    """Return all narrations of the worker's stream so far."""
    with Stream(relay.port, "/v1/worker/stream") as stream:
        head = stream.next("worker").data
        last = relay.get("/v1/worker").json()["seq"]
        told: list[dict[str, Any]] = []
        if last <= head["seq"]:
            return told
        for event in stream.events():
            if event.name == "narration":
                told.append(event.data)
            if event.data["seq"] >= last:
                return told
    return told


def said(relay: Relay, human: str) -> dict[str, Any]:
    """Return the narration with these words, once it is there."""

    def found() -> dict[str, Any] | None:
        return next((told for told in narrations(relay) if told["human"] == human), None)

    told: dict[str, Any] = wait_until(found, f"{human!r} is told")
    return told


def shout(path: Path, data: bytes) -> None:
    """Send bytes as some process of the pod would."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(data)


# Anyone may narrate


def test_a_shell_line_narrates(relay: Relay) -> None:
    script = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(sys.stdin.buffer.read())"
    line = b'{"action":"fetch","human":"Fetching weights","progress":0.4}'  # no type, and no newline at the end
    subprocess.run([sys.executable, "-c", script, str(relay.socket)], input=line, check=True)
    told = said(relay, "Fetching weights")
    assert (told["action"], told["actor"], told["progress"], told["level"]) == ("fetch", "narrator", 0.4, "info")
    record = relay.wait_record("fetch")
    assert record["message"] == "Fetching weights", "it has no log of its own, so the relay logs it"


def test_a_narration_cannot_harm_a_screen_or_a_log(relay: Relay) -> None:
    """Escape codes would repaint a terminal; newlines would forge log records; direction marks would lie."""
    evil = {"human": "a\x1b[2J\nb\u202ec\u2028d", "action": "x\ny", "actor": "\x07", "target": "\r\n"}
    shout(relay.socket, json.dumps(evil).encode() + b"\n")
    told = said(relay, "a [2J b c d")
    assert not any(ord(char) < 32 for key in ("human", "action", "actor") for char in told[key])
    assert len(relay.wait_record("x y")["message"].splitlines()) == 1


def test_a_table_keeps_its_lines_and_its_rows_are_data(relay: Relay) -> None:
    with Stream(relay.port, "/v1/worker/stream") as stream:
        stream.next("worker")
        rows = [{"adapter": "law", "MB": 42}]
        shout(
            relay.socket,
            json.dumps({"human": "adapter  MB\nlaw      42", "table": True, "action": "adapters"}).encode()
            + b"\n"
            + json.dumps({"type": "data", "action": "adapters", "payload": rows}).encode()
            + b"\n",
        )
        events = {
            event.name: event.data
            for event in (stream.next(), stream.next(), stream.next())
            if event.data.get("action") == "adapters"
        }
    assert events["narration"]["human"] == "adapter  MB\nlaw      42"
    assert events["data"]["payload"] == rows


def test_a_narrator_that_floods_is_slowed_and_what_is_dropped_is_counted(relay: Relay) -> None:
    """Ten thousand lines would drown the worker's own story."""
    shout(relay.socket, b'{"human":"spam"}\n' * 10_000)
    wait_until(lambda: relay.metric("rhapsode_socket_notes_dropped_total") >= 9_900, "the flood is dropped")
    assert len([told for told in narrations(relay) if told["human"] == "spam"]) <= 100


@pytest.mark.parametrize("frame", ["token", "finish", "error", "prefill", "state", "load", "vram", "stats", "resume"])
def test_a_narrator_can_touch_neither_a_job_nor_the_worker(relay: Relay, worker: FakeWorker, frame: str) -> None:
    """Any process of the pod could put words into the model's mouth, end jobs, or call the worker dead."""
    with ask(relay.port) as stream:
        job = worker.begin()
        worker.speak(job, "a")
        forgeries: dict[str, dict[str, Any]] = {
            "token": {"job_id": job.job_id, "i": 1, "t": "forged"},
            "finish": {"job_id": job.job_id, "stop_reason": "stop", "tokens_out": 1},
            "error": {"job_id": job.job_id, "code": "x", "message": "forged"},
            "prefill": {"job_id": job.job_id, "prompt_tokens": 999},
            "state": {"phase": "failed"},
            "load": {"stage": "forged"},
            "vram": {"source": "nvml", "gpus": []},
            "stats": {"active": 99},
            "resume": {"job": {"job_id": job.job_id}},
        }
        shout(relay.socket, json.dumps({"type": frame} | forgeries[frame]).encode() + b"\n")
        wait_until(lambda: relay.metric("rhapsode_socket_bad_lines_total") == 1, "the line is counted")
        worker.speak(job, "b", start=1)
        worker.finish(job, 2)
        events = stream.rest()
    assert text_of(events) == "ab"
    assert b"forged" not in stream.raw
    state = relay.get("/v1/worker").json()
    assert state["phase"] == "ready"
    assert "load" not in state
    assert "vram" not in state


def test_a_narration_with_a_job_id_reaches_no_job(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port) as stream:
        job = worker.begin()
        shout(relay.socket, json.dumps({"human": "psst", "job_id": job.job_id}).encode() + b"\n")
        said(relay, "psst")
        worker.finish(job, 0)
        stream.rest()
    assert b"psst" not in stream.raw


# Only one is the worker


def test_a_second_worker_is_refused_and_narrated(relay: Relay, worker: FakeWorker) -> None:
    second = FakeWorker(relay.socket, boot_id="usurper")
    assert second.receive(frames.Refused).reason == "worker boot is connected"
    assert second.is_closed()
    second.close()
    wait_until(lambda: any(told["action"] == "worker_refused" for told in narrations(relay)), "it is narrated")
    with ask(relay.port) as stream:
        worker.serve("still me")
        assert text_of(stream.rest()) == "still me"


def test_a_worker_of_another_protocol_is_refused(relay: Relay) -> None:
    with FakeWorker(relay.socket, proto=99) as worker:
        assert worker.receive(frames.Refused).reason == "it speaks protocol 99, this relay speaks 1"


def test_hello_twice_changes_nothing(relay: Relay, worker: FakeWorker) -> None:
    worker.send(frames.Hello(proto=1, boot_id="other", engine="Evil", model="evil"))
    with ask(relay.port) as stream:
        worker.serve("a")
        assert text_of(stream.rest()) == "a"
    assert relay.get("/v1/worker").json()["engine"] == "Fake"


def test_the_socket_is_for_the_pod_alone(relay: Relay) -> None:
    assert stat.S_IMODE(relay.socket.stat().st_mode) == 0o660


def test_a_second_relay_leaves_the_socket_alone(relay: Relay, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(json.dumps(manifest()))
    environ = os.environ | {
        names.ENV_MANIFEST: str(path), names.ENV_SOCKET: str(relay.socket), names.ENV_PORT: "0", names.ENV_ADMIN_PORT: "0",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "rhapsode_relay"], env=environ, capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (78, f"rhapsode-relay: another relay listens on {relay.socket}\n")
    with FakeWorker(relay.socket):
        wait_until(lambda: relay.get("/v1/worker").json()["phase"] == "ready", "the first relay still listens")


# Bad lines


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"\xff\xfe",
        b"{}garbage",
        b'{"type":"token"}',
        b'{"type":"nonsense"}',
        b'{"type":"token","job_id":[],"i":0,"t":"x"}',
        b"[" * 5000,
        b'{"a":' * 2000,
        b"x" * 100_000,
        b'{"type":"narration","human":"' + b"x" * 70_000 + b'"}',
        b"\x00",
        b'{"type":"narration","human":"\x01"}',
        b'{"type":"finish","job_id":"../../etc","stop_reason":"stop","tokens_out":0}',
        b'{"type":"vram","source":"crystal ball"}',
    ],
    ids=range(14),
)
def test_a_bad_line_is_skipped_counted_and_narrated_once_and_the_next_is_heard(
    relay: Relay, worker: FakeWorker, line: bytes
) -> None:
    with ask(relay.port) as stream:
        job = worker.begin()
        good = frames.encode_frame(frames.Token(job_id=job.job_id, i=0, t="good"))
        worker.raw(line + b"\n" + line + b"\n" + good)
        worker.finish(job, 1)
        assert text_of(stream.rest()) == "good"
    assert relay.metric("rhapsode_socket_bad_lines_total") == 2
    assert len([told for told in narrations(relay) if told["action"] == "bad_lines"]) == 1


def test_a_line_may_come_byte_by_byte(relay: Relay, worker: FakeWorker) -> None:
    with ask(relay.port) as stream:
        job = worker.begin()
        for byte in frames.encode_frame(frames.Token(job_id=job.job_id, i=0, t="🌅 slow")):
            worker.raw(bytes([byte]))
        worker.finish(job, 1)
        assert text_of(stream.rest()) == "🌅 slow"


def test_a_line_without_an_end_takes_no_memory(relay: Relay) -> None:
    """An endless line would fill the memory of the pod."""
    import psutil

    before = psutil.Process(relay.pid).memory_info().rss
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(relay.socket))
        for _ in range(1000):
            sock.sendall(b"x" * 65536)
        sock.sendall(b'\n{"human":"after the flood"}\n')
        said(relay, "after the flood")
    assert psutil.Process(relay.pid).memory_info().rss - before < 8 * 2**20


hostile_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
kinds = [
    "token",
    "finish",
    "error",
    "prefill",
    "narration",
    "data",
    "state",
    "load",
    "vram",
    "stats",
    "resume",
    "hello",
    "x",
]
hostile_frames = st.fixed_dictionaries(
    {"type": st.sampled_from(kinds)},
    optional={
        "job_id": st.sampled_from(["JOB", "nope", "", "a b"]) | hostile_values,
        "i": st.integers(-5, 5) | hostile_values,
        "t": st.text(max_size=10) | hostile_values,
        "ts": st.text("ab\x7f", max_size=6),
        "count": st.integers(-3, 5),
        "human": st.text(max_size=30) | hostile_values,
        "phase": st.sampled_from(["ready", "loading", "lost", "x"]),
        "stop_reason": st.sampled_from(["stop", "length", "cancelled", "x"]),
        "tokens_out": st.integers(-2, 5),
        "fields": hostile_values,
        "payload": hostile_values,
        "job": hostile_values,
    },
)


@pytest.mark.parametrize("as_worker", [False, True], ids=["narrator", "worker"])
def test_ten_thousand_hostile_lines_do_not_crash_the_relay_or_forge_an_event(relay: Relay, as_worker: bool) -> None:
    """Property: whatever is sent, every event stays well-formed and in order, and the relay goes on."""
    path = relay.socket
    sent = 0

    @settings(
        max_examples=200, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(
        st.lists(
            st.binary(max_size=40) | hostile_frames.map(lambda frame: json.dumps(frame).encode()),
            min_size=25,
            max_size=40,
        )
    )
    def attack(lines: list[bytes]) -> None:
        nonlocal sent
        with FakeWorker(path, slots=4) as worker, ask(relay.port, on_disconnect="cancel") as stream:
            job = worker.begin()
            sent += len(lines)
            data = b"\n".join(line.replace(b'"JOB"', f'"{job.job_id}"'.encode()) for line in lines) + b"\n"
            if as_worker:
                worker.raw(data)
            else:
                shout(path, data)
            worker.send(frames.Error(job_id=job.job_id, code="enough", message="enough"))
            assert_sound(stream.rest(), job.job_id)
        wait_until(lambda: relay.get("/v1/worker").json()["phase"] == "lost", "the worker is gone")

    while sent < 10_000:
        attack()
    assert relay.process.poll() is None


def assert_sound(events: list[Event], job_id: str) -> None:
    """Every event is ours, numbered without a gap, with one terminal event before `done`."""
    assert [event.data["seq"] for event in events] == list(range(1, len(events) + 1))
    assert {event.data["job_id"] for event in events} == {job_id}
    assert all(event.name == event.data["type"] for event in events)
    assert [event.name in ("end", "error") for event in events].count(True) == 1
    assert events[-1].name == "done"
    assert events[-2].name in ("end", "error")
    tokens = [event.data for event in events if event.name == "token"]
    assert all(token["t"] for token in tokens)
    at = 0
    for token in tokens:
        assert token["i"] == at
        at += token.get("count", 1)


# Losing and finding the worker


def test_a_lost_worker_ends_running_jobs_at_once_and_the_line_waits(relay: Relay) -> None:
    with FakeWorker(relay.socket, slots=1) as first, ask(relay.port, "one") as one, ask(relay.port, "two") as two:
        job = first.begin()
        first.speak(job, "part")
        one.next("token")
        first.close()
        events = one.rest()
        error = events[-2].data
        assert (error["error"]["code"], error["error"]["partial"], error["retryable"]) == ("worker_lost", True, True)
        assert relay.get("/v1/worker").json()["phase"] == "lost"
        with FakeWorker(relay.socket, boot_id="again") as second:
            second.serve("after all")
            assert text_of(two.rest()) == "after all"


def test_a_worker_that_comes_back_with_a_job_that_was_ended_is_told_to_stop_it(relay: Relay) -> None:
    with FakeWorker(relay.socket) as first, ask(relay.port) as stream:
        job = first.begin()
        first.close()
        stream.rest()
        held = [frames.JobState(job_id=job.job_id, text="abc", tokens=3, meta=dict(job.meta))]
        with FakeWorker(relay.socket, boot_id="same", jobs=held) as again:
            assert again.receive(frames.Cancel).job_id == job.job_id


def test_a_relay_that_was_killed_learns_its_jobs_from_the_worker(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    first = Relay(manifest(), tmp_path, *ports)
    worker = FakeWorker(first.socket)
    stream = ask(first.port, headers={"X-Correlation-Id": "req-9"})
    job = worker.begin()
    worker.speak(job, "a", "b")
    seen = [stream.next("token"), stream.next("token")]
    first.send(signal.SIGKILL)
    first.wait()
    worker.close()
    stream.close()
    first.close()
    second = Relay(manifest(), tmp_path, *ports)
    try:
        held = [frames.JobState(job_id=job.job_id, text="abc", tokens=3, meta=dict(job.meta))]
        with ThreadPoolExecutor() as pool:
            coming_back = pool.submit(resume, second.port, job.job_id, seen[-1].id)  # before the worker is back
            time.sleep(0.2)
            assert not coming_back.done(), "it waits for the worker rather than to be told 404"
            with FakeWorker(second.socket, jobs=held) as again, coming_back.result() as waiting:
                again.send(frames.Prefill(job_id=job.job_id, prompt_tokens=3))
                again.speak(job, "d", start=3)
                again.finish(job, 4)
                events = waiting.rest()
        assert events[0].name == "snapshot"
        assert (events[0].data["text"], events[0].data["tokens"]) == ("abc", 3)
        assert text_of(events) == "abcd"
        assert events[-2].data["text_len"] == 4
        assert {event.data["correlation_id"] for event in events} == {"req-9"}
    finally:
        second.close()


def test_a_job_that_a_killed_relay_had_not_begun_is_said_to_be_lost(relay: Relay, worker: FakeWorker) -> None:
    wait_until(lambda: relay.get("/v1/worker").json()["phase"] == "ready", "the worker is here")
    with resume(relay.port, "sim-0123456789abcdef", "sim-0123456789abcdef-oldepoch-3") as stream:
        body = stream.json()
    assert (stream.status, body["error"]["code"], body["retryable"]) == (410, "job_lost", True)


def test_the_worker_tells_a_late_relay_what_was_said_before(relay: Relay) -> None:
    with FakeWorker(relay.socket, ready=False) as worker:
        worker.send(frames.Narration(human="I woke up", action="start", ts="2026-11-21T08:00:00.000Z"))
        assert said(relay, "I woke up")["ts"] == "2026-11-21T08:00:00.000Z"


def test_time_is_not_lost_on_a_stale_socket(tmp_path: Path) -> None:
    """A killed relay leaves its socket behind; the next one must not be stopped by it."""
    with running_relay() as relay:
        relay.send(signal.SIGKILL)
        relay.wait()
        assert relay.socket.exists()
        again = Relay(manifest(), relay.socket.parent, relay.port, int(relay.admin_url.rpartition(":")[2]))
        try:
            with FakeWorker(again.socket):
                wait_until(lambda: again.get("/v1/worker").json()["phase"] == "ready", "the worker is here")
        finally:
            again.close()


def test_a_hundred_connections_that_say_nothing_do_no_harm(relay: Relay) -> None:
    silent = []
    for _ in range(100):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(relay.socket))
        silent.append(sock)
    for sock in silent:
        sock.close()
    time.sleep(0.1)
    with FakeWorker(relay.socket):
        wait_until(lambda: relay.get("/v1/worker").json()["phase"] == "ready", "the worker is here")
