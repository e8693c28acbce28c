"""Listen to the relay of every pod, and speak to it. Called by `reconciling`; runs only where we lead.

One SSE connection a pod, to `/v1/worker/stream` of the admin port. Each is a task that ends with its pod; whatever
goes wrong with a connection ends in a new one, with growing pauses. What was told goes into the pod's `Tale`.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import aiohttp
import msgspec

from rhapsode_contract import events
from rhapsode_contract.frames import Narration, Note
from rhapsode_operator.observing import Pod
from rhapsode_operator.planning import DrainSeen
from rhapsode_operator.queueing import Key
from rhapsode_operator.tales import Tale

FIRST_PAUSE_S, LAST_PAUSE_S = 0.2, 15.0
SPARE_S = 5.0
"""How much longer than two heartbeats a relay may be silent before its connection is given up."""
CONNECT_S, ANSWER_S = 5.0, 5.0
CONNECTING = 64
"""Connections that are opened at once: an operator that starts anew opens one for each pod."""
_MAX_BUFFER = 1024 * 1024
_NETWORK = (aiohttp.ClientError, TimeoutError, OSError)
_log = logging.getLogger("rhapsode.operator.telemetry")
_events = msgspec.json.Decoder(events.StreamEvent)


class Listener(Protocol):
    """Who is told that a pod's tale went on. `at_once`: it matters, and not only how far or how much."""

    def moved(self, key: Key, *, at_once: bool) -> None: ...


class _Answer(msgspec.Struct):
    running: int = 0
    queued: int = 0
    for_s: float = 0.0


class _Head(msgspec.Struct):
    seq: int = 0


class Telemetry:
    """All relays of one operator."""

    def __init__(self, listener: Listener, admin_port: int, clock: Callable[[], float]) -> None:
        self._listener = listener
        self._port = admin_port
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._connecting = asyncio.Semaphore(CONNECTING)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ips: dict[str, str] = {}
        """Where each task listens: a pod whose sandbox is made anew has another address."""
        self._of_key: dict[Key, set[str]] = {}
        self.tales: dict[str, Tale] = {}
        """By the uid of the pod."""

    @property
    def connected(self) -> int:
        return sum(tale.connected for tale in self.tales.values())

    async def start(self) -> None:
        """Make the connections possible."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=False),
            trust_env=False,
        )

    async def stop(self) -> None:
        """End every connection."""
        for key in list(self._of_key):
            self.follow(key, ())
        if self._session is not None:
            await self._session.close()

    def follow(self, key: Key, pods: Sequence[Pod], heartbeat_s: float = 60.0) -> None:
        """Listen to exactly these pods of a resource, as far as their relays are up."""
        wanted = {pod.uid: pod for pod in pods if pod.ip and pod.relay.started and not pod.over}
        known = self._of_key.get(key, set())
        for uid in known - {pod.uid for pod in pods}:
            self._forget(uid)
        for uid in known & {pod.uid for pod in pods} - set(wanted):
            self._end(uid)
        for uid, pod in wanted.items():
            if uid in self._tasks and (self._ips[uid] != pod.ip or self._tasks[uid].done()):
                self._end(uid)
            if uid not in self._tasks:
                self._begin(key, pod, 2 * heartbeat_s + SPARE_S)
        present = {pod.uid for pod in pods if pod.uid in self.tales}
        if present:
            self._of_key[key] = present
        else:
            self._of_key.pop(key, None)

    def _begin(self, key: Key, pod: Pod, silent_s: float) -> None:
        now = self._clock()
        self.tales.setdefault(pod.uid, Tale(since=now, lost_at=now))
        self._ips[pod.uid] = pod.ip
        self._tasks[pod.uid] = asyncio.create_task(self._listen(key, pod, silent_s), name=f"listen to {pod.name}")

    # Speaking

    async def narrate(self, pod: Pod, said: Narration) -> bool:
        """Tell the pod's relay, and so everyone who waits there; return whether it heard. It may have refused."""
        note = Note(
            human=said.human, action=said.action, actor=said.actor, target=said.target, level=said.level,
            cute=said.cute, story=said.story, progress=said.progress, fields=said.fields,
        )  # fmt: skip
        answer = await self._post(pod, "/v1/narration", msgspec.json.encode(note))
        return answer is not None and answer[0] != 429 and answer[0] < 500

    async def drain(self, pod: Pod) -> DrainSeen | None:
        """Have the pod's relay take nothing new; return how much it has in hand, None if it cannot be reached."""
        answer = await self._post(pod, "/v1/drain", b"")
        if answer is None or answer[0] >= 300:
            return None
        try:
            seen = msgspec.json.decode(answer[1], type=_Answer)
        except msgspec.DecodeError:
            return None
        return DrainSeen(seen.running + seen.queued, seen.for_s)

    async def _post(self, pod: Pod, path: str, body: bytes) -> tuple[int, bytes] | None:
        """Return status and body of the answer, None if there is none."""
        assert self._session is not None
        timeout = aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S)
        try:
            async with self._session.post(self._url(pod, path), data=body, timeout=timeout) as response:
                return response.status, await response.read()
        except _NETWORK:
            return None

    # Listening

    async def _listen(self, key: Key, pod: Pod, silent_s: float) -> None:
        tale, pause_s = self.tales[pod.uid], FIRST_PAUSE_S
        while True:
            began = self._clock()
            broken = await self._broke(key, pod, tale, silent_s)
            was_connected = tale.connected
            tale.lose(self._clock())
            if was_connected or broken:
                self._listener.moved(key, at_once=True)
            steady = self._clock() - began > LAST_PAUSE_S
            fresh = steady or (was_connected and not broken)
            pause_s = FIRST_PAUSE_S if fresh else min(LAST_PAUSE_S, pause_s * 2)
            await asyncio.sleep(pause_s * random.uniform(0.7, 1.3))  # noqa: S311 (spreads a thousand of us)

    async def _broke(self, key: Key, pod: Pod, tale: Tale, silent_s: float) -> bool:
        """Read one connection to its end; return whether a fault ended it, and not the network."""
        try:
            with contextlib.suppress(*_NETWORK):
                await self._read_once(key, pod, tale, silent_s)
        except Exception:  # else nobody would listen to this pod any more
            _log.exception("Listening to %s/%s broke off", pod.namespace, pod.name)
            return True
        return False

    async def _read_once(self, key: Key, pod: Pod, tale: Tale, silent_s: float) -> None:
        """Read one connection to its end."""
        assert self._session is not None
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silent_s)
        async with self._connecting:
            path = f"/v1/worker/stream?channels=narration&after={await self._head(pod)}"
            response = await self._session.get(self._url(pod, path), timeout=timeout)
        async with response:
            if response.status != 200:
                return
            rest = b""
            async for data in response.content.iter_any():
                *blocks, rest = (rest + data).split(b"\n\n")
                if len(rest) > _MAX_BUFFER:
                    return
                for event in _decoded(blocks):
                    self._listener.moved(key, at_once=tale.hear(event, self._clock()))

    async def _head(self, pod: Pod) -> int:
        """Return how far the stream is. Its first event sums up what was before: all that again would be news."""
        assert self._session is not None
        timeout = aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S)
        async with self._session.get(self._url(pod, "/v1/worker"), timeout=timeout) as response:
            data = await response.read()
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(data, type=_Head).seq
        return 0

    def _url(self, pod: Pod, path: str) -> str:
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        return f"http://{host}:{self._port}{path}"

    def _end(self, uid: str) -> None:
        self._ips.pop(uid, None)
        if task := self._tasks.pop(uid, None):
            task.cancel()
        if tale := self.tales.get(uid):
            tale.lose(self._clock())

    def _forget(self, uid: str) -> None:
        self._end(uid)
        self.tales.pop(uid, None)


def _decoded(blocks: list[bytes]) -> Iterator[events.StreamEvent]:
    """Yield the events of SSE blocks; what this version does not know is passed over."""
    for block in blocks:
        for line in block.split(b"\n"):
            if line.startswith(b"data: "):
                with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                    yield _events.decode(line[6:])
