"""What a pod's relay tells: how its worker is, kept up to date from its stream. Pure but for the clock it is given.

Written by `telemetry`, read by `judging`, `projecting` and `budgeting`.
"""

from dataclasses import dataclass, field

from rhapsode_contract import events, frames

QUIET = frozenset({"still", "load_stalled"})
"""Narrations that say only that nothing has happened: they are no progress. The second is our own: it comes back."""
MAX_STAGES = 50
"""Stages of a load that are kept."""
SERVING = frozenset({"ready", "draining"})
FAREWELLS = frozenset({"stopped", "worker_lost"})
"""What is said when a worker is gone: no news after the reason why it gave up."""
RELIEF = frozenset({"image_pull"})
"""What is said when something is tried anew that no load tells of."""


@dataclass(kw_only=True)
class Tale:
    """One pod's worker. Moments are seconds of the monotonic clock."""

    since: float
    """When we first wanted to listen."""
    connected: bool = False
    met: bool = False
    """Whether the relay has ever told how its worker is."""
    lost_at: float | None = None
    """When the connection was lost, or could not be had; None while it is there."""
    phase: frames.Phase = "starting"
    reason: str = ""
    message: str = ""
    load: events.LoadState | None = None
    load_began: float | None = None
    stages: list[str] = field(default_factory=list)
    """What the latest load did, in order: a short stage is over before anybody looks."""
    vram: events.VramState | None = None
    narration: events.Narrated | None = None
    complains: bool = False
    """Whether the narration is an error, which stands until a load gets on: restarts only repeat what led to it."""
    alarm: int = 0
    """Counts warnings and errors: each is worth a word in the status soon."""
    progress_at: float = 0.0
    """When something last moved: a new sentence, a percent, a phase."""

    def hear(self, event: events.StreamEvent, now: float) -> bool:
        """Take one event; return whether it changes how the worker is, and not only how far or how much."""
        match event:
            case events.Worker():
                return self._meet(event, now)
            case events.State():
                return self._enter(event.phase, event.reason, event.message, now)
            case events.Load():
                return self._load(event, now)
            case events.Vram():
                self.vram = events.VramState(source=event.source, gpus=event.gpus, observed_at=event.ts)
            case events.Narration():
                return self._say(event, now)
        return False

    def lose(self, now: float) -> None:
        """The connection is gone; what was told still holds until somebody tells otherwise."""
        self.connected = False
        if self.lost_at is None:
            self.lost_at = now

    def _meet(self, worker: events.Worker, now: float) -> bool:
        changed = not self.connected
        self.connected, self.met, self.lost_at = True, True, None
        self.vram = worker.vram or self.vram
        if not self.complains or worker.phase in SERVING:
            self.narration = worker.narration or self.narration
        if worker.load is not None:
            self._load(
                events.Load(seq=0, stage=worker.load.stage, percent=worker.load.percent, eta_s=worker.load.eta_s), now
            )
            self.load = worker.load
        return self._enter(worker.phase, worker.reason, worker.message, now) or changed

    def _enter(self, phase: frames.Phase, reason: str, message: str, now: float) -> bool:
        if (phase, reason, message) == (self.phase, self.reason, self.message):
            return False
        self.phase, self.reason, self.message = phase, reason, message
        self.progress_at = now
        self.complains = self.complains and phase not in SERVING
        if phase != "loading":
            self.load, self.load_began = None, None
        elif self.load_began is None:
            self.load_began = now
            self.stages.clear()
        return True

    def _load(self, load: events.Load, now: float) -> bool:
        before = self.load
        new_stage = before is None or before.stage != load.stage
        since = load.ts if new_stage or before is None else before.since
        self.load = events.LoadState(stage=load.stage, since=since, percent=load.percent, eta_s=load.eta_s)
        self.load_began = self.load_began or now
        if new_stage:
            self.stages.append(load.stage)
            del self.stages[:-MAX_STAGES]
        if new_stage or before is None or before.percent != load.percent:
            self.progress_at = now
            self.complains = False
        return new_stage

    def _say(self, said: events.Narration, now: float) -> bool:
        if self.phase == "failed" and said.action in FAREWELLS:
            return False
        stands = self.complains and self.phase not in SERVING and said.action not in RELIEF
        if not stands or said.level == "error":
            self.narration = events.Narrated(human=said.human, action=said.action, ts=said.ts)
            self.complains = said.level == "error"
        if said.action not in QUIET:
            self.progress_at = now
        if said.level in ("warn", "error"):
            self.alarm += 1
            return True
        return False
