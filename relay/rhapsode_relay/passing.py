"""Pass an answer of another replica on to our client, byte for byte. Called by `forwarding` and `handing_over`.

What comes is written as it comes, and nothing is read while our client takes nothing, so the owner sees a slow
reader where there is one. A client that leaves closes the connection to the owner at once: whether its job is
cancelled is decided there. An answer that breaks off ends our client's connection without its proper end, so the
client knows that it has to resume.
"""

import asyncio
from typing import Any

from quart import Response, request

from rhapsode_relay.calling import Answer, Broken
from rhapsode_relay.counting import Counts
from rhapsode_relay.serving import Client, client_of


class Passages:
    """All answers that are being passed on."""

    def __init__(self, counts: Counts, stall_s: float) -> None:
        self.counts = counts
        self.stall_s = stall_s
        self._open: set[Passage] = set()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def handed_over(self) -> int:
        """How many requests that another replica took are still being answered through us."""
        return sum(passage.kind == "handover" for passage in self._open)

    def begin(self, answer: Answer, kind: str) -> Response:
        """Return a stand-in for the answer, which is the connection's from now on."""
        client = client_of(request.scope)
        client.passage = passage = Passage(self, client, answer, kind)
        self._open.add(passage)
        response = Response(b"")
        response.timeout = None
        return response

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

    def __init__(self, passages: Passages, client: Client, answer: Answer, kind: str) -> None:
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
        self.client.abort()
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
