"""Several relays that know each other, each with a worker that the test plays."""

import contextlib
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from rhapsode_contract import names
from support.fake_worker import FakeWorker
from support.patience import PEER_SLACK, patient
from support.processes import Relay, free_port, manifest, wait_until


class Replica:
    """One relay and its worker. Its worker is `sim-<number>`."""

    def __init__(
        self, folder: Path, number: int, listed: dict[str, int], environ: dict[str, str], relay: Any
    ) -> None:
        self.name = f"sim-{number}"
        self.port = listed[self.name]
        self._folder = folder
        self._admin_port = free_port()
        outcomes = relay.pop("outcomes", None)
        self._resource = manifest(**relay)
        if outcomes is not None:
            self._resource["spec"]["outcomes"] = outcomes
        peers = ",".join(f"{name}=127.0.0.1:{port}" for name, port in listed.items())
        self._environ = {names.ENV_PEERS: peers, names.ENV_WORKER_ID: self.name} | environ
        self.worker: FakeWorker | None = None
        self.relay = self._start()

    def _start(self) -> Relay:
        return Relay(self._resource, self._folder, self.port, self._admin_port, self._environ)

    def come(self, **said: Any) -> FakeWorker:
        """Connect a worker that is ready."""
        self.worker = FakeWorker(self.relay.socket, **said)
        wait_until(lambda: self.phase() == "ready", f"{self.name} is ready")
        return self.worker

    def phase(self) -> str:
        return str(httpx.get(f"{self.relay.admin_url}/v1/worker").json()["phase"])

    def die(self) -> None:
        """Let the relay be killed; its worker goes with it."""
        self.relay.send(signal.SIGKILL)
        self.relay.wait()
        self.relay.close()
        self.leave()

    def return_(self) -> None:
        """Start the relay again, at its address."""
        self.relay = self._start()

    def leave(self) -> None:
        if self.worker is not None:
            self.worker.close()
        self.worker = None

    def close(self) -> None:
        self.leave()
        self.relay.close()


def worker_of(replica: Replica) -> FakeWorker:
    """Return the worker that a test plays for a replica."""
    assert replica.worker is not None
    return replica.worker


def forwarded(replica: Replica, kind: str, result: str) -> float:
    """Return how many requests a replica passed on."""
    return replica.relay.metric(f'rhapsode_requests_forwarded_total{{kind="{kind}",result="{result}"}}')


@contextlib.contextmanager
def replicas(
    count: int = 2, ready: int | None = None, environ: dict[str, str] | None = None, **relay: Any
) -> Iterator[list[Replica]]:
    """Run relays; the first `ready` of them, or all, have a ready worker."""
    listed = {f"sim-{number}": free_port() for number in range(count)}
    environ = patient(peer_slack=PEER_SLACK) | (environ or {})
    with contextlib.ExitStack() as stack:
        started = []
        for number in range(count):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            one = Replica(folder, number, listed, environ, dict(relay))
            stack.callback(one.close)
            started.append(one)
        for one in started[: count if ready is None else ready]:
            one.come()
        yield started
