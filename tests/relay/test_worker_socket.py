"""The worker socket in hostile hands: who is the worker, and what a bad line does, or ten thousand of them."""

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rhapsode_contract import frames, names
from support.fake_worker import FakeWorker
from support.narrations import narrations, said, shout
from support.processes import DEADLINE_S, Relay, manifest, wait_until
from support.streams import Event, ask, text_of

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
        assert worker.is_closed()
    assert relay.metric("rhapsode_socket_bad_lines_total") == 0, "what it says after its hello is nobody's"


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
        [sys.executable, "-m", "rhapsode_relay"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (78, f"rhapsode-relay: another relay listens on {relay.socket}\n")
    with FakeWorker(relay.socket):
        wait_until(lambda: relay.get("/v1/worker").json()["phase"] == "ready", "the first relay still listens")


def test_a_hundred_connections_that_say_nothing_do_no_harm(relay: Relay) -> None:
    silent = []
    for _ in range(100):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(relay.socket))
        silent.append(sock)
    for sock in silent:
        with contextlib.suppress(OSError):  # one of those that were one too many
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096):  # until the relay has closed it too
                pass
        sock.close()
    with FakeWorker(relay.socket):
        wait_until(lambda: relay.get("/v1/worker").json()["phase"] == "ready", "the worker is here")


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
