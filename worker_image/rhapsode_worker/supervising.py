"""The supervisor: one voice for one worker, whatever its engine does. Called by `__main__`.

It is up within a second, prepares the model, starts the engine, passes frames both ways, and turns whatever ends
the engine into narration, an error for every request that ran, and a new start.
"""

import asyncio
import logging
import time
import uuid

from rhapsode_contract import frames, names
from rhapsode_contract.catalogue import narrate
from rhapsode_worker.copying import open_to_engine
from rhapsode_worker.engine_process import Ending, EngineProcess
from rhapsode_worker.engines import LoadPlan, find_engine, is_installed
from rhapsode_worker.errors import LoadError
from rhapsode_worker.giving_up import explain_endings, names_its_cause, write_termination
from rhapsode_worker.history import load_key, remember_times, usual_times
from rhapsode_worker.ledger import Ledger
from rhapsode_worker.linking import RelayLink
from rhapsode_worker.preparing import prepare_model
from rhapsode_worker.settings import WorkerSettings
from rhapsode_worker.voice import Voice
from rhapsode_worker.watching_devices import DeviceWatch
from rhapsode_worker.watching_loads import LoadWatch

TICK_S = 0.5
FLUSH_S = 1.0
"""How long the last words may take to reach the relay."""
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses before the engine starts again, by how often it ended in a row."""


class Supervisor:
    """One worker."""

    def __init__(self, settings: WorkerSettings, logger: logging.Logger) -> None:
        self.settings = settings
        self._logger = logger
        self._boot_id = uuid.uuid4().hex[:12]
        self._began = time.monotonic()
        self._ledger = Ledger()
        self._link = RelayLink(settings.socket, self._introduce, self._obey)
        self._voice = Voice(logger, self._link.send)
        self._engine: EngineProcess | None = None
        self._engine_name: str = settings.engine.name or ""
        self._caps = frames.Caps(
            slots=settings.engine.max_sequences, context_tokens=settings.engine.max_context_tokens
        )
        self._blocks = frames.Stats()
        self._ready_at: float | None = None
        self._devices = DeviceWatch(self._voice)
        self._becoming: asyncio.Task[None] | None = None
        self._failed = ""
        self._draining = False
        self._gap_told = False

    async def run(self, stopping: asyncio.Event, hurry: asyncio.Event) -> int:
        """Work until told to stop, or until it is clear that this cannot work; return the exit status."""
        link = asyncio.create_task(self._link.keep())
        chores = asyncio.create_task(self._do_chores())
        life = asyncio.create_task(self._live())
        stop = asyncio.create_task(stopping.wait())
        await asyncio.wait({life, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not life.done():
            await self._drain(hurry)
        self._voice.say("stopped", served=self._ledger.served, tokens=self._ledger.tokens)
        await self._link.leave(FLUSH_S)
        await self._devices.end()
        for task in (life, stop, chores, link):
            task.cancel()
        results = await asyncio.gather(life, return_exceptions=True)
        await asyncio.gather(stop, chores, link, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]
        return names.EXIT_CANNOT_WORK if self._failed else 0

    # Its life

    async def _live(self) -> None:
        """Prepare, then run one engine after another. Returns when no other could help."""
        self._voice.say("start", worker=self.settings.worker_id, engine=self._engine_name or "its engine")
        await self._look_around()
        try:
            path = await self._prepare()
        except LoadError as exc:
            self._give_up(exc.reason, exc.why, exc.remedy)
            return
        ended_in_a_row = attempt = 0
        while True:
            attempt += 1
            ending = await self._run_engine(path, attempt)
            if self._failed or self._draining:
                self._end_requests(ending)
                return
            stable = self._ready_at is not None and time.monotonic() - self._ready_at > self.settings.stable_s
            ended_in_a_row = 1 if stable else ended_in_a_row + 1
            hopeless = self._ready_at is None and names_its_cause(ending)
            if hopeless or ended_in_a_row > self.settings.max_restarts:
                self._give_up(*explain_endings(ending, ended_in_a_row))
                self._end_requests(ending)
                return
            await self._pause(ending, ended_in_a_row)

    async def _look_around(self) -> None:
        await self._devices.begin()
        if not self._engine_name:
            found = self._devices.vram.gpus and is_installed("TensorRTLLM")
            self._engine_name = "TensorRTLLM" if found else "OpenVINO"

    async def _prepare(self) -> str:
        self._voice.begin_load(usual_times(self.settings.cache, self._load_key()))
        find_engine(self._engine_name)  # nothing is fetched for an engine that is not here
        if self._engine_name == "Simulator":
            return ""
        found = await prepare_model(self.settings, self._engine_name, self._voice)
        return str(await open_to_engine(found, self._engine_name, self.settings.cache, self._voice))

    async def _run_engine(self, path: str, attempt: int) -> Ending:
        engine_spec = self.settings.engine
        plan = LoadPlan(
            engine=self._engine_name,
            model=self.settings.model,
            path=path,
            max_sequences=engine_spec.max_sequences,
            max_context_tokens=engine_spec.max_context_tokens,
            options=engine_spec.options,
            attempt=attempt,
            gpus=self.settings.gpus,
        )
        self._ready_at = None
        self._devices.begin_load()
        seen = LoadWatch(plan, self._voice, self._devices)
        await seen.begin()
        self._engine = EngineProcess(plan, self._hear, seen.hear, self.settings.memory_events)
        watch = asyncio.create_task(seen.follow(self._engine))
        try:
            return await self._engine.run()
        finally:
            self._engine, self._blocks = None, frames.Stats()
            watch.cancel()
            if self._becoming is not None:
                self._becoming.cancel()

    async def _pause(self, ending: Ending, ended_in_a_row: int) -> None:
        backoff_s = BACKOFF_S[min(ended_in_a_row, len(BACKOFF_S)) - 1]
        self._voice.say(
            "engine_exit",
            how=ending.how,
            last_line=ending.last_line,
            backoff_s=backoff_s,
            attempt=ended_in_a_row,
            attempts=self.settings.max_restarts,
        )
        self._voice.begin_load(usual_times(self.settings.cache, self._load_key()))
        self._end_requests(ending)  # not before: for a slot that gets free the relay sends the next request
        await asyncio.sleep(backoff_s)

    def _give_up(self, reason: str, why: str, remedy: str) -> None:
        said = narrate("load_failed", {"model": self.settings.model, "why": why, "remedy": remedy, "reason": reason})
        self._voice.tell(said)
        self._end_failed(reason, said.human)

    def _end_failed(self, reason: str, message: str) -> None:
        self._failed = reason
        self._voice.enter("failed", reason, message)
        write_termination(self.settings.termination_log, reason, message)

    def _end_requests(self, ending: Ending) -> None:
        """Every request that ran on an engine that is gone ends with an error."""
        last = f": {ending.last_line}" if ending.last_line else ""
        for job_id in self._ledger.running():
            self._fail(job_id, "engine_crashed", f"the engine ended by {ending.how}{last}")

    def _fail(self, job_id: str, code: str, why: str) -> None:
        remedy = "Send the request again."
        self._hear(narrate("failed", {"why": why, "remedy": remedy}, job_id=job_id))
        self._hear(frames.Error(job_id=job_id, code=code, message=f"{why}. {remedy}", retryable=True))

    async def _drain(self, hurry: asyncio.Event) -> None:
        """Let running requests finish until the deadline, then end them, then the engine."""
        self._begin_drain(self.settings.drain_s)
        deadline = time.monotonic() + self.settings.drain_s
        while self._ledger.running() and time.monotonic() < deadline and not hurry.is_set():
            await asyncio.sleep(0.02)
        for job_id in self._ledger.running():
            self._fail(job_id, "server_shutdown", "the worker is shutting down")
        if self._engine is not None:
            await self._engine.stop(hurry)

    def _begin_drain(self, limit_s: float | None = None) -> None:
        """Take nothing new. One that failed tells no more than that: it is why nobody should ask again."""
        if not self._draining and not self._failed:
            self._draining = True
            running = len(self._ledger.running())
            self._voice.say("drain", running=running, limit_s=limit_s)
            self._voice.enter("draining")

    # Frames of the engine

    def _hear(self, frame: frames.WorkerFrame) -> None:
        if isinstance(frame, frames.Narration):
            self._voice.tell(frame, self._ledger.correlation_of(frame.job_id))
        elif isinstance(frame, frames.State):
            self._hear_state(frame)
        elif isinstance(frame, frames.Stats):
            self._blocks = frame
            self._link.send(self._ledger.stats(frame))
        elif self._ledger.note(frame, time.monotonic()):
            self._link.send(frame)

    def _hear_state(self, frame: frames.State) -> None:
        if frame.phase == "failed":
            self._end_failed(frame.reason, frame.message)
        elif frame.phase == "ready":
            self._becoming = asyncio.create_task(self._become_ready(frame.caps or self._caps))

    async def _become_ready(self, caps: frames.Caps) -> None:
        await self._devices.refresh()
        self._caps, self._ready_at = caps, time.monotonic()
        remember_times(self.settings.cache, self._load_key(), self._voice.end_load())
        self._voice.say(
            "ready",
            seconds=round(time.monotonic() - self._began, 2),
            slots=caps.slots,
            context_tokens=caps.context_tokens,
            vram=self._devices.words(),
        )
        if not self._draining:
            self._voice.enter("ready", caps=caps)

    # Frames of the relay

    def _introduce(self) -> list[frames.WorkerFrame]:
        """Return what a relay is told first."""
        self._tell_reunion()
        hello = frames.Hello(
            proto=frames.PROTO,
            boot_id=self._boot_id,
            engine=self._engine_name,
            model=self.settings.model,
            worker=self.settings.worker_id,
            caps=self._caps,
        )
        first, *rest = self._ledger.introduction(hello)
        return [first, *self._voice.recap(), *rest]

    def _obey(self, command: frames.RelayFrame) -> None:
        match command:
            case frames.Generate():
                self._generate(command)
            case frames.Cancel():
                self._ledger.drop(command.job_id)
                if self._engine is not None:
                    self._engine.send(command)
            case frames.Drain():
                self._begin_drain()
            case frames.Ping():
                self._link.send(self._ledger.stats(self._blocks))

    def _generate(self, command: frames.Generate) -> None:
        if self._engine is not None and self._voice.phase == "ready":
            self._ledger.open(command)
            self._engine.send(command)
            return
        code = "draining" if self._draining else "worker_loading"
        message = f"the worker is {self._voice.phase}; send the request again"
        self._link.send(frames.Error(job_id=command.job_id, code=code, message=message, retryable=True))

    def _tell_reunion(self) -> None:
        if self._gap_told and self._link.lost_at is not None:
            seconds = round(time.monotonic() - self._link.lost_at, 2)
            self._voice.say("relay_back", seconds=seconds, jobs=len(self._ledger.running()))
        self._gap_told = False

    # Time

    async def _do_chores(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._voice.break_silence()
            self._devices.mind()
            self._ledger.forget_old(time.monotonic())
            self._mind_the_gap()

    def _mind_the_gap(self) -> None:
        """Stop requests that no relay has asked about for too long."""
        running = self._ledger.running()
        if self._link.lost_at is None or not running:
            return
        if not self._gap_told:
            self._gap_told = True
            self._voice.say("relay_lost", grace_s=self.settings.relay_grace_s)
        if time.monotonic() - self._link.lost_at > self.settings.relay_grace_s and self._engine is not None:
            for job_id in running:
                self._engine.send(frames.Cancel(job_id=job_id, reason="no relay"))

    def _load_key(self) -> str:
        return load_key(self._engine_name, self.settings.source, self.settings.engine)
