"""What a worker does, told in a stream of OpenAI's: only if asked, in shapes that no client breaks on, and paced."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract import events, frames
from rhapsode_contract.openai import NarrationStyle
from rhapsode_contract.records import timestamp
from rhapsode_relay.openai.chunking import CHAT, TEXT, Chunks, Shape, Wishes
from rhapsode_relay.openai.narrating import PER_SECOND, Pace
from support.chats import Told, ask_whole, chat, finish, read
from support.fake_worker import FakeWorker
from support.processes import Relay
from support.requests import assert_error

STYLES: list[NarrationStyle] = ["chunk", "openwebui", "reasoning", "comment"]
HOSTILE = 'x\n\ndata: [DONE]\r\n\r\n: </script>\u2028\x85"\\'


def chunks(style: NarrationStyle, shape: Shape = CHAT) -> Chunks:
    return Chunks(shape, "sim-1", 1_700_000_000, "sim", Wishes(style=style))


def narration(human: str, at: float = 0.0, **more: Any) -> events.Narration:
    facts: dict[str, Any] = {"seq": 1, "actor": "relay", "action": "note", "level": "info"} | more
    return events.Narration(human=human, ts=timestamp(1_700_000_000 + at), **facts)


def token(text: str, i: int = 0) -> events.Token:
    return events.Token(seq=2, t=text, i=i)


def end() -> events.End:
    usage = events.Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2)
    timing = events.Timing(queue_ms=0, decode_ms=0, total_ms=0)
    return events.End(
        seq=9, ts=timestamp(1_700_000_100), tokens_out=1, decode_time_ms=1, stop_reason="stop", usage=usage,
        timing=timing, text_len=1, text_sha256="",
    )  # fmt: skip


def told(dialect: Chunks, *heard: events.StreamEvent) -> Told:
    return read(b"".join(map(dialect.tell, heard)))


# Shapes


def test_a_chunk_of_nothing_carries_it_beside_its_choices() -> None:
    said = told(chunks("chunk"), narration("Loading", progress=0.5, fields={"bytes": 7}))
    role, chunk = said.chunks
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunk["choices"] == [{"index": 0, "delta": {}, "finish_reason": None}]
    assert chunk["narration"] == {
        "actor": "relay", "action": "note", "human": "Loading", "level": "info", "progress": 0.5, "fields": {"bytes": 7},
    }  # fmt: skip
    assert {key: chunk[key] for key in ("id", "object", "created", "model")} == {
        "id": "chatcmpl-sim-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "sim",
    }  # fmt: skip


def test_open_webui_shows_a_status_that_is_done_when_the_answer_is() -> None:
    dialect = chunks("openwebui")
    said = told(dialect, narration("Loading"), token("a"), end())
    status = [chunk["event"] for chunk in said.chunks if "event" in chunk]
    assert status == [
        {"type": "status", "data": {"description": "Loading", "done": False, "hidden": False}},
        {"type": "status", "data": {"description": "Loading", "done": True, "hidden": False}},
    ]
    assert said.narrations[0]["human"] == "Loading"


def test_a_status_does_not_outlive_an_answer_that_fails() -> None:
    error = events.ErrorBody(message="no", type="server_error", code="engine_error")
    said = told(chunks("openwebui"), narration("Loading"), events.Error(seq=3, error=error, retryable=False))
    assert said.chunks[-1]["event"]["data"]["done"]
    assert said.error is not None


def test_reasoning_is_told_until_the_text_begins_and_never_in_its_midst() -> None:
    said = told(chunks("reasoning"), narration("Loading"), token("a"), narration("Busy", 9), token("b", 1), end())
    thoughts = [chunk["choices"][0]["delta"].get("reasoning_content") for chunk in said.chunks]
    assert [thought for thought in thoughts if thought] == ["Loading\n"]
    assert (said.text, said.finish_reason) == ("ab", "stop")


def test_a_comment_says_it_to_those_who_read_comments() -> None:
    said = told(chunks("comment"), narration("Loading"), token("a"), narration("Busy", 2), end())
    assert [one.partition(" ")[0] for one in said.comments] == ["narration"] * 2
    assert '"human":"Busy"' in said.comments[1]
    assert said.narrations == []


def test_once_text_flows_a_narration_rides_on_it() -> None:
    dialect = chunks("chunk")
    told(dialect, token("a"))
    assert dialect.tell(narration("Busy", 5)) == b""
    (rider,) = told(dialect, token("b", 1)).chunks
    assert (rider["choices"][0]["delta"], rider["narration"]["human"]) == ({"content": "b"}, "Busy")


def test_a_text_has_the_same_shapes() -> None:
    said = told(
        chunks("openwebui", TEXT), narration("Loading"), token("a"), narration("Busy", 3), token("b", 1), end()
    )
    assert said.chunks[0]["choices"] == [{"index": 0, "text": "", "logprobs": None, "finish_reason": None}]
    assert [one["human"] for one in said.narrations] == ["Loading", "Busy"]
    assert (said.text, said.finish_reason) == ("ab", "stop")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("shape", [CHAT, TEXT], ids=["chat", "text"])
def test_no_word_of_a_narration_breaks_out_of_it(style: NarrationStyle, shape: Shape) -> None:
    if shape is TEXT and style == "reasoning":
        return  # which is refused
    said = told(chunks(style, shape), narration(HOSTILE, fields={HOSTILE: HOSTILE}), token("a"), end())
    assert (said.text, said.finish_reason, said.done) == ("a", "stop", True)


def test_nobody_hears_of_it_who_did_not_ask() -> None:
    said = told(chunks("off"), narration("Loading"), token("a"), narration("Busy", 2), token("b", 1), end())
    assert (len(said.chunks), said.narrations, said.comments) == (4, [], [])


# Pace


def test_silence_lets_what_waits_be_said() -> None:
    dialect = chunks("chunk")
    for at in range(PER_SECOND + 2):
        dialect.tell(narration(f"number {at}"))
    (last,) = read(dialect.beat()).chunks
    assert (last["narration"]["human"], last["narration"]["dropped"]) == (f"number {PER_SECOND + 1}", 1)
    assert dialect.beat() == b": keepalive\n\n"


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 3)), max_size=40))
def test_four_are_told_a_second_and_every_other_one_is_counted(steps: list[tuple[float, int]]) -> None:
    pace, at = Pace(), 0.0
    said: list[tuple[float, Any]] = []
    for wait, dropped in steps:
        at = round(at + wait, 3)
        pace.hear(narration("x", at, dropped=dropped))
        if one := pace.take():
            said.append((at, one))
    for (before, _), (after, _) in zip(said, said[PER_SECOND:], strict=False):
        assert after - before >= 0.99
    if last := pace.take(last=True):
        said.append((at, last))
    assert sum(1 + one.dropped for _, one in said) == sum(1 + dropped for _, dropped in steps)


@given(st.lists(st.one_of(st.text(min_size=1), st.floats(0, 1)), max_size=60), st.sampled_from(STYLES))
def test_the_text_is_the_same_whatever_is_told_beside_it(steps: list[str | float], style: NarrationStyle) -> None:
    dialect, at = chunks(style), 0.0
    heard: list[events.StreamEvent] = []
    for step in steps:
        at += 0 if isinstance(step, str) else step
        heard.append(token(step) if isinstance(step, str) else narration("busy", at))
    said = told(dialect, *heard, end())
    assert said.text == "".join(step for step in steps if isinstance(step, str))
    assert (said.finish_reason, said.done) == ("stop", True)


# Asking


def test_it_is_told_while_the_model_loads(relay: Relay) -> None:
    with (
        FakeWorker(relay.socket, ready=False) as worker,
        chat(relay.port, headers={"X-Narration": "chunk"}) as stream,
    ):
        worker.send(frames.State(phase="loading"), frames.Narration(human="Loading weights", action="load"))
        while b"Loading weights" not in stream.raw:
            assert stream.read_some()
        worker.send(frames.State(phase="ready", caps=frames.Caps(slots=1)))
        worker.serve("a")
        said = finish(stream)
    actions = [one["action"] for one in said.narrations]
    assert actions[0] == "accepted"
    assert "load" in actions
    assert (said.text, said.done) == ("a", True)


def test_the_body_wins_over_the_header(relay: Relay, worker: FakeWorker) -> None:
    with chat(relay.port, later=True, narration="off", headers={"X-Narration": "chunk"}) as stream:
        worker.serve("a")
        assert finish(stream).narrations == []
    with chat(relay.port, narration="chunk", headers={"X-Narration": "off"}) as stream:
        worker.serve("a")
        assert finish(stream).narrations


def test_an_answer_that_is_not_streamed_is_plain(relay: Relay, worker: FakeWorker) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        asked = pool.submit(ask_whole, relay, narration="chunk")
        worker.serve("a")
        assert "narration" not in asked.result().json()


def test_a_style_that_there_is_not_is_refused(shared: Relay) -> None:
    error = assert_error(ask_whole(shared, headers={"X-Narration": "loud"}), 400, "invalid_request")
    assert error["param"] == "X-Narration"
    assert "openwebui" in error["message"]
    assert assert_error(ask_whole(shared, narration="loud"), 400, "invalid_request")["param"] == "narration"
    text = ask_whole(shared, "/v1/completions", narration="reasoning")
    assert assert_error(text, 400, "unsupported")["param"] == "narration"
