"""Pass an answer of another replica on to our client, byte for byte. Called by `forwarding` and `handing_over`.

What comes is written as it comes, and nothing is read while our client takes nothing, so the owner sees a slow
reader where there is one. A client that leaves closes the connection to the owner at once: whether its job is
cancelled is decided there. An answer that breaks off ends our client's connection without its proper end, so the
client knows that it has to resume.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

from quart import Response, request

from rhapsode_relay.answering import entrust
from rhapsode_relay.calling import Answer, Broken
from rhapsode_relay.counting import Counts
from rhapsode_relay.serving import client_of


class Receiver(Protocol):
    """Whoever asked: a connection of HTTP's, or a WebSocket."""

    def close(self) -> None: ...

    def stall(self) -> None: ...


class Passages:
    """All answers that are being passed on."""

    def __init__(self, counts: Counts, stall_s: float) -> None:
        self.counts = counts
        self.stall_s = stall_s
        self._open: set[Passage] = set()
        self._offered = 0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def handed_over(self) -> int:
        """How many requests another replica takes or took, whose answers go through us: a whole one begins late."""
        return self._offered + sum(passage.kind == "handover" for passage in self._open)

    @contextlib.contextmanager
    def offering(self) -> Iterator[None]:
        """A request is looking for another replica, or waits there for its answer to begin."""
        self._offered += 1
        try:
            yield
        finally:
            self._offered -= 1

    def begin(self, answer: Answer, kind: str) -> Response:
        """Return a stand-in for the answer, which is the connection's from now on."""
        return self.hold(Passage(self, client_of(request.scope), answer, kind))

    def hold(self, passage: "Passage") -> Response:
        """Return a stand-in for an answer that is the connection's from now on."""
        self._open.add(passage)
        return entrust(passage)

    def forget(self, passage: "Passage", result: str) -> None:
        if passage in self._open:
            self._open.remove(passage)
            self.counts.forward(passage.kind, result)

    def dismiss(self) -> None:
        """This relay ends: every client comes back through another one."""
        for passage in list(self._open):
            passage.client.close()


class Passage:
    """One answer on its way."""

    def __init__(self, passages: Passages, client: Receiver, answer: Answer, kind: str) -> None:
        self.kind = kind
        self.client = client
        self._passages = passages
        self._answer = answer

    async def serve(self, send: Any) -> None:
        """Write the answer to its end. If there is none, wait until the connection is closed, which cancels this."""
        try:
            await self._copy(send)
        except Broken:
            self._passages.forget(self, "broken")
            self.client.close()
            await asyncio.sleep(self._passages.stall_s)
        except TimeoutError:
            self._passages.forget(self, "stalled")
        else:
            self._passages.forget(self, "passed" if self._answer.status < 400 else "refused")
            return
        self.client.stall()
        await asyncio.Event().wait()

    async def _copy(self, send: Any) -> None:
        answer = self._answer
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        async for chunk in answer.chunks():
            async with asyncio.timeout(self._passages.stall_s):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def leave(self) -> None:
        """Let go of the owner, whatever became of our client."""
        self._answer.close()
        self._passages.forget(self, "left")
