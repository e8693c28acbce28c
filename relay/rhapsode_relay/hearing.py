"""What follows from a frame of the worker. Called by `listening`.

Only the connection that said `hello` gets here with engine frames. Frames about jobs that are over are
harmless: a job ignores them, and a slot is released once.
"""

import time
from collections.abc import Callable
from typing import Any

import msgspec

from rhapsode_contract import frames, names
from rhapsode_contract.wording import clean
from rhapsode_relay.conducting import Conductor, WorkerPort
from rhapsode_relay.jobs import Job
from rhapsode_relay.terms import JobTerms

_RESTORED_SEQ = 1_000_000
"""Where a job's seqs go on after a restart of the relay: beyond any seq that a client may still hold."""


class Hearing:
    """Acts on the frames of one relay's worker."""

    def __init__(self, conductor: Conductor) -> None:
        self._house = conductor
        self._job_by_id = conductor.jobs.get
        self._to_come: int | None = None
        """`resume` frames that are yet to come; None before a worker ever connected."""
        self._acts: dict[type, Callable[[Any], None]] = {
            frames.Prefill: self._prefill,
            frames.Narration: self._narrate,
            frames.Finish: self._finish,
            frames.Error: self._error,
            frames.Data: self._give,
            frames.Load: conductor.worker.loading,
            frames.Vram: conductor.worker.holds,
            frames.State: self._state,
            frames.Stats: self._stats,
            frames.Hello: lambda _: self.report_bad_line("hello was said before"),
            frames.Resume: self._resume,
        }

    def take(self, frame: frames.WorkerFrame) -> None:
        """Act on one frame of the connected worker."""
        if type(frame) is frames.Token:
            job = self._job_by_id(frame.job_id)
            if job is not None and (wrong := job.hear(frame)) is not None:
                self._stop(job, wrong)
        else:
            self._acts[type(frame)](frame)

    # Coming and going

    @property
    def knows_all(self) -> bool:
        """Whether a worker has told of all that it holds: before that, an unknown job may yet be brought along."""
        return self._to_come == 0

    def refuse(self, hello: frames.Hello) -> str | None:
        """Return why this worker may not join, if so."""
        if hello.proto != frames.PROTO:
            return f"it speaks protocol {hello.proto}, this relay speaks {frames.PROTO}"
        if self._house.port is not None:
            return f"worker {self._house.worker.boot_id} is connected"
        return None

    def join(self, hello: frames.Hello, port: WorkerPort) -> None:
        """A worker connected. Jobs that it brought go on; those that are over here are stopped there."""
        house = self._house
        new = hello.boot_id != house.worker.boot_id
        house.port = port
        house.worker.greet(hello)
        joined = house.worker.say(
            "worker_joined", worker=house.settings.worker_id, engine=hello.engine, jobs=len(hello.jobs)
        )
        house.log(joined)
        for state in hello.jobs:
            self._restore(state)
        house.meet(new=new)
        self._to_come = hello.resumes

    def lose(self) -> None:
        """The worker's connection is gone: every running job ends at once, the line waits."""
        house = self._house
        house.port = None
        house.worker.part(time.monotonic())
        lost = [job for job in house.jobs if not job.over and house.line.holds(job.id)]
        house.line.close()
        house.line.release_all()
        if house.worker.phase != "failed":
            house.worker.enter("lost", "WorkerLost", "the worker's connection closed")
        if lost or not house.draining:
            waiting = house.line.waiting
            worker_id = house.settings.worker_id
            house.log_lifecycle(house.worker.say("worker_lost", worker=worker_id, jobs=len(lost), queued=waiting))
        for job in lost:
            house.fail_aloud(job, "worker_lost", "the worker is gone")

    def _resume(self, frame: frames.Resume) -> None:
        self._restore(frame.job)
        if self._to_come:
            self._to_come -= 1

    def _restore(self, state: frames.JobState) -> None:
        job = self._house.jobs.get(state.job_id) or self._revive(state)
        self._house.line.hold(state.job_id)
        if job is None or job.over:
            self._house.send(frames.Cancel(job_id=state.job_id, reason="it is over"))

    def _revive(self, state: frames.JobState) -> Job | None:
        """Rebuild a job that this relay never saw: it restarted while the worker went on."""
        try:
            terms = msgspec.convert(state.meta, JobTerms)
        except msgspec.ValidationError:
            return None
        if terms.part == "intents":
            return None
        house = self._house
        job = Job(state.job_id, house.epoch, terms, seq=_RESTORED_SEQ + state.tokens, text=state.text)
        job.tokens = state.tokens
        job.status = "running"
        job.on_phase = house.phases.tell
        house.jobs.add(job, late=True)
        house.log(job.say("restored", tokens=state.tokens), job)
        house.watch_abandoned(job, restored=True)
        house.on_job(job)
        if terms.part:
            house.fail_aloud(job, "job_lost", "the relay restarted during this turn; nothing was written")
        return job

    # Jobs

    def _stop(self, job: Job, wrong: str) -> None:
        code, message, retryable = job.blame(wrong)
        self._house.fail(job, code, message, retryable=retryable)
        self._house.send(frames.Cancel(job_id=job.id, reason=wrong))

    def _prefill(self, frame: frames.Prefill) -> None:
        if job := self._house.jobs.get(frame.job_id):
            job.start(frame, self._house.settings.model, self._house.settings.worker_id)
            self._house.watch_abandoned(job)

    def _finish(self, frame: frames.Finish) -> None:
        seconds = None
        if job := self._house.jobs.get(frame.job_id):
            if frame.stop_reason == "cancelled":
                self._house.fail(job, "cancelled", "the worker stopped this request", retryable=True)
            elif not job.over:
                seconds = time.monotonic() - (job.started_at or job.accepted_at)
                job.finish(frame)
                self._house.count_end(job)
        if job is None or not job.keeps_slot:
            self._release(frame.job_id, seconds)

    def _error(self, frame: frames.Error) -> None:
        if job := self._house.jobs.get(frame.job_id):
            self._house.fail(job, frame.code, frame.message, param=frame.param, retryable=frame.retryable)
        self._release(frame.job_id, None)

    def _release(self, job_id: str, seconds: float | None) -> None:
        self._house.line.release(job_id, seconds)
        self._house.pump()

    # The worker's life

    def _state(self, frame: frames.State) -> None:
        house = self._house
        if not frame.phase == house.worker.phase == "draining":  # we said so when we asked it to
            house.worker.enter(frame.phase, frame.reason, frame.message, frame.caps)
        if frame.phase == "ready":
            house.turn_away()
            house.line.open(house.worker.caps.slots)
            house.pump()
            return
        house.line.close()
        if frame.phase == "failed":
            house.empty_line("worker_failed", frame.message or "the worker cannot load its model")
        if frame.phase == "draining":
            house.empty_line("draining", "this worker is draining")

    def _stats(self, frame: frames.Stats) -> None:
        self._house.worker.stats = frame

    def _narrate(self, narration: frames.Narration) -> None:
        narration = _washed(narration)
        if narration.job_id is None:
            self._house.worker.tell(narration)
            if not narration.ts:
                self._house.tell_waiting(narration)
        elif (job := self._house.jobs.get(narration.job_id)) and job.wants(narration):
            self._house.counts.narration(told=job.tell(narration))

    def _give(self, frame: frames.Data) -> None:
        if frame.job_id is None:
            self._house.worker.give(frame)
        elif job := self._house.jobs.get(frame.job_id):
            job.give(frame)

    # Others in the pod

    def note(self, note: frames.Note) -> None:
        """Tell what someone else narrates. It is ours to log: they have no log of their own."""
        if note.payload is not None:
            self._house.worker.give(frames.Data(action=note.action, payload=note.payload))
        if note.human:
            narration = _washed(_narration_of(note))
            self._house.worker.tell(narration)
            self._house.log_lifecycle(narration)

    def prepare(self, load: frames.Load) -> bool:
        """Tell how far the model's fetching is, if no worker is here to tell; return whether it was."""
        if self._house.port is not None:
            return False
        load.stage = clean(load.stage)
        self._house.worker.loading(load)
        return True

    def report_bad_line(self, why: str) -> None:
        """Narrate that a line could not be read."""
        self._house.log_lifecycle(self._house.worker.say("bad_lines", why=why))

    def report_refusal(self, why: str) -> None:
        """Narrate that a second worker came."""
        self._house.log_lifecycle(self._house.worker.say("worker_refused", why=why))


def _narration_of(note: frames.Note) -> frames.Narration:
    return frames.Narration(
        human=note.human,
        action=note.action,
        actor=note.actor or "narrator",
        target=note.target,
        level=note.level,
        cute=note.cute,
        story=note.story,
        progress=note.progress,
        fields=note.fields,
        table=note.table,
    )


def _washed(said: frames.Narration) -> frames.Narration:
    """Take out of a narration what could harm a screen or a log."""
    limit = names.MAX_TABLE_CHARS if said.table else names.MAX_HUMAN_CHARS
    said.human = clean(said.human, table=said.table, limit=limit)
    said.cute, said.story = clean(said.cute), clean(said.story)
    said.actor, said.action, said.target = clean(said.actor), clean(said.action), clean(said.target)
    said.ts = clean(said.ts, limit=40)
    return said
