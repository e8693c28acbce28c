"""Runs inside the cluster: asks a worker through its Service, and follows the answers across cuts.

Standard library only, since it is sent into a pod by `kubectl exec`; an implementation of the wire rules beside the
relay's own. Prints one JSON line for each narration, cut, end and error; tokens are counted and checked.
"""

import argparse
import hashlib
import http.client
import io
import json
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

PATIENCE_S = 60.0
_lock = threading.Lock()


def tell(number: int, what: str, **facts: Any) -> None:
    """Print one line; threads take turns."""
    with _lock:
        sys.stdout.write(json.dumps({"n": number, "what": what, **facts}) + "\n")
        sys.stdout.flush()


class Stream(threading.Thread):
    """One question and its answer."""

    def __init__(self, args: argparse.Namespace, number: int) -> None:
        super().__init__(daemon=True)
        self.args = args
        self.number = number
        self.text = ""
        self.next = 0
        self.last_id = ""
        self.job_id = ""
        self.cuts = self.refusals = 0
        self.key = uuid.uuid4().hex
        self.over = False

    def run(self) -> None:
        deadline = time.monotonic() + self.args.timeout
        pause = 0.2
        while not self.over:
            try:
                self._follow()
            except (OSError, http.client.HTTPException) as exc:
                self._cut(f"{type(exc).__name__}: {exc}")
            if time.monotonic() > deadline:
                self._end("gave_up", tokens=self.next)
            elif not self.over:
                time.sleep(pause)

    def _follow(self) -> None:
        connection = http.client.HTTPConnection(self.args.host, self.args.port, timeout=self.args.silence)
        try:
            response = self._open(connection)
            if response.status == 204:
                self._end("complete")
            elif response.status != 200:
                self._refused(response)
            else:
                self._read(response)
        finally:
            connection.close()

    def _open(self, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        headers = {"Accept": "text/event-stream", "X-Correlation-Id": f"{self.args.correlation}-{self.number}"}
        if self.args.key:
            headers["Authorization"] = f"Bearer {self.args.key}"
        if self.last_id:
            path = f"/v1/inference/{self.job_id}/stream"
            connection.request("GET", path, headers=headers | {"Last-Event-ID": self.last_id})
        else:
            body = {"prompt": f"{self.args.prompt} {self.number}", "max_tokens": self.args.tokens}
            headers |= {"Idempotency-Key": self.key, "Content-Type": "application/json"}
            connection.request("POST", "/v1/inference", json.dumps(body), headers)
        return connection.getresponse()

    def _refused(self, response: http.client.HTTPResponse) -> None:
        body = response.read().decode(errors="replace")
        if not body.startswith("{"):  # no relay says that: a Service whose rules are not written yet leads anywhere
            self._cut(f"HTTP {response.status} of somebody else")
            return
        self.refusals += 1
        tell(self.number, "refused", status=response.status, body=body, after=response.headers.get("Retry-After"))
        if response.status not in (502, 503, 504) or self.args.no_retry:
            self._end("refused", status=response.status)

    def _read(self, response: http.client.HTTPResponse) -> None:
        for name, event_id, data in events(response):
            self.last_id = event_id or self.last_id
            event = json.loads(data)
            self.job_id = event.get("job_id") or self.job_id
            self._take(name, event)
            if name == "done":
                return
        self._cut("the stream ended early")

    def _take(self, name: str, event: dict[str, Any]) -> None:
        if name == "token":
            self._hear(event)
        elif name == "snapshot":
            if not event["text"].startswith(self.text):
                tell(self.number, "torn", have=self.text[-80:], got=event["text"][-80:])
            self.text, self.next = event["text"], event["tokens"]
            tell(self.number, "snapshot", reason=event["reason"])
        elif name == "end":
            whole = hashlib.sha256(self.text.encode()).hexdigest() == event["text_sha256"]
            self._end("end", whole=whole, tokens=self.next, text=self.text[:2000])
        elif name == "error":
            self._end("error", error=event["error"], retryable=event["retryable"], tokens=self.next)
        elif name in ("narration", "started", "replay"):
            tell(self.number, name, event=event)

    def _hear(self, event: dict[str, Any]) -> None:
        if event["i"] > self.next:
            tell(self.number, "gap", wanted=self.next, got=event["i"])
        if event["i"] >= self.next:
            self.text += event["t"]
            self.next = event["i"] + event.get("count", 1)
            if event["i"] == 0:
                tell(self.number, "first_token", job=self.job_id)

    def _cut(self, why: str) -> None:
        if not self.over:
            self.cuts += bool(self.last_id)  # what never began is not cut
            tell(self.number, "cut", why=why, at=self.next)

    def _end(self, how: str, **facts: Any) -> None:
        if not self.over:
            self.over = True
            tell(self.number, "over", how=how, cuts=self.cuts, refusals=self.refusals, job=self.job_id, **facts)


def events(response: io.BufferedIOBase) -> Iterator[tuple[str, str, str]]:
    """Yield name, id and data of each event."""
    name = event_id = data = ""
    while line := response.readline():
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "id":
            event_id = value
        elif field == "data":
            data = value
        elif not field and data:
            yield name, event_id, data
            name = event_id = data = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--prompt", default="Sing of")
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--timeout", type=float, default=120)
    parser.add_argument("--silence", type=float, default=45)
    parser.add_argument("--correlation", default="e2e")
    parser.add_argument("--key", default="")
    parser.add_argument("--no-retry", action="store_true")
    args = parser.parse_args()
    streams = [Stream(args, number) for number in range(args.streams)]
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.join(args.timeout + 10)


if __name__ == "__main__":
    main()
