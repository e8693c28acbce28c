"""End requests for which the engine takes too long, and tell it. Called by the conductor's ticks; made by `__main__`.

Turns have times of their own and keep to them.
"""

from weakref import WeakKeyDictionary

from rhapsode_contract import frames
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.jobs import Job
from rhapsode_relay.patience import Course, Late, Patience


class Timekeeper:
    """Knows since when the engine has each request."""

    def __init__(self, house: Conductor, patience: Patience) -> None:
        self._house = house
        self._patience = patience
        self._courses: WeakKeyDictionary[Job, Course] = WeakKeyDictionary()

    def look(self, job: Job, now: float) -> None:
        """Look at a request, and end it if its time is over."""
        if job.over or job.terms.part or not self._house.line.holds(job.id):
            return
        course = self._courses.get(job)
        if course is None:
            course = self._courses[job] = Course(now, job.tokens, now)
        course.look(job.tokens, now)
        if late := course.late(self._patience, now):
            self._end(job, late)

    def _end(self, job: Job, late: Late) -> None:
        house = self._house
        house.counts.time_out(late.code)
        house.log(job.say("timed_out", what=late.what, limit_s=late.limit_s, tokens=job.tokens), job)
        message = f"{late.what} took longer than {late.limit_s:.0f} s; send the request again"
        house.fail(job, late.code, message, retryable=True)
        house.send(frames.Cancel(job_id=job.id, reason=late.code))
