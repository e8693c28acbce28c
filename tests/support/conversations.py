"""What many tests of a relay begin with: a relay of some settings, a worker that the test plays, and one question."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from rhapsode_contract import frames
from support.fake_worker import FakeWorker
from support.processes import Relay, manifest, running_relay
from support.streams import Stream, ask


class Conversation(NamedTuple):
    """Who takes part in it."""

    relay: Relay
    worker: FakeWorker
    stream: Stream


@contextlib.contextmanager
def conversing(**settings: Any) -> Iterator[Conversation]:
    """Run a relay with fields of `spec.relay`, connect a ready worker, and ask."""
    with (
        running_relay(manifest(**settings)) as relay,
        FakeWorker(relay.socket) as worker,
        ask(relay.port) as stream,
    ):
        yield Conversation(relay, worker, stream)


def begin_and_leave(talk: Conversation, *, hard: bool = False) -> frames.Generate:
    """Let the answer begin, and leave before its first word; return the job."""
    job = talk.worker.begin()
    talk.stream.next("started")
    talk.stream.close(hard=hard)
    return job
