"""Any process of the pod may narrate and do no more; each attack's comment says what it would do if it worked."""

import json
import subprocess
import sys
from typing import Any

import pytest

from support.fake_worker import FakeWorker
from support.narrations import narrations, said, shout
from support.processes import Relay, wait_until
from support.streams import Stream, ask, text_of


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


def test_who_fetches_the_model_tells_how_far_it_is_until_the_worker_comes(relay: Relay) -> None:
    with Stream(relay.port, "/v1/worker/stream") as stream:
        stream.next("worker")
        shout(
            relay.socket, b'{"type":"load","stage":"fetching\\u001b[2J","percent":42.5,"eta_s":7,"ready_in_s":61}\n'
        )
        event = stream.next("load").data
        assert (event["stage"], event["percent"], event["eta_s"]) == ("fetching [2J", 42.5, 7)
        assert event["ready_in_s"] == 61
    assert relay.get("/v1/worker").json()["load"]["percent"] == 42.5
    assert relay.get("/v1/worker").json()["load"]["ready_in_s"] == 61
    with FakeWorker(relay.socket):
        wait_until(lambda: relay.get("/v1/worker").json()["phase"] == "ready", "the worker is here")
        shout(relay.socket, b'{"type":"load","stage":"forged"}\n')
        wait_until(lambda: relay.metric("rhapsode_socket_bad_lines_total") == 1, "the line is counted")
    assert "load" not in relay.get("/v1/worker").json()
