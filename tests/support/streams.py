"""A client of event streams that can be cut, frozen and looked at byte by byte. Blocking, on a raw socket."""

import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

Body = dict[str, Any]


class Event(NamedTuple):
    """One event as it came: its id, its name, its data, and when."""

    id: str
    name: str
    data: dict[str, Any]
    at: float
    raw: bytes


class Stream:
    """One HTTP request whose answer is read as it comes."""

    def __init__(
        self,
        port: int,
        path: str,
        *,
        method: str = "GET",
        body: Any = None,
        headers: dict[str, str] | None = None,
        receive_buffer: int | None = None,
        chunk: int = 65536,
        timeout: float = 60.0,
        host: str = "127.0.0.1",
        later: bool = False,
    ) -> None:
        """Ask, and read the head of the answer; or do so `later`, with what is read first."""
        self._chunk = chunk
        self.sock = socket.socket()
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        self._wire = b""
        self._text = b""
        self.raw = b""
        """The body so far, without HTTP's framing."""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ended = False
        """Whether the body came to its proper end."""
        try:
            self.sock.connect((host, port))
            self.sock.sendall(_request(method, path, body, headers or {}))
            if not later:
                self._begin()
        except BaseException:
            self.sock.close()
            raise

    def events(self) -> Iterator[Event]:
        """Yield events until the body ends or the connection breaks."""
        while True:
            while (cut := self._text.find(b"\n\n")) >= 0:
                block, self._text = self._text[: cut + 2], self._text[cut + 2 :]
                yield _parse(block)
            if self.ended or not self._receive():
                return

    def next(self, name: str | None = None) -> Event:
        """Return the next event, or the next of a name."""
        for event in self.events():
            if name in (None, event.name):
                return event
        raise AssertionError(f"the stream ended before {name or 'an event'}: {self.raw[-300:]!r}")

    def until(self, name: str) -> list[Event]:
        """Return all events up to one of a name."""
        seen = []
        for event in self.events():
            seen.append(event)
            if event.name == name:
                return seen
        raise AssertionError(f"the stream ended before {name}: {self.raw[-300:]!r}")

    def rest(self) -> list[Event]:
        """Return all events to the end of the body."""
        return list(self.events())

    def json(self) -> Any:
        """Return a JSON body."""
        while not self.ended and self._receive():
            pass
        return json.loads(self.raw)

    def read_some(self) -> bool:
        """Read what comes next; return False at the end."""
        return self._receive()

    def close(self, *, hard: bool = False) -> None:
        """Leave; `hard` as a machine does that crashes."""
        if hard:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_head(self) -> None:
        while b"\r\n\r\n" not in self._wire:
            data = self.sock.recv(self._chunk)
            if not data:
                raise ConnectionResetError("the connection closed before an answer")
            self._wire += data
        head, _, self._wire = self._wire.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(status.split(" ")[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self._length = int(self.headers.get("content-length", "-1"))
        if self.status == 204:
            self.ended = True

    def _begin(self) -> None:
        self._read_head()
        self._unframe()

    def _receive(self) -> bool:
        if not self.status:
            self._begin()
            return True
        try:
            data = self.sock.recv(self._chunk)
        except ConnectionResetError:
            return False
        if not data:
            return False
        self._wire += data
        self._unframe()
        return True

    def _unframe(self) -> None:
        if self._length >= 0:
            self._take(self._wire)
            self._wire = b""
            self.ended = len(self.raw) >= self._length
            return
        while (cut := self._wire.find(b"\r\n")) >= 0:
            size = int(self._wire[:cut], 16)
            if len(self._wire) < cut + 4 + size:
                return
            self._take(self._wire[cut + 2 : cut + 2 + size])
            self._wire = self._wire[cut + 4 + size :]
            if size == 0:
                self.ended = True
                return

    def _take(self, data: bytes) -> None:
        self.raw += data
        self._text += data


def _request(method: str, path: str, body: Any, headers: dict[str, str]) -> bytes:
    payload = b"" if body is None else json.dumps(body).encode()
    head = {"Host": "test", "Content-Length": str(len(payload))} | headers
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
    return "\r\n".join(lines).encode() + payload


def _parse(block: bytes) -> Event:
    fields: dict[str, str] = {}
    for line in block.decode().split("\n"):
        name, _, value = line.partition(":")
        if name:
            fields[name] = value.removeprefix(" ")
    data = json.loads(fields["data"]) if "data" in fields else {}
    return Event(fields.get("id", ""), fields.get("event", ""), data, time.monotonic(), block)


def ask(port: int, prompt: str | list[dict[str, str]] = "hello", **wishes: Any) -> Stream:
    """Ask a relay, with a prompt or with messages, and return the stream of the answer."""
    headers = {"Accept": "text/event-stream"} | wishes.pop("headers", {})
    question = {"prompt" if isinstance(prompt, str) else "messages": prompt}
    return Stream(port, "/v1/inference", method="POST", body=question | wishes, headers=headers)


def resume(port: int, job_id: str, last_event_id: str = "", query: str = "", chunk: int = 65536) -> Stream:
    """Come back to a job."""
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    return Stream(port, f"/v1/inference/{job_id}/stream{query}", headers=headers, chunk=chunk)


def text_of(events: list[Event]) -> str:
    """Return the text that events carry: a snapshot replaces what came before."""
    text = ""
    for event in events:
        if event.name == "snapshot":
            text = event.data["text"]
        elif event.name == "token":
            text += event.data["t"]
    return text


def names_of(events: list[Event]) -> list[str]:
    """Return the names of events, consecutive tokens as one."""
    names: list[str] = []
    for event in events:
        if event.name != "token" or names[-1:] != ["token"]:
            names.append(event.name)
    return names


def actions_of(events: list[Event]) -> list[str]:
    """Return the actions of the narrations among events."""
    return [event.data["action"] for event in events if event.name == "narration"]
