"""One HTTP call from the client's pod to a Service, with its whole answer: for what is looked at rather than followed."""

import contextlib
import io
import json
import subprocess
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from e2e.clients import NAMESPACE
from e2e.clusters import until as wait
from e2e.following import events

_SCRIPT = """
import http.client, json, sys, time
asked = json.load(sys.stdin)
while asked["once_away"]:
    look = http.client.HTTPConnection(asked["host"], asked["port"], timeout=asked["seconds"])
    look.request("GET", "/v1/worker")
    if json.load(look.getresponse())["phase"] != "ready":
        break
    look.close()
    time.sleep(0.02)
connection = http.client.HTTPConnection(asked["host"], asked["port"], timeout=asked["seconds"])
connection.request(asked["method"], asked["path"], asked["body"].encode(), asked["headers"])
answer = connection.getresponse()
head = [answer.status, {name.lower(): value for name, value in answer.getheaders()}]
sys.stdout.buffer.write(json.dumps(head).encode() + b"\\n")
sys.stdout.buffer.flush()
while line := answer.readline():
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
    if asked["until"] and asked["until"].encode() in line:
        break
"""


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: str
    headers: dict[str, str]
    """By their names in lower case."""

    def json(self) -> Any:
        return json.loads(self.body)

    def whole(self) -> Any:
        """Return what a request that succeeded is answered."""
        assert self.status == 200, f"{self.status}: {self.body}"
        return self.json()

    def code(self) -> tuple[int, str]:
        """Return the status and the code of what was refused."""
        assert self.status >= 400, f"{self.status}: {self.body}"
        return self.status, self.json()["error"]["code"]

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Return name and data of each event of a stream."""
        assert self.status == 200, f"{self.status}: {self.body}"
        return [(name, json.loads(data)) for name, _, data in events(io.BytesIO(self.body.encode()))]


class Call:
    """A call that is on its way."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self._what = f"{asked['method']} {asked['host']}{asked['path']}"
        self._seconds = asked["seconds"] + 30
        self._lines: list[str] = []
        command = ["kubectl", "exec", "-i", "-n", NAMESPACE, "client", "--", "python", "-c", _SCRIPT]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, args=[json.dumps(asked)], daemon=True)
        self._reader.start()

    def begun(self) -> None:
        """Wait until its answer has begun: a stream is open then."""
        wait(lambda: len(self._lines) > 1, f"{self._what} begins", self._seconds)

    def answer(self) -> Answer:
        """Wait for the whole answer."""
        self._reader.join(self._seconds)
        assert not self._reader.is_alive(), f"{self._what}: no answer; so far: {self._lines[-5:]}"
        assert self._process.wait(60) == 0, f"{self._what}: {self._errors}"
        status, headers = json.loads(self._lines[0])
        return Answer(status, "".join(self._lines[1:]), headers)

    def close(self) -> None:
        """Leave, whatever has come."""
        self._process.kill()
        self._process.wait(60)
        self._reader.join(60)

    def _read(self, asked: str) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with process.stdin, process.stdout, process.stderr, contextlib.suppress(BrokenPipeError):
            process.stdin.write(asked)
            process.stdin.close()
            self._lines.extend(iter(process.stdout.readline, ""))
            self._errors = process.stderr.read()


@contextlib.contextmanager
def calling(
    url: str,
    method: str = "GET",
    body: Any = None,
    headers: dict[str, str] | None = None,
    *,
    until: str = "",
    once_away: bool = False,
    seconds: float = 120,
) -> Iterator[Call]:
    """Call, while something else is done; only up to the line that has the words `until`, where the client leaves.

    With `once_away` it calls at the moment that the worker there is not ready any more: a load may be short.
    """
    parts = urlsplit(url)
    asked = {
        "host": parts.hostname, "port": parts.port or 80, "method": method, "headers": headers or {},
        "path": f"{parts.path}?{parts.query}", "body": "" if body is None else json.dumps(body),
        "until": until, "once_away": once_away, "seconds": seconds,
    }  # fmt: skip
    call = Call(asked)
    try:
        yield call
    finally:
        call.close()


def call(url: str, method: str = "GET", *about: Any, until: str = "", seconds: float = 120) -> Answer:
    """Call and return the answer; `about` is what is sent, and with which headers."""
    with calling(url, method, *about, until=until, seconds=seconds) as one:
        return one.answer()
