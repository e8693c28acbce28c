"""What a selfcheck decides, mostly without an engine: how answers are judged, what a report says, what a dummy model is."""

import asyncio
import json
import logging
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import jinja2
import pytest

from rhapsode_contract import frames
from rhapsode_worker import selfchecking
from rhapsode_worker.engines import ENGINES, LoadPlan
from rhapsode_worker.selfcheck.asking import Questions
from rhapsode_worker.selfcheck.dummy_checkpoints import VOCABULARY, write_dummy_checkpoint
from rhapsode_worker.selfcheck.findings import Finding, as_text, failure, make_report, make_row, not_checked
from rhapsode_worker.selfcheck.judging_answers import (
    GRAMMAR,
    REGEX,
    judge_match,
    judge_pair,
    judge_schema,
    judge_stream,
)
from rhapsode_worker.selfcheck.redacting import clean_text, redacted, secrets_of
from rhapsode_worker.selfcheck.running_engine import Asked, EngineRun
from rhapsode_worker.selfcheck.subjects import small_subject
from rhapsode_worker.voice import Voice
from rhapsode_worker.watching_devices import DeviceWatch
from support.processes import DEADLINE_S

Heard = list[tuple[float, frames.WorkerFrame]]


def finish(tokens: int = 10, ttft_ms: float = 10, decode_ms: float = 90, **fields: Any) -> frames.Finish:
    told: dict[str, Any] = {"job_id": "j", "stop_reason": "length", "tokens_out": tokens, "prompt_tokens": 5}
    return frames.Finish(ttft_ms=ttft_ms, decode_time_ms=decode_ms, **(told | fields))


def heard(*texts: str, at: float = 0.0, prefills: int = 1) -> Heard:
    told: Heard = [(at, frames.Prefill(job_id="j", prompt_tokens=5))] * prefills
    return told + [(at + 1 + i, frames.Token(job_id="j", i=i, t=text)) for i, text in enumerate(texts)]


def test_an_answer_that_came_token_by_token_is_streamed() -> None:
    found = judge_stream(heard(*"abcdefghij"), finish(), 10)
    assert (found.outcome, found.facts["tokens_per_s"]) == ("ok", 100.0)
    assert found.measured == "10 tokens in 10 pieces, the first after 10 ms, then 100 a second"


@pytest.mark.parametrize(
    ("told", "end"),
    [
        (heard("abcdefghij"), finish(decode_ms=0)),
        (heard(*"abcdefghij"), finish(ttft_ms=1000, decode_ms=2)),
    ],
    ids=["one piece", "many pieces at one moment"],
)
def test_an_answer_that_was_computed_first_is_not(told: Heard, end: frames.Finish) -> None:
    found = judge_stream(told, end, 10)
    assert (found.outcome, "computed before the first was told" in found.measured) == ("failed", True)


@pytest.mark.parametrize(
    ("told", "end", "words"),
    [
        (heard(*"abcdefghij", prefills=0), finish(), "did not tell once"),
        ([*heard("a"), (3, frames.Token(job_id="j", i=2, t="c"))], finish(), "token 1 was to come, and token 2 came"),
        (heard(*"abcdefghijk"), finish(10), "11 tokens came, and the engine counted 10"),
        (heard(*"abcdefghij"), finish(12), "12 tokens came, 10 were allowed"),
        (heard(*"abcdefghij"), finish(prompt_tokens=0), "the prompt has no tokens"),
    ],
    ids=["order", "gap", "count", "limit", "prompt"],
)
def test_what_is_wrong_with_an_answer_is_named(told: Heard, end: frames.Finish, words: str) -> None:
    found = judge_stream(told, end, 10)
    assert (found.outcome, words in found.measured) == ("failed", True), found


def test_of_a_few_tokens_nothing_is_claimed() -> None:
    assert judge_stream(heard(*"abc"), finish(3), 10).outcome == "warning"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"mood": "calm", "count": 2}', ""),
        ('{"mood": "calm"}', "does not keep"),
        ('{"mood": "calm", "count": true}', "does not keep"),
        ('{"mood": "grim", "count": 2}', "does not keep"),
        ('["calm"]', "does not keep"),
        ("Calm.", "is no JSON"),
    ],
)
def test_json_is_held_against_the_schema(text: str, words: str) -> None:
    found = judge_schema(heard(text), finish(stop_reason="stop"))
    assert (found.outcome, words in found.measured) == ("failed" if words else "ok", True), found


def test_json_that_is_cut_is_told_as_cut() -> None:
    assert judge_schema(heard('{"mood": '), finish()).measured.startswith("the answer is cut after 10 tokens")


def test_a_text_is_held_against_a_guide() -> None:
    assert judge_match(heard("calm 12"), finish(), REGEX, "grammar").outcome == "ok"
    assert judge_match(heard("calm 19"), finish(), REGEX, "grammar").outcome == "failed"
    assert GRAMMAR.startswith("root ::= ")


def test_two_requests_one_after_the_other_are_no_pair() -> None:
    early, late = heard(*"abcdefghij"), heard(*"abcdefghij", at=100)
    assert judge_pair(early, early, (finish(), finish()), 10).outcome == "ok"
    assert judge_pair(early, late, (finish(), finish()), 10).outcome == "warning"


class TwoSlots:
    """What stands in for an engine: it notes which requests were sent in one piece."""

    caps = frames.Caps(slots=2)

    def __init__(self) -> None:
        self.pieces: list[list[str]] = []

    def ask(self, *requests: frames.Generate) -> list[Asked]:
        self.pieces.append([request.job_id for request in requests])
        asked = [Asked(request.job_id, request.max_tokens) for request in requests]
        for one in asked:
            one.heard = heard(*"abcdefghij")
        return asked

    async def answer(self, _: Asked) -> frames.Finish:
        return finish()


async def test_a_pair_is_sent_in_one_piece_or_one_might_be_over_before_the_other_is_sent() -> None:
    engine = TwoSlots()
    assert (await Questions(cast("EngineRun", engine)).pair()).outcome == "ok"
    assert engine.pieces == [["selfcheck-1", "selfcheck-2"]]


@pytest.fixture
async def loaded() -> AsyncIterator[EngineRun]:
    """The simulator, ready for questions."""
    voice = Voice(logging.getLogger("test"), lambda _: None)
    run = EngineRun(LoadPlan(engine="Simulator", model="m"), voice, DeviceWatch(voice), None)
    try:
        await asyncio.wait_for(run.load(), DEADLINE_S)
        yield run
    finally:
        await run.kill()


async def test_an_engine_that_ends_between_two_checks_fails_the_next_one_and_no_other(loaded: EngineRun) -> None:
    os.kill(loaded._process.pid or 0, signal.SIGKILL)
    async with asyncio.timeout(DEADLINE_S):
        while not loaded.gone:
            await asyncio.sleep(0.01)
    told = [loaded.missed() for _ in range(2)]
    assert [one.outcome for one in told] == ["failed", "skipped"]
    assert told[0].measured == "the engine ended by signal 9 (SIGKILL)"


async def test_an_engine_that_sees_itself_that_it_does_not_close_is_told_like_one_that_is_killed_for_it(
    loaded: EngineRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both wait equally long: whichever stands still is the second to see it."""
    monkeypatch.setattr("rhapsode_worker.selfcheck.running_engine.CLOSE_S", 0.0)
    os.kill(loaded._process.pid or 0, signal.SIGTERM)  # an exit status of its own
    found = await loaded.end()
    assert (found.outcome, found.measured) == ("failed", "it did not close within 0 s and was ended")


def test_what_was_skipped_is_not_counted_as_ok() -> None:
    rows = [
        make_row("machine", Finding(measured="2 CPUs"), 0.1),
        make_row("driver", not_checked("no NVIDIA driver here"), 0),
        make_row("load", failure("out of memory", "Lower it.", ["last line"]), 2),
    ]
    text = as_text(make_report(rows, rhapsode="1", engine="E", model="m", at="now"))
    assert text == (
        "rhapsode selfcheck 1 · E · m · now\n\n"
        "ok       machine     0.1 s  2 CPUs\n"
        "skipped  driver      0.0 s  no NVIDIA driver here\n"
        "failed   load        2.0 s  out of memory\n"
        "                            → Lower it.\n"
        "                            | last line\n"
        "\n1 ok, 1 failed, 1 skipped\n"
    )


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("token hf_abcdefghijklmnop ends", "token (hidden) ends"),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer (hidden)"),
        ("https://me:pass@hub.example/x", "https://(hidden)@hub.example/x"),
        ("node-7:123:456 NCCL INFO", "(host):123:456 NCCL INFO"),
        ("node-70 is another, so is gnode-7", "node-70 is another, so is gnode-7"),
        ("value-of-a-secret!", "(hidden)!"),
        ("sk-learn 1.2 of 3", "sk-learn 1.2 of 3"),
    ],
)
def test_secrets_and_the_machines_name_are_hidden(text: str, left: str) -> None:
    secrets = secrets_of({"HUB_TOKEN": "value-of-a-secret", "API_KEY": "short", "PATH": "/usr/bin:/bin"})
    assert clean_text(text, secrets, "node-7") == left


def test_a_machine_that_is_called_like_an_outcome_gets_its_report() -> None:
    row = make_row("load", failure("ok said no", "Look."), 0.0)
    report = make_report([row], rhapsode="0", engine="Simulator", model="m", at="")
    cleaned = redacted(report, [], "failed")
    assert (cleaned.result, cleaned.checks[0].outcome) == ("failed", "failed")
    assert redacted(report, [], "ok").checks[0].measured == "(host) said no"


def test_the_dummys_tokenizer_has_every_byte_and_its_config_fits(tmp_path: Path) -> None:
    write_dummy_checkpoint(tmp_path)
    read = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    vocabulary = read["tokenizer.json"]["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(VOCABULARY)) == list(range(read["config.json"]["vocab_size"]))
    assert len({word for word in vocabulary if len(word) == 1}) == 256
    assert [one["id"] for one in read["tokenizer.json"]["added_tokens"]] == [0, 1, 2]


def test_the_dummys_chat_template_can_be_filled(tmp_path: Path) -> None:
    write_dummy_checkpoint(tmp_path)
    template = json.loads((tmp_path / "tokenizer_config.json").read_text())["chat_template"]
    messages = [{"role": "user", "content": "Hi"}]
    filled = jinja2.Template(template).render(messages=messages, add_generation_prompt=True)
    assert filled == "<s>user\nHi</s>\n<s>assistant\n"


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_every_engine_has_a_small_model_that_is_a_good_manifest(engine: str, tmp_path: Path) -> None:
    subject = small_subject(engine).with_model(tmp_path)
    assert (subject.engine, subject.resource.spec.engine.name) == (engine, engine)


def test_without_a_place_for_files_it_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    assert selfchecking.main(["--engine", "Simulator"]) == 1
    assert "it needs a folder for temporary files: mount a volume at /tmp" in capsys.readouterr().err
