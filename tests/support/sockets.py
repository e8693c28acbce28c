"""A client of the relay's WebSockets, with the same questions as the one of event streams. Blocking, on a raw socket."""

import base64
import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

from wsproto import ConnectionType
from wsproto.connection import Connection, ConnectionState
from wsproto.events import CloseConnection, Ping, Pong, TextMessage
from wsproto.events import Event as WireEvent

from support.streams import Event, Stream


class WebSocket(Stream):
    """One WebSocket, read as it comes. `code` and `reason` say how the relay closed it; `ended`, that it did."""

    def __init__(self, port: int, path: str, *, say: str | None = None, **options: Any) -> None:
        self.code = 0
        self.reason = ""
        self.pings = 0
        self.pongs = 0
        self.messages: list[bytes] = []
        self._parts: list[str] = []
        self._waiting: list[Event] = []
        self._peer = Connection(ConnectionType.CLIENT)
        key = base64.b64encode(os.urandom(16)).decode()
        asked = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key,
        }
        self._first = say
        super().__init__(port, path, headers=asked | (options.pop("headers", None) or {}), **options)

    def say(self, text: str) -> None:
        """Send one message."""
        self.send(TextMessage(data=text))

    def send(self, event: WireEvent) -> None:
        self.sock.sendall(self._peer.send(event))

    def events(self) -> Iterator[Event]:
        """Yield events until the relay closes, or the connection breaks."""
        while True:
            while self._waiting:
                yield self._waiting.pop(0)
            if self.ended or not self._receive():
                return

    def rest(self) -> list[Event]:
        """Return all events to the end, and wait until the connection is closed."""
        events = super().rest()
        while self._receive():
            continue
        return events

    def _read_head(self) -> None:
        super()._read_head()
        if self.status == 101 and self._first is not None:
            self.say(self._first)  # before a goodbye is read that came with the head: it would forbid that

    def _unframe(self) -> None:
        if self.status != 101:
            super()._unframe()
            return
        data, self._wire = self._wire, b""
        self.raw += data
        if data and self._peer.state is not ConnectionState.CLOSED:
            self._peer.receive_data(data)
            for event in self._peer.events():
                self._take_event(event)

    def _take_event(self, event: WireEvent) -> None:
        if isinstance(event, TextMessage):
            self._parts.append(event.data)
            if event.message_finished:
                self._waiting.append(self._parse("".join(self._parts).encode()))
                self._parts.clear()
        elif isinstance(event, Ping):
            self.pings += 1
            self._agree(event)
        elif isinstance(event, Pong):
            self.pongs += 1
        elif isinstance(event, CloseConnection):
            self.code, self.reason, self.ended = int(event.code), event.reason or "", True
            if self._peer.state is ConnectionState.REMOTE_CLOSING:
                self._agree(event)

    def _agree(self, event: CloseConnection | Ping) -> None:
        try:
            self.send(event.response())
        except OSError:
            return

    def _parse(self, message: bytes) -> Event:
        self.messages.append(message)
        fields = json.loads(message)
        assert list(fields) == ["event", "id", "data"]
        return Event(fields["id"], fields["event"], fields["data"], time.monotonic(), message)


def follow(port: int, job_id: str, last_event_id: str = "", query: str = "", **options: Any) -> WebSocket:
    """Follow a job, or come back to it."""
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    return WebSocket(port, f"/v1/inference/{job_id}/ws{query}", headers=headers, **options)


def reads(sock: socket.socket) -> bytes:
    """Return what a closed or closing connection still gives."""
    try:
        return sock.recv(65536)
    except OSError:
        return b""
