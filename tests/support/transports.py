"""The two ways to read a job, held to one contract: event streams and WebSockets."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from support.sockets import WebSocket
from support.streams import Event, Stream


@dataclass(frozen=True)
class Transport:
    """One of them, as a client sees it."""

    name: str
    kind: Callable[..., Stream]
    end: str
    """The last part of its path."""
    gone: int
    """How it says 404 before anything else."""
    lost: int
    """How it says 410."""
    wrong: int
    """How it says 400."""
    busy: int
    """How it says 503."""
    silence: bytes
    """What fills silence, on the wire."""

    def path(self, job_id: str, query: str = "") -> str:
        return f"/v1/inference/{job_id}/{self.end}{query}"

    def open(self, port: int, job_id: str, last_event_id: str = "", query: str = "", **options: Any) -> Stream:
        """Follow a job, or come back to it."""
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        return self.kind(port, self.path(job_id, query), headers=headers | options.pop("headers", {}), **options)


SSE = Transport("sse", Stream, "stream", gone=404, lost=410, wrong=400, busy=503, silence=b": hb\n")
SOCKET = Transport("socket", WebSocket, "ws", gone=4404, lost=4410, wrong=1008, busy=1013, silence=b"\x89\x00")
TRANSPORTS = (SSE, SOCKET)


def essence(event: Event) -> tuple[str, str, bytes]:
    """Return what an event is on any transport: its id, its name and its data as they came."""
    found = re.search(rb'\ndata: (.*)\n\n$|^\{"event":"[a-z]+","id":"[^"]*","data":(.*)\}$', event.raw, re.DOTALL)
    assert found is not None, event.raw
    return event.id, event.name, found[1] or found[2]


def is_over(stream: Stream) -> bool:
    """Return whether a stream that was read to its end says that no more will come: do not come back."""
    if isinstance(stream, WebSocket):
        return stream.ended and stream.code == 1000
    return stream.ended


def refusal(stream: Stream) -> tuple[int, str]:
    """Return with which status or close code a stream was refused, and the error's code."""
    if isinstance(stream, WebSocket) and stream.status == 101:
        assert stream.rest() == []
        return stream.code, stream.reason.partition(":")[0]
    return stream.status, stream.json()["error"]["code"]
