"""A client inside the cluster: a pod that runs `following.py` against Services, and what it tells while it runs."""

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from e2e.clusters import Cluster

Line = dict[str, Any]
NAMESPACE = "e2e-clients"
_SCRIPT = (Path(__file__).parent / "following.py").read_text()


class Asking:
    """Streams that run in the client's pod. `lines` is what they told so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.lines: list[Line] = []
        self._process = process
        self._queue: queue.Queue[Line | None] = queue.Queue()
        self._errors: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def until(self, wanted: Callable[[list[Line]], Any], what: str, seconds: float = 90) -> Any:
        """Return the first true value of a condition on all lines so far."""
        deadline = time.monotonic() + seconds
        while not (value := wanted(self.lines)):
            left = deadline - time.monotonic()
            assert left > 0, f"waited {seconds:.0f} s in vain until {what}; told: {self.lines[-5:]}"
            with contextlib.suppress(queue.Empty):
                line = self._queue.get(timeout=min(left, 1))
                assert line is not None, f"the client ended before {what}; told: {self.lines[-5:]}, {self._errors}"
                self.lines.append(line)
        return value

    def results(self, streams: int, seconds: float = 120) -> list[Line]:
        """Return how each stream ended."""

        def ended(lines: list[Line]) -> list[Line]:
            over = [line for line in lines if line["what"] == "over"]
            return over if len(over) == streams else []

        found: list[Line] = self.until(ended, f"{streams} streams are over", seconds)
        return found

    def result(self, seconds: float = 120) -> Line:
        return self.results(1, seconds)[0]

    def heard(self, text: str, seconds: float = 90) -> Line:
        """Wait for a narration with these words."""
        found: Line = self.until(lambda lines: _narration(lines, text), f"{text!r} is narrated", seconds)
        return found

    def close(self) -> None:
        """End the client, whatever it does."""
        self._process.kill()
        self._process.wait(60)
        self._reader.join(60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def said(self) -> list[str]:
        return [line["event"]["human"] for line in self.lines if line["what"] == "narration"]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            if text.startswith("{"):
                self._queue.put(json.loads(text))
            else:
                self._errors.append(text)
        self._queue.put(None)


def _narration(lines: list[Line], text: str) -> Line | None:
    found = (line for line in lines if line["what"] == "narration" and text in line["event"]["human"])
    return next(found, None)


class Client:
    """The pod from which is asked."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def start(self) -> None:
        """Make the pod, if it is not there, and wait for it."""
        self._cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, "default")
        container = {
            "name": "client",
            "image": f"rhapsode-relay:{self._cluster.tag}",
            "command": ["python", "-c", "import signal; signal.sigwait([signal.SIGTERM])"],
        }
        spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
        metadata = {"name": "client", "namespace": NAMESPACE}
        self._cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, NAMESPACE)
        self._cluster.kubectl(
            "wait", "pod/client", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=180s", timeout=200
        )

    @contextlib.contextmanager
    def asking(self, worker: str, namespace: str, *options: str) -> Iterator[Asking]:
        """Ask a worker through its Service."""
        command = ["kubectl", "exec", "-i", "-n", NAMESPACE, "client", "--", "python", "-u", "-c", _SCRIPT]
        process = subprocess.Popen(
            [*command, f"{worker}.{namespace}.svc.cluster.local.", *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        asking = Asking(process)
        try:
            yield asking
        finally:
            asking.close()

    def ask(self, worker: str, namespace: str, *options: str, seconds: float = 120) -> Line:
        """Ask one question and return how it ended."""
        with self.asking(worker, namespace, *options) as asking:
            return asking.result(seconds)
