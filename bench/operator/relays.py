"""A thousand relays in one process, each on an address of its own. Run by `nodes`.

They speak as a real relay does on its admin port: `/v1/worker/stream` as chunked SSE, narration and drain. A stream
gets a VRAM frame every few seconds, as of a worker with one GPU, and a heartbeat after 15 s of silence.
"""

import asyncio
import random
import time
from typing import cast

import msgspec

from bench.operator.resources import LOADING
from rhapsode_contract import events
from rhapsode_contract.frames import Gpu
from rhapsode_contract.names import DEFAULT_ADMIN_PORT
from rhapsode_contract.records import timestamp

HEARTBEAT = b": hb\n"
SILENCE_S = 15.0
TICK_S = 0.1
_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_POSTED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_DRAINED = b'{"running":0,"queued":0,"for_s":0.0}'


class Relays:
    """All streams that are open."""

    def __init__(self, vram_s: float) -> None:
        self.pods: dict[str, str] = {}
        """By address: the name of the pod."""
        self.open: dict[str, Connection] = {}
        """By pod: its stream."""
        self._vram_s = vram_s
        self._seq = 0

    async def open_for(self, pod: str, address: str) -> None:
        """Listen at the address of a pod."""
        self.pods[address] = pod
        loop = asyncio.get_running_loop()
        await loop.create_server(lambda: Connection(self), address, DEFAULT_ADMIN_PORT)

    async def run(self) -> None:
        """Tell VRAM and heartbeats until cancelled."""
        turn = 0
        while True:
            await asyncio.sleep(TICK_S)
            turn += 1
            self._tick(turn)

    def _tick(self, turn: int) -> None:
        """Tell a share of the streams, so that they are spread evenly over time."""
        every = max(1, round(self._vram_s / TICK_S)) if self._vram_s else 0
        now = time.monotonic()
        for number, connection in enumerate(self.open.values()):
            if every and (turn + number) % every == 0:
                connection.tell(self.encode(_vram()))
            elif now - connection.told_at > SILENCE_S:
                connection.tell(HEARTBEAT)

    def say(self, pod: str, told: list[events.StreamEvent]) -> None:
        """Tell events to who listens to a pod: in one write, as a relay does with what is ready."""
        if connection := self.open.get(pod):
            connection.tell(b"".join(map(self.encode, told)))

    def encode(self, event: events.StreamEvent) -> bytes:
        """Return an event as a relay would write it."""
        self._seq += 1
        event.seq, event.ts, event.worker_id = self._seq, timestamp(), "bench"
        name = str(event.__struct_config__.tag)
        return b"id: bench-e-%d\nevent: %b\ndata: %b\n\n" % (self._seq, name.encode(), msgspec.json.encode(event))


class Connection(asyncio.Protocol):
    """One connection of the operator's to a relay."""

    def __init__(self, relays: Relays) -> None:
        self._relays = relays
        self._rest = b""
        self._pod = ""
        self.told_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while (end := self._rest.find(b"\r\n\r\n")) >= 0:
            head = self._rest[:end]
            length = _length(head)
            if len(self._rest) < end + 4 + length:
                return
            self._rest = self._rest[end + 4 + length :]
            self._answer(head)

    def connection_lost(self, _: Exception | None) -> None:
        if self._relays.open.get(self._pod) is self:
            del self._relays.open[self._pod]

    def tell(self, data: bytes) -> None:
        """Write one chunk."""
        self.told_at = time.monotonic()
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _answer(self, head: bytes) -> None:
        if head.startswith(b"GET /v1/worker/stream"):
            self._pod = self._relays.pods.get(self._transport.get_extra_info("sockname")[0], "")
            self._transport.write(_STREAM)
            self.tell(self._relays.encode(_opening(self._pod)))
            self._relays.open[self._pod] = self
        else:
            body = _DRAINED if b"/v1/drain" in head[:40] else b"{}"
            self._transport.write(_POSTED % (len(body), body))


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


def _opening(pod: str) -> events.Worker:
    if pod.startswith(LOADING):
        load = events.LoadState(stage="begin", since=timestamp(), percent=0)
        return events.Worker(seq=0, phase="loading", load=load, running=0, queued=0)
    vram = events.VramState(source="nvml", observed_at=timestamp(), gpus=_vram().gpus)
    said = events.Narrated(human="Ready after 4.7 s: 8 requests at once", action="ready", ts=timestamp())
    return events.Worker(seq=0, phase="ready", engine="Bench", running=0, queued=0, vram=vram, narration=said)


def _vram() -> events.Vram:
    used = round(71.3 * 2**30) + random.randrange(2**28)
    gpu = Gpu(
        uuid="GPU-5f2c1d7e-0000-4a4b-8c8d-bench0000000", name="NVIDIA H100 80GB HBM3", total_bytes=80 * 2**30,
        used_bytes=used, reserved_bytes=2**29, utilization=0.63, temperature_c=61, power_w=412.5, power_limit_w=700.0,
    )  # fmt: skip
    return events.Vram(seq=0, source="nvml", gpus=[gpu])
