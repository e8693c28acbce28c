"""Sinks and context sources that speak no HTTP, or more of it than anybody wants: one failed write, and no more."""

import contextlib
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support.processes import DEADLINE_S, wait_until
from support.turns import PATIENCE_S, Table, sitting

WORD = b"Sesame"
WILD = b"\x1b[31m\x00\r\n" + WORD


class Strange(socketserver.ThreadingTCPServer):
    """Answers every connection with the same bytes, then goes on with `more` until the other side leaves."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.answer = b""
        self.more = b""
        self.calls: list[bytes] = []
        """What each connection asked."""
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(socketserver.BaseRequestHandler):
    server: Strange

    def handle(self) -> None:
        self.request.settimeout(DEADLINE_S)
        with contextlib.suppress(OSError):
            self.server.calls.append(self.request.recv(65536))
            self.request.sendall(self.server.answer)
            while self.server.more:
                self.request.sendall(self.server.more)


@pytest.fixture(scope="module")
def strange() -> Iterator[Strange]:
    with Strange() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(10)


@pytest.fixture(scope="module")
def table(strange: Strange) -> Iterator[Table]:
    def sinks(url: str) -> list[dict[str, Any]]:
        odd = {"name": "odd", "url": f"{strange.url}/x", "timeoutSeconds": PATIENCE_S}
        return [odd, {"name": "last", "url": f"{url}/last", "timeoutSeconds": PATIENCE_S}]

    sources = [{"name": "sparks", "url": f"{strange.url}/x", "timeoutSeconds": PATIENCE_S}]
    with sitting(sinks=sinks, context=sources) as running, running.worker.breathing():
        yield running


@pytest.fixture(autouse=True)
def forget(table: Table, strange: Strange) -> None:
    strange.more = b""
    strange.calls.clear()
    table.outside.calls.clear()


HEAD = b"HTTP/1.1 200 OK\r\n"
NO_ANSWERS = [
    (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", b""),
    (WILD, b""),
    (b"HTTP/1.1 200 " + WILD + b"\r\n\r\n", b""),
    (b"HTTP/1.1 999999 no\r\n\r\n", b""),
    (HEAD + b"X: " + b"x" * 40_000 + b"\r\n\r\n", b""),
    (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", b""),
    (HEAD, b""),
    (b"", b""),
    (HEAD, b"X-More: " + WORD + b"\r\n"),
]
"""What comes first, and what goes on after it."""


@pytest.mark.parametrize(("answer", "more"), NO_ANSWERS, ids=range(len(NO_ANSWERS)))
def test_what_is_no_answer_is_one_failed_write(table: Table, strange: Strange, answer: bytes, more: bytes) -> None:
    strange.answer, strange.more = answer, more
    with table.ask() as stream:
        table.play()
        odd, last = stream.rest()[-2].data["writes"]
    assert (odd["status"], odd.get("http_status"), last["status"]) == ("failed", None, "written")
    assert odd["reason"].startswith("cannot be reached: ")
    assert len(strange.calls) == 1, "nothing is called twice"
    assert WORD not in stream.raw
    assert not [line for line in table.relay.lines if WORD.decode() in line or "\\u001b" in line]


@pytest.mark.parametrize(
    ("answer", "more"),
    [
        (HEAD + b"Content-Length: 1000\r\n\r\nhalf", b""),
        (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 6\r\n\r\n" + WORD, b""),
        (HEAD + b"\r\n", b"x" * 1000),
    ],
    ids=["half", "gzip", "endless"],
)
def test_a_status_counts_whatever_the_body_is(table: Table, strange: Strange, answer: bytes, more: bytes) -> None:
    strange.answer, strange.more = answer, more
    with table.ask() as stream:
        table.play()
        odd = stream.rest()[-2].data["writes"][0]
    assert (odd["status"], odd["http_status"], len(strange.calls)) == ("written", 200, 1)


@pytest.mark.parametrize(("answer", "more"), NO_ANSWERS, ids=range(len(NO_ANSWERS)))
def test_context_that_is_no_answer_is_none(table: Table, strange: Strange, answer: bytes, more: bytes) -> None:
    strange.answer, strange.more = answer, more
    with table.ask(context={"sparks": True}, policy={}) as stream:
        asked = table.narrate()
        table.intend()
        told = stream.rest()
    assert (asked.messages or [])[-1].content == "open the door"
    assert [one.data["fields"]["source"] for one in told if one.data.get("action") == "context_missing"] == ["sparks"]
    assert told[-2].name == "end"
    assert WORD not in stream.raw
    wait_until(lambda: table.relay.metric("rhapsode_jobs_running") == 0, "no slot is held")
