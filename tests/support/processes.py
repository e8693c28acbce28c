"""Start the real processes, on loopback ports and sockets of their own."""

import contextlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml

from rhapsode_contract import names

DEADLINE_S = 120.0
NUMBER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
"""Which one of the processes is this that share the tests: what they may not share is told apart by it."""

NETWORK = f"127.{16 + NUMBER % 4 * 50 + os.getpid() % 50}"
"""Where its pods have their addresses: a stand-in kubelet's from its start, the bench's from its middle."""


def free_port() -> int:
    """Return a port that nobody listens on, nor will before the caller's server does."""
    return next(port for port in _PORTS if _is_free(port))


def _own_ports() -> Iterator[int]:
    """Give each port once, from a part that is this process of tests' own.

    They lie below those that the kernel deals to outgoing connections, which take a port at any moment.
    """
    part = 12_000 + 2500 * (NUMBER % 8)
    mine = range(part, part + 2500)
    yield from itertools.islice(itertools.cycle(mine), random.randrange(2500), None)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_PORTS = _own_ports()


def wait_until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE_S, *, pause_s: float = 0.01) -> Any:
    """Return the first true value of a condition; fail with `what` when it does not come."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain until {what}")
        time.sleep(pause_s)
    return value


def manifest(name: str = "sim", *, engine: dict[str, Any] | None = None, **relay: Any) -> dict[str, Any]:
    """Return a manifest that serves the simulator."""
    return {
        "apiVersion": "rhapsode.dev/v1alpha1",
        "kind": "InferenceWorker",
        "metadata": {"name": name},
        "spec": {
            "model": {"source": "builtin://simulator", "servedName": "sim"},
            "engine": {"name": "Simulator", **(engine or {})},
            "relay": relay,
        },
    }


@contextlib.contextmanager
def held(pid: int) -> Iterator[None]:
    """Let a process stand still meanwhile: what it does cannot be over before the test is ready for it."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


class Running:
    """A process whose standard output is JSON log lines."""

    def __init__(
        self, command: list[str], environ: dict[str, str], *, stdin: int | None = subprocess.DEVNULL
    ) -> None:
        self.records: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self.errors: list[str] = []
        self.process = subprocess.Popen(
            command, env=os.environ | environ, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._readers = [
            threading.Thread(target=self._read_out, daemon=True),
            threading.Thread(target=self._read_err, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_record(self, event: str, seconds: float = DEADLINE_S, count: int = 1) -> dict[str, Any]:
        """Return the `count`-th record of an event, once it is there."""

        def found() -> dict[str, Any] | None:
            if is_over := self.process.poll() is not None:
                self._hear_out()
            same = [record for record in list(self.records) if record.get("event") == event]
            if len(same) < count and is_over:
                raise AssertionError(f"ended with {self.process.returncode}: {self.errors[-5:]} {self.lines[-5:]}")
            return same[count - 1] if len(same) >= count else None

        record: dict[str, Any] = wait_until(found, f"{event!r} is logged; so far {self.lines[-3:]}", seconds)
        return record

    def send(self, sent: signal.Signals) -> None:
        self.process.send_signal(sent)

    def wait(self, seconds: float = DEADLINE_S) -> int:
        """Return the exit status."""
        status = self.process.wait(seconds)
        self._hear_out()
        return status

    def _hear_out(self) -> None:
        for reader in self._readers:
            reader.join(DEADLINE_S)

    def close(self) -> None:
        """End the process if it has not."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def _read_out(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            with contextlib.suppress(ValueError):
                self.records.append(json.loads(line))

    def _read_err(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)


class Relay(Running):
    """A relay process."""

    def __init__(
        self, resource: dict[str, Any], folder: Path, port: int, admin_port: int, more: dict[str, str] | None = None
    ) -> None:
        path = folder / "manifest.json"
        path.write_text(json.dumps(resource))
        self.socket = folder / "worker.sock"
        self.url = f"http://127.0.0.1:{port}"
        self.admin_url = f"http://127.0.0.1:{admin_port}"
        self.port = port
        environ = {
            names.ENV_MANIFEST: str(path),
            names.ENV_SOCKET: str(self.socket),
            names.ENV_PORT: str(port),
            names.ENV_ADMIN_PORT: str(admin_port),
        }
        super().__init__([sys.executable, "-m", "rhapsode_relay"], environ | (more or {}))
        self.client = httpx.Client(base_url=self.url)
        try:
            self.wait_record("relay_start")
            wait_until(lambda: _answers(self.admin_url), "the relay answers")
        except BaseException:
            self.close()
            raise

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def close(self) -> None:
        self.client.close()
        super().close()

    def metric(self, name: str) -> float:
        """Return a metric's value, 0 if it is not there."""
        for line in httpx.get(f"{self.admin_url}/metrics").text.splitlines():
            if line.split(" ")[0] == name:
                return float(line.split(" ")[1])
        return 0.0


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


@contextlib.contextmanager
def running_relay(resource: dict[str, Any] | None = None, environ: dict[str, str] | None = None) -> Iterator[Relay]:
    """Run a relay alone; the test plays the worker."""
    with tempfile.TemporaryDirectory() as folder:
        relay = Relay(resource or manifest(), Path(folder), free_port(), free_port(), environ)
        try:
            yield relay
        finally:
            relay.close()


class Play(Running):
    """A `rhapsode play` process."""

    def __init__(
        self, resource: dict[str, Any], folder: Path, *args: str, stdin: int | None = subprocess.DEVNULL
    ) -> None:
        path = folder / "worker.yaml"
        path.write_text(yaml.safe_dump(resource))
        self.port, self.admin_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.admin_url = f"http://127.0.0.1:{self.admin_port}"
        self.socket = folder / "worker.sock"
        ports = ["--port", str(self.port), "--admin-port", str(self.admin_port)]
        command = [sys.executable, "-m", "rhapsode", "play", str(path), *ports, *args]
        super().__init__(command, {names.ENV_SOCKET: str(self.socket)}, stdin=stdin)

    def wait_ready(self, seconds: float = DEADLINE_S, count: int = 1) -> None:
        """Wait until the worker is ready, for the `count`-th time, and the relay knows."""
        self.wait_record("ready", seconds, count)
        wait_until(lambda: self.worker().get("phase") == "ready", "the relay knows that the worker is ready")

    def worker(self) -> dict[str, Any]:
        """Return how the worker is."""
        try:
            state: dict[str, Any] = httpx.get(f"{self.url}/v1/worker").json()
        except httpx.TransportError:
            return {}
        return state

    def pids(self, module: str) -> list[int]:
        """Return the processes of this play that run a module."""
        import psutil

        return [child.pid for child in psutil.Process(self.pid).children(recursive=True) if _runs(child, module)]

    def kill(self, module: str) -> None:
        """Kill the process that runs a module, as the kernel would."""
        for pid in self.pids(module):
            os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        super().close()


def is_gone(pid: int) -> bool:
    """Return whether a process does nothing any more; a zombie waits for its parent only."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _runs(process: Any, module: str) -> bool:
    import psutil

    try:
        return module in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@contextlib.contextmanager
def playing(resource: dict[str, Any] | None = None, *args: str) -> Iterator[Play]:
    """Play a manifest: the real relay and the real worker."""
    with tempfile.TemporaryDirectory() as folder:
        play = Play(resource or manifest(), Path(folder), *args)
        try:
            yield play
        finally:
            play.close()
