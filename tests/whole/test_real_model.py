"""A real model through the worker, the relay and `ask`: told first, then said token by token, and whole."""

import hashlib
import json
import re
import subprocess
import sys
import time
from itertools import takewhile

import httpx
import pytest

from support.plays import speechless
from support.processes import Play, wait_until
from support.streams import actions_of, ask, names_of, text_of

pytestmark = pytest.mark.model

STORY = "Tell me a story about a singer who crossed the sea."
LONG = 1900
"""Tokens of a story that is not over when a test that stood still looks at it: nearly all that the context has room for."""


def test_narration_comes_before_the_first_token_and_the_text_is_proven(smollm_play: Play) -> None:
    with ask(smollm_play.port, chat(STORY), max_tokens=60, temperature=0) as stream:
        events = stream.rest()
    names = names_of(events)
    first = names.index("token")
    before_tokens = list(takewhile(lambda event: event.name != "token", events))
    assert names[0] == "queued"
    assert "narration" in names[:first]
    assert "started" in names[:first]
    assert names[-2:] == ["end", "done"]
    assert {"accepted", "tokenized", "inference_start"} <= set(actions_of(before_tokens))
    end = events[-2].data
    text = text_of(events)
    assert len(text) > 100
    assert (end["text_len"], end["text_sha256"]) == (len(text), hashlib.sha256(text.encode()).hexdigest())
    assert end["usage"]["completion_tokens"] == end["tokens_out"]


def test_tokens_arrive_one_by_one_while_they_are_made(smollm_play: Play) -> None:
    """ "Streaming" that computes everything first would have it all when the engine is stopped at its first tokens."""
    arrived, heard = [0], ""
    with ask(smollm_play.port, chat(STORY), max_tokens=LONG, temperature=0) as stream:
        url = f"{smollm_play.url}/v1/inference/{stream.headers['x-job-id']}"
        for _ in range(3):
            while len(heard) <= arrived[-1]:
                heard += stream.next("token").data["t"]
            with speechless(smollm_play):
                arrived.append(all_that_is_on_its_way(url))
        assert httpx.delete(url).status_code == 200
        assert stream.rest()[-2].data["error"]["code"] == "cancelled"
    assert arrived == sorted(set(arrived)), "a few more each time, and never all of them"


def all_that_is_on_its_way(url: str) -> int:
    """Return how much text of a job has come when no more does, as its engine is stopped."""
    before, now = -1, 0
    while now != before:
        time.sleep(0.3)
        view = httpx.get(url).json()
        assert view["status"] == "running"
        before, now = now, len(view["text"])
    return now


def test_ask_gives_tokens_to_the_pipe_and_narration_to_the_person(smollm_play: Play) -> None:
    command = [sys.executable, "-m", "rhapsode", "ask", "--url", smollm_play.url, "--temperature", "0"]
    done = subprocess.run([*command, "--max-tokens", "40", STORY], capture_output=True, timeout=120, check=False)
    text, told = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, told
    assert told.index("Accepted") < told.index("First token after")
    with ask(smollm_play.port, chat(STORY), max_tokens=40, temperature=0) as stream:
        assert text == text_of(stream.rest())


def chat(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_schema_is_kept(smollm_play: Play) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "big": {"type": "boolean"}},
        "required": ["city", "big"],
        "additionalProperties": False,
    }
    with ask(smollm_play.port, chat("Name a city."), json_schema=schema, max_tokens=60, temperature=0) as stream:
        answer = json.loads(text_of(stream.rest()))
    assert set(answer) == {"city", "big"}
    assert isinstance(answer["big"], bool)


@pytest.mark.parametrize(
    ("guide", "pattern"),
    [
        ({"regex": "[A-Z][a-z]{2,8}, [0-9]{4}"}, "[A-Z][a-z]{2,8}, [0-9]{4}"),
        ({"grammar": 'root ::= "yes" | "no"'}, "yes|no"),
    ],
    ids=["regex", "grammar"],
)
def test_a_regular_expression_and_a_grammar_are_kept_to(
    smollm_play: Play, guide: dict[str, str], pattern: str
) -> None:
    with ask(smollm_play.port, chat("Name a city and a year."), max_tokens=30, temperature=0, **guide) as stream:
        assert re.fullmatch(pattern, text_of(stream.rest()))


def test_a_hostile_regular_expression_is_refused_and_disturbs_nobody(smollm_play: Play) -> None:
    with ask(smollm_play.port, chat(STORY), max_tokens=60, temperature=0) as other:
        other.next("token")
        with ask(smollm_play.port, chat("Hi"), regex="(.|..|...){50,500}x") as stream:
            error = stream.until("error")[-1].data["error"]
        assert (error["code"], error["param"]) == ("invalid_regex", "regex")
        assert "Correct or simplify it" in error["message"]
        assert other.rest()[-1].name == "done"
    assert len(smollm_play.pids("rhapsode_worker.child")) == 1


def test_many_at_once_get_their_own_answers(smollm_play: Play) -> None:
    """Twelve requests on eight slots: the answers are those of each alone."""
    prompts = [f"The number after {n} is" for n in range(12)]
    streams = [ask(smollm_play.port, prompt, max_tokens=8, temperature=0) for prompt in prompts]
    together = [stream.rest() for stream in streams]
    for stream in streams:
        stream.close()
    assert all(names_of(events)[-2:] == ["end", "done"] for events in together)
    assert [event.data["job_id"] for events in together for event in events[:1]] == [
        stream.headers["x-job-id"] for stream in streams
    ]
    for events in together:
        assert {event.data["job_id"] for event in events} == {events[0].data["job_id"]}
        assert hashlib.sha256(text_of(events).encode()).hexdigest() == events[-2].data["text_sha256"]


def test_the_log_tells_every_narration_and_no_text(smollm_play: Play) -> None:
    with ask(smollm_play.port, "Xylophone quokka", max_tokens=12, temperature=0) as stream:
        events = stream.rest()
    job_id = events[0].data["job_id"]
    told = set(actions_of(events))
    assert "inference_complete" in told

    def all_logged() -> bool:
        return told <= {record["event"] for record in smollm_play.records if record.get("job_id") == job_id}

    wait_until(all_logged, "each narration has its record")
    assert all(
        {"timestamp", "level", "component", "event", "worker_id"} <= set(record) for record in smollm_play.records
    )
    assert "quokka" not in "".join(smollm_play.lines)
