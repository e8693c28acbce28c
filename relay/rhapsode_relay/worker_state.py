"""How the worker is, and the stream that tells it. Called by `conducting`. Pure but for the clock."""

from typing import Any

from rhapsode_contract import events, frames
from rhapsode_contract.catalogue import narrate
from rhapsode_contract.names import OUTGOING
from rhapsode_contract.records import timestamp
from rhapsode_relay.encoding import StreamEncoder
from rhapsode_relay.journal import DATA, NARRATION, Journal

GONE_GRACE_S = 30.0
"""How long a worker may be without a connection before it counts as dead."""


class WorkerState:
    """The worker as far as its frames tell. Its journal is `GET /v1/worker/stream`."""

    def __init__(self, worker_id: str, epoch: str, model: str, style: str) -> None:
        self.worker_id = worker_id
        self.epoch = epoch
        self.model = model
        self.style = style
        self.journal = Journal(StreamEncoder(worker_id, epoch))
        self.phase: frames.Phase = "starting"
        self.reason = ""
        self.message = ""
        self.engine = ""
        self.boot_id = ""
        self.caps = frames.Caps()
        self.load: events.LoadState | None = None
        self.vram: events.VramState | None = None
        self.stats = frames.Stats()
        self.last_said: frames.Narration | None = None
        self._last_said_at = ""
        self._was_ready = False
        self._gone_at: float | None = None
        self._outgoing = False

    @property
    def ready(self) -> bool:
        return self.phase == "ready"

    def greet(self, hello: frames.Hello) -> None:
        """A worker connected; it tells its phase next."""
        self.engine, self.boot_id, self.caps = hello.engine, hello.boot_id, hello.caps
        self.model = hello.model or self.model
        self.stats = frames.Stats()
        self._gone_at = None

    def part(self, now: float) -> None:
        """The connection closed."""
        self._gone_at = now

    def is_alive(self, now: float) -> bool:
        """Return what a startup probe and a liveness probe ask: whether the worker came up, and is still there.

        A worker that loads again is alive: its supervisor restarts an engine that died. One without a connection
        may be about to come back. A relay that has just started cannot know that its worker was ready before: it
        says no until the worker has come back and told, a second or two, less than a liveness probe forgives.
        """
        return self._was_ready and (self._gone_at is None or now - self._gone_at <= GONE_GRACE_S)

    def enter(
        self, phase: frames.Phase, reason: str = "", message: str = "", caps: frames.Caps | None = None
    ) -> None:
        if phase == "draining" and self._outgoing:  # what it says of its drain comes later, and does not say why
            reason = OUTGOING
        self.phase, self.reason, self.message = phase, reason, message
        self.caps = caps or self.caps
        if phase in ("loading", "failed"):  # its KV cache is gone
            self.stats = frames.Stats()
        if phase == "ready":
            self.load, self._was_ready = None, True
        self.journal.add(events.State(**self._ids(), phase=phase, reason=reason, message=message))
        self.journal.ring()

    def send_off(self) -> None:
        """Its pod is to go: whoever drains here from now on, and for what other reason before, tells that."""
        self._outgoing = True
        if self.phase == "draining" and self.reason != OUTGOING:
            self.enter("draining", message=self.message)

    def loading(self, frame: frames.Load) -> None:
        now = timestamp()
        since = self.load.since if self.load and self.load.stage == frame.stage else now
        self.load = events.LoadState(
            stage=frame.stage, since=since, percent=frame.percent, eta_s=frame.eta_s, ready_in_s=frame.ready_in_s
        )
        event = events.Load(
            **self._ids(),
            stage=frame.stage,
            percent=frame.percent,
            eta_s=frame.eta_s,
            ready_in_s=frame.ready_in_s,
        )
        self.journal.add(event, supersede="load")
        self.journal.ring()

    def holds(self, frame: frames.Vram) -> None:
        self.vram = events.VramState(source=frame.source, gpus=frame.gpus, observed_at=timestamp())
        event = events.Vram(**self._ids(), source=frame.source, gpus=frame.gpus)
        self.journal.add(event, supersede="vram")
        self.journal.ring()

    def tell(self, narration: frames.Narration) -> None:
        at = narration.ts or timestamp()
        self.last_said, self._last_said_at = narration, at
        event = events.Narration(
            **self._ids() | {"ts": at},
            actor=narration.actor,
            action=narration.action,
            human=narration.human,
            level=narration.level,
            target=narration.target,
            cute=narration.cute,
            story=narration.story,
            progress=narration.progress,
            fields=narration.fields,
            dropped=narration.dropped,
        )
        self.journal.add(event, NARRATION)
        self.journal.ring()

    def say(self, action: str, **fields: Any) -> frames.Narration:
        """Tell something of the relay's own, and return it for the log."""
        narration = narrate(action, fields)
        self.tell(narration)
        return narration

    def give(self, frame: frames.Data) -> None:
        self.journal.add(events.Data(**self._ids(), action=frame.action, payload=frame.payload), DATA)
        self.journal.ring()

    def snapshot(self, running: int, queued: int) -> events.Worker:
        """Return how the worker is now; uses up no seq."""
        said = None
        if told := self.last_said:
            said = events.Narrated(human=told.human, action=told.action, ts=self._last_said_at)
        return events.Worker(
            **self._ids() | {"seq": self.journal.head},
            phase=self.phase,
            engine=self.engine,
            model=self.model,
            boot_id=self.boot_id,
            epoch=self.epoch,
            style=self.style,
            reason=self.reason,
            message=self.message,
            caps=self.caps if self.engine else None,
            load=self.load,
            vram=self.vram,
            narration=said,
            running=running,
            queued=queued,
            kv_used=self.stats.kv_used,
            kv_total=self.stats.kv_total,
        )

    def _ids(self) -> dict[str, Any]:
        return {"seq": 0, "worker_id": self.worker_id, "ts": timestamp()}
