"""Bring jobs, line and worker together for the clients. The one owner of all three.

Called by `app` (requests), `hearing` (frames of the worker) and `ticking` (time). It reaches the worker through
the `WorkerPort` that `hearing` gives it while one is connected.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from rhapsode_contract import frames
from rhapsode_contract.records import log_narration
from rhapsode_contract.requests import InferenceRequest
from rhapsode_relay.admitting import build_command, check_capacity, check_request, check_wishes
from rhapsode_relay.counting import Counts
from rhapsode_relay.errors import ApiError, Unavailable
from rhapsode_relay.jobs import Job
from rhapsode_relay.queueing import Line
from rhapsode_relay.registry import Registry, new_job_id
from rhapsode_relay.settings import RelaySettings
from rhapsode_relay.telling_phases import PhaseLog
from rhapsode_relay.terms import JobTerms
from rhapsode_relay.worker_state import WorkerState

TICK_SHARE = 1 / 10
"""The part of all jobs that one tick looks at."""


class WorkerPort(Protocol):
    """The way to the connected worker."""

    def send(self, frame: frames.RelayFrame) -> None: ...


class Conductor:
    """Owns the jobs, the line and the worker's state of one relay process."""

    def __init__(self, settings: RelaySettings, epoch: str, logger: logging.Logger) -> None:
        self.settings = settings
        self.epoch = epoch
        self.jobs = Registry(keep_s=settings.keep_s, memory_bytes=settings.memory_bytes, max_jobs=settings.max_jobs)
        self.line = Line(settings.queue_limit)
        self.worker = WorkerState(settings.worker_id, epoch, settings.model, settings.style)
        self.counts = Counts()
        self.phases = PhaseLog(logger, self.counts)
        self.draining_since: float | None = None
        self._draining_for_good = self._worker_drains = False
        self.ending = False
        """Whether this relay was told to end."""
        self._places_told_at = 0.0
        self.port: WorkerPort | None = None
        self.on_job: Callable[[Job], None] = lambda _: None
        """Called with every new job: for those who wait for its correlation id."""
        self.on_look: Callable[[Job, float], None] = lambda *_: None
        """Called with each job that a tick looks at, and the time."""
        self.needs_worker: Callable[[], bool] = lambda: False
        """Whether a turn that goes on will have more for the worker to do."""
        self._drain_due = False
        self._logger = logger

    @property
    def draining(self) -> bool:
        """Whether nothing new is taken."""
        return self.draining_since is not None

    def trouble(self) -> str:
        """Return why a new request would be better off with another replica; empty if it would not."""
        if self.draining or self.worker.phase == "draining":
            return "draining"
        if not self.worker.ready:
            return "failed" if self.worker.phase == "failed" else "loading"
        return "" if self.line.has_room else "full"

    # Requests of clients

    def submit(
        self,
        request: InferenceRequest,
        correlation_id: str,
        key: str,
        body_hash: str,
        note: dict[str, Any] | None = None,
    ) -> tuple[Job, bool]:
        """Accept a request; return its job and whether it is a new one. Raises ApiError."""
        if known := self.find_known(key, body_hash):
            return known, False
        check_request(request, self.settings.model, self.worker)
        self.check_room()
        terms = JobTerms.of(request, correlation_id, self.settings.on_disconnect, key, body_hash, note)
        job = Job(new_job_id(self.settings.worker_id), self.epoch, terms)
        job.command = build_command(job, request)
        self.welcome(job, request.prompt_chars())
        self.enqueue(job)
        return job, True

    def find_known(self, key: str, body_hash: str) -> Job | None:
        """Return the job that came with this key before, if any. Raises ApiError if it was another one."""
        known = self.jobs.by_key(key) if key else None
        if known is not None and known.terms.body_hash != body_hash:
            message = "this Idempotency-Key came with another body before"
            raise ApiError(422, "idempotency_key_reused", message)
        return known

    def check_room(self) -> None:
        """Refuse a request for which there is no place now. Raises ApiError."""
        check_capacity(self.worker, self.line, draining=self.draining)
        if self.jobs.full:
            self.jobs.make_room()
        if self.jobs.full:
            message = "no memory is left to keep another stream"
            raise Unavailable(message, code="buffer_exhausted", retry_after_s=5)

    def welcome(self, job: Job, prompt_chars: int) -> None:
        """Keep a new job, and begin to tell of it."""
        job.on_phase = self.phases.tell
        self.jobs.add(job)
        self.counts.accepted += 1
        job.on_phase(job, "start")
        job.queue_at(self.line.waiting)
        self.log(job.say("accepted", prompt_chars=prompt_chars, max_tokens=job.terms.max_tokens), job)
        self.on_job(job)

    def enqueue(self, job: Job) -> None:
        """Let a job stand in line, behind everyone who does, until a slot is free."""
        self.line.join(job)
        job.queue_at(self.line.waiting - 1)
        self.pump()
        if self.line.stands(job):
            self._tell_place(job)
            if not self.worker.ready and self.worker.last_said:
                job.tell(self.worker.last_said)

    def welcome_from(self, job: Job, peer: str) -> None:
        """Tell that another replica sent this job here."""
        self.log(job.say("taken_over", peer=peer), job)

    def cancel(self, job: Job, who: str) -> None:
        """Stop a job, if it is not over: its readers learn it now, the worker as fast as the socket goes."""
        if job.over:
            return
        self.line.leave(job)
        self.log(job.say("cancelled", who=who, tokens=job.tokens), job)
        self.fail(job, "cancelled", f"cancelled by {who}")
        if self.line.holds(job.id):
            self.send(frames.Cancel(job_id=job.id, reason=who))

    def readers_left(self, job: Job) -> None:
        """The last reader of a job's tokens is gone: do what was agreed."""
        job.on_phase(job, "client_disconnect")
        if job.over or job.terms.on_disconnect == "continue":
            return
        if job.terms.on_disconnect == "cancel" or self.settings.grace_s == 0:
            self.cancel(job, "client")
        else:
            job.grace_until = time.monotonic() + self.settings.grace_s

    # Consequences

    def fail(self, job: Job, code: str, message: str, *, param: str | None = None, retryable: bool = False) -> None:
        """End a job with an error."""
        if not job.over:
            job.fail(code, message, param=param, retryable=retryable)
            self.count_end(job)

    def count_end(self, job: Job) -> None:
        """Count a job that is over, if it is, and if it was a client's."""
        if job.over and not job.hidden:
            self.counts.ended(job)

    def fail_aloud(self, job: Job, code: str, message: str) -> None:
        """End a job for a reason that lies with us; the same request may succeed later."""
        if not job.over:
            self.log(job.say("failed", why=message.removesuffix("."), remedy="Send the request again."), job)
            self.fail(job, code, message, retryable=True)

    def empty_line(self, code: str, message: str) -> None:
        """Send everyone away who waits."""
        for job in self.line.clear():
            self.fail_aloud(job, code, message)

    def turn_away(self) -> None:
        """The engine is ready: send away who waited for one that can more."""
        for job in list(self.line):
            try:
                if job.command is not None:
                    check_wishes(job.command, self.worker)
            except ApiError as exc:
                self.line.leave(job)
                self.fail(job, exc.code, exc.message, param=exc.param)

    def watch_abandoned(self, job: Job, *, restored: bool = False) -> None:
        """A running job that nobody ever read is given grace from now on, and so is any whose relay was killed."""
        ends = job.terms.on_disconnect == "grace" or (restored and job.terms.on_disconnect == "cancel")
        if ends and job.token_readers == 0 and job.grace_until is None:
            job.grace_until = time.monotonic() + self.settings.grace_s

    def pump(self) -> None:
        """Send the jobs whose turn it is to the worker."""
        for job in self.line.call():
            command, job.command = job.command, None
            if command is not None:
                self.send(command)

    def tick(self, now: float) -> None:
        """Do what is due, for a share of the jobs: abandoned ones, metrics, memory; and places in line."""
        for job in self.jobs.visit(now, TICK_SHARE):
            job.measure()
            self.on_look(job, now)
            if job.grace_until is not None and now >= job.grace_until:
                job.grace_until = None
                self.cancel(job, "disconnect")
        if self._drain_due:
            self._tell_worker_to_drain()
        if now - self._places_told_at >= 1:
            self._places_told_at = now
            for position, job in enumerate(self.line):
                if job.queue_at(position):
                    self._tell_place(job)

    # Draining

    def drain(self) -> None:
        """This relay is to end: take nothing new; who waits is sent away at once, who runs may finish in time."""
        self._draining_for_good = self.ending = True
        self._close_door(self.settings.drain_s)

    def drain_worker(self, *, for_good: bool) -> None:
        """The worker is to end: the same, with no limit of ours, and the worker is told. Often is as good as once.

        Unless it is `for_good`, the next worker that comes is not meant: see `meet`.
        """
        if for_good:
            self._draining_for_good = True
            self.worker.send_off()
        if self.draining:
            return
        self._worker_drains = True
        self._close_door()
        if self.worker.phase not in ("failed", "draining"):
            self.worker.enter("draining")
        self._tell_worker_to_drain()

    def meet(self, *, new: bool) -> None:
        """A worker connected while we drain: the same one is told again, a new one may end the drain.

        A container that is restarted is shut as one that is deleted is, hook and all. Only in the first case a
        new worker comes, and it would never get a request.
        """
        if new and not self._draining_for_good:
            self.draining_since, self._worker_drains, self._drain_due = None, False, False
        elif self._worker_drains:
            self._tell_worker_to_drain()

    def unfinished(self) -> int:
        """Return how many jobs are not over."""
        return sum(not job.over and not job.hidden for job in self.jobs)

    def _close_door(self, limit_s: float | None = None) -> None:
        if self.draining_since is None:
            self.draining_since = time.monotonic()
        self.log_lifecycle(
            self.worker.say("relay_drain", running=self.unfinished() - self.line.waiting, limit_s=limit_s)
        )
        self.empty_line("draining", "this worker is draining")

    def _tell_worker_to_drain(self) -> None:
        """A worker that drains takes nothing more, so turns come to the end of their intents first."""
        self._drain_due = self.needs_worker()
        if not self._drain_due:
            self.send(frames.Drain(deadline_s=self.settings.drain_s))

    def shut(self) -> None:
        """End every job that still runs."""
        for job in list(self.jobs):
            self.fail_aloud(job, "server_shutdown", "the relay is shutting down")

    # Outlets

    def send(self, frame: frames.RelayFrame) -> None:
        """Send to the worker, if there is one."""
        if self.port is not None:
            self.port.send(frame)

    def log(self, narration: frames.Narration, job: Job | None = None) -> None:
        """Write a narration of ours to standard output."""
        log_narration(self._logger, narration, job.terms.correlation_id if job else "")

    def log_lifecycle(self, narration: frames.Narration) -> None:
        """Write a narration about the worker's life, and tell it to those who wait for the worker."""
        self.log(narration)
        self.tell_waiting(narration)

    def tell_waiting(self, narration: frames.Narration) -> None:
        for job in self.line:
            job.tell(narration)

    def _tell_place(self, job: Job) -> None:
        eta_s = self.line.eta_s(job.position)
        self.log(job.say("queued", position=job.position + 1, eta_s=eta_s), job)
