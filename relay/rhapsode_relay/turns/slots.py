"""How a turn comes by a slot of the worker, and gives it back. Called by `running` and `turns`.

A turn stands in line once. Its intents take over the slot of its narrative: nobody who waits is passed by that, and
no client waits a second time, looking at a finished narrative.
"""

from rhapsode_contract import frames
from rhapsode_relay.admitting import check_worker
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.errors import BadRequest
from rhapsode_relay.jobs import Job
from rhapsode_relay.worker_state import WorkerState


def check_engine(worker: WorkerState) -> None:
    """Refuse an engine that keeps to no schema. What one can is known when it has loaded. Raises BadRequest."""
    if worker.ready and not worker.caps.json_schema:
        message = f"engine {worker.engine} has no JSON-schema output, which a turn's intents need"
        raise BadRequest(message, code="unsupported", param="contract")


def enqueue(house: Conductor, job: Job, command: frames.Generate) -> None:
    """Let a turn stand in line. Raises Unavailable if the worker takes nothing any more since it was accepted."""
    check_worker(house.worker, draining=house.draining)
    job.command = command
    house.enqueue(job)


def pass_on(house: Conductor, job: Job, successor: Job, command: frames.Generate) -> bool:
    """Run a hidden job in the slot of the job that it goes on for; return whether there was one."""
    if house.port is None or not house.line.pass_on(job.id, successor.id):
        return False
    house.jobs.hide(successor)
    house.send(command)
    return True


def withdraw(house: Conductor, job: Job) -> None:
    """Let nobody work for a job any more. The slot is free when the worker says so."""
    if not house.line.leave(job) and house.line.holds(job.id):
        house.send(frames.Cancel(job_id=job.id))


def give_back(house: Conductor, job: Job) -> None:
    """Free the slot of a job that kept it although the worker was done."""
    house.line.release(job.id)
    house.pump()
