"""Ten thousand hostile HTTP requests: every one gets a real answer, none a 5xx, and the next client notices nothing."""

import json
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rhapsode_worker.engines.simulating import simulated_text
from support.processes import Play
from support.requests import exchange
from support.streams import ask, text_of

PER_EXAMPLE = 25
EXAMPLES = 200
"""Times `PER_EXAMPLE` times two tests: ten thousand."""

fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

words = st.text(st.characters(codec="utf-8"), max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3))
wishes = st.fixed_dictionaries(
    {},
    optional={
        name: values | st.integers(-3, 40)
        for name in (
            "model", "prompt", "messages", "max_tokens", "temperature", "top_p", "top_k", "seed", "stop",
            "json_schema", "regex", "grammar", "on_disconnect", "narration",
        )
    },
)  # fmt: skip
bodies = st.one_of(
    st.binary(max_size=60),
    values.map(lambda value: json.dumps(value).encode()),
    wishes.map(lambda value: json.dumps(value).encode()),
    st.tuples(wishes, words).map(lambda two: json.dumps(two[0] | {"prompt": two[1], "max_tokens": 3}).encode()),
)
segments = st.sampled_from(
    ["v1", "inference", "correlations", "worker", "models", "execute", "stream", "metrics", "..", "", "%00", "%2e%2e"]
) | words.map(lambda word: "".join(f"%{byte:02x}" for byte in word.encode()))
paths = st.lists(segments, max_size=5).map(lambda parts: "/" + "/".join(parts))
queries = st.sampled_from(["", "?after=", "?after=-1", "?channels=token,%ff", "?after=1&after=2", "?" + "a" * 3000])
header_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
headers = st.fixed_dictionaries(
    {},
    optional={
        "Accept": header_values | st.just("text/event-stream"),
        "Last-Event-ID": header_values,
        "Idempotency-Key": header_values,
        "X-Correlation-Id": header_values,
        "traceparent": header_values,
        "Content-Type": header_values,
        "Content-Encoding": header_values,
        "Expect": st.just("100-continue"),
    },
)
methods = st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW"])
targets = st.tuples(methods, paths, queries) | st.just(("POST", "/v1/inference", ""))
requests = st.tuples(targets, headers, bodies)


def written(request: tuple[tuple[str, str, str], dict[str, str], bytes]) -> bytes:
    (method, path, query), fields, body = request
    lines = [f"{method} {path}{query} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def check_answer(answer: bytes, request: object) -> None:
    """An answer has a status that is ours, and an error our shape."""
    head, _, body = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 "), (request, answer)
    status = int(head.split(b" ")[1])
    assert status < 500 or status == 503, (request, answer)
    if status >= 400 and body:
        error: dict[str, Any] = json.loads(body)
        assert set(error) == {"error", "correlation_id", "retryable"}, (request, error)
        assert {"message", "type", "code"} <= set(error["error"]), (request, error)


def check_health(play: Play) -> None:
    with ask(play.port, "still there?", seed=3, max_tokens=5) as stream:
        assert text_of(stream.rest()) == simulated_text(3, "still there?", 5)
    assert len(play.pids("rhapsode_relay")) == 1
    assert not [record for record in play.records if record["event"] in ("play_restart", "internal_error")]
    assert not [record for record in play.records if "traceback" in record]


def test_five_thousand_requests_that_mean_nothing_good(fast_play: Play) -> None:
    count = 0

    @fuzz
    @given(st.lists(requests, min_size=PER_EXAMPLE, max_size=PER_EXAMPLE))
    def attack(batch: list[tuple[tuple[str, str, str], dict[str, str], bytes]]) -> None:
        nonlocal count
        for request in batch:
            if request[0][1].endswith("/stream") and request[0][0] in ("GET", "HEAD"):
                continue  # a stream that is good lives on, and this client would wait for its end
            check_answer(exchange(fast_play.port, written(request)), request)
        count += len(batch)

    attack()
    assert count >= EXAMPLES * PER_EXAMPLE
    check_health(fast_play)


pieces = st.sampled_from(
    [
        b"GET ", b"POST ", b"/v1/inference", b"/v1/worker", b" HTTP/1.1\r\n", b"HTTP/1.0", b"\r\n", b"\n", b"\r",
        b"Host: x\r\n", b"Content-Length: 5\r\n", b"Content-Length: -5\r\n", b"Content-Length: 99999999999\r\n",
        b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"zz\r\n", b"\x00", b"\xff" * 50, b": ",
        b"Upgrade: websocket\r\nConnection: upgrade\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"x" * 70_000,
        b"Accept: text/event-stream\r\n", b'{"prompt":"x","max_tokens":2}', b"Expect: 100-continue\r\n",
    ]
)  # fmt: skip
blobs = st.lists(pieces | st.binary(max_size=30), max_size=12).map(b"".join)


def test_five_thousand_blobs_that_are_hardly_http(fast_play: Play) -> None:
    count = 0

    @fuzz
    @given(st.lists(blobs, min_size=PER_EXAMPLE, max_size=PER_EXAMPLE))
    def attack(batch: list[bytes]) -> None:
        nonlocal count
        for blob in batch:
            for answer in exchange(fast_play.port, blob, leave=True).split(b"HTTP/1.1 ")[1:]:
                assert answer[:1] in b"124" or answer.startswith(b"503"), (blob, answer)
        count += len(batch)

    attack()
    assert count >= EXAMPLES * PER_EXAMPLE
    check_health(fast_play)
