"""The real operator as a process, under the shipped Role, and what a person with kubectl sees of its work.

Used by `tests/operator/test_whole_*.py`.
"""

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from rhapsode_operator.permissions import role_yaml
from support.api_client import ApiError
from support.api_server import ApiServer
from support.documents import ROOT
from support.pod_reports import path_of
from support.processes import DEADLINE_S, Running, free_port, wait_until
from support.roles import grant

JSON = dict[str, Any]
CRD = ROOT / "crds/inferenceworkers.rhapsode.dev.yaml"
PATIENCE_S = 180.0
LEASE = "/apis/coordination.k8s.io/v1/namespaces/{}/leases/rhapsode-operator"
LOUD = ("warn", "warning", "error")
LATE = ("no answer in time", "Connection timeout to host")
"""How it says, rightly, that a machine which stalls for seconds let an answer of the API server come too late."""


class Operator(Running):
    """The process."""

    def __init__(self, kubeconfig: Path, namespace: str, **environ: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        given = {
            "KUBECONFIG": str(kubeconfig),
            "RHAPSODE_NAMESPACE": namespace,
            "RHAPSODE_WATCH_NAMESPACES": namespace,
            "RHAPSODE_PORT": str(self.port),
            "RHAPSODE_POD_NAME": "operator-0",
            # Longer than any stall of the machine, shorter than the minute that a clock may be off. Who is killed comes
            # again at once, as it has the same name.
            "RHAPSODE_LEASE_SECONDS": "40",
            "RHAPSODE_LEASE_RENEW_SECONDS": "30",
            "RHAPSODE_LEASE_RETRY_SECONDS": "0.2",
        }
        super().__init__([sys.executable, "-m", "rhapsode_operator"], given | environ)

    def metric(self, name: str) -> float:
        """Return a metric's value, 0 if it is not there."""
        page = httpx.get(f"{self.url}/metrics", timeout=DEADLINE_S).text
        lines = (line.rpartition(" ") for line in page.splitlines())
        return next((float(value) for found, _, value in lines if found == name), 0.0)

    def is_up(self) -> bool:
        """Return whether it answers; AssertionError if it has ended."""
        assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.errors[-5:]}"
        try:
            return httpx.get(f"{self.url}/readyz", timeout=DEADLINE_S).status_code == 200
        except httpx.TransportError:
            return False

    def wait_leading(self) -> None:
        wait_until(lambda: self.is_up() and self.metric("rhapsode_leader") == 1, "the operator leads", PATIENCE_S)

    def created(self, pod: str = "") -> list[str]:
        """Return the pods that it made, in order."""
        made = [record["pod"] for record in list(self.records) if record.get("event") == "pod_created"]
        return [name for name in made if not pod or name == pod]

    def complaints(self) -> list[str]:
        """Return what it logged that is worse than information, and not about a machine that stalled."""
        return complaints(self)


class Cluster:
    """One namespace of an API server, as a person sees it, with operators that come and go."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self.server, self.namespace = server, namespace
        self.token = grant(server, namespace, role_yaml())
        self.operators: list[Operator] = []
        self._workers = f"/apis/rhapsode.dev/v1alpha1/namespaces/{namespace}/inferenceworkers"
        self._pods = f"/api/v1/namespaces/{namespace}/pods"

    # Operators

    def operate(self, kubeconfig: Path | None = None, /, **environ: str) -> Operator:
        """Start an operator under exactly the shipped Role."""
        operator = Operator(kubeconfig or self.server.kubeconfig(self.token), self.namespace, **environ)
        self.operators.append(operator)
        return operator

    def close(self) -> None:
        """End all operators, and leave no pod that one made after its kubelet had gone: the next would run it."""
        for operator in self.operators:
            operator.close()
        self.server.start()
        for pod in self.server.admin.items("/api/v1/pods", labelSelector="rhapsode.dev/worker"):
            self._remove(pod)

    def _remove(self, pod: JSON) -> None:
        try:
            self.server.delete(path_of(pod), {"gracePeriodSeconds": 0})
        except ApiError as exc:
            if exc.status != 404:
                raise

    # Resources

    def apply(self, name: str = "sim", **spec: Any) -> None:
        """Apply a worker as `kubectl apply` does; the simulator unless the spec says otherwise."""
        self.kubectl("apply", "-f", "-", body=worker(name, **spec))

    def patch(self, name: str, spec: JSON) -> None:
        self.server.patch(f"{self._workers}/{name}", {"spec": spec})

    def kubectl(self, *args: str, body: JSON | None = None) -> str:
        text = None if body is None else json.dumps(body)
        return self.server.kubectl("-n", self.namespace, *args, input=text)

    def find(self, name: str = "sim") -> JSON | None:
        return self.server.admin.find(f"{self._workers}/{name}")

    def status(self, name: str = "sim") -> JSON:
        status: JSON = (self.find(name) or {}).get("status") or {}
        return status

    def condition(self, kind: str, name: str = "sim") -> JSON:
        return _condition(self.status(name), kind)

    def wait_status(self, name: str, what: str, holds: Callable[[JSON], Any], seconds: float = PATIENCE_S) -> JSON:
        """Return the status once something holds for it."""
        seen: list[JSON] = [{}]

        def look() -> JSON | None:
            alive = [one for one in self.operators if one.process.poll() is None]
            assert alive or not self.operators, "no operator runs any more"
            seen[0] = self.status(name)
            return seen[0] if holds(seen[0]) else None

        try:
            found: JSON = wait_until(look, what, seconds)
        except AssertionError as exc:
            said = "".join("".join(operator.lines[-12:]) for operator in self.operators)
            raise AssertionError(f"{name}: {exc}: {json.dumps(seen[0])}\n{said}") from None
        return found

    def wait_condition(self, kind: str, reason: str, name: str = "sim", seconds: float = PATIENCE_S) -> JSON:
        """Return a condition once it has this reason."""
        status = self.wait_status(name, f"{kind} is {reason}", lambda seen: _reason(seen, kind) == reason, seconds)
        return _condition(status, kind)

    def wait_ready(self, name: str = "sim", seconds: float = PATIENCE_S) -> JSON:
        """Return the status once the present spec is served."""
        generation = (self.find(name) or {"metadata": {"generation": 0}})["metadata"]["generation"]

        def holds(status: JSON) -> bool:
            current = status.get("observedGeneration", 0) >= generation
            return current and _reason(status, "Ready") == "AllReplicasReady"

        return self.wait_status(name, "is Ready", holds, seconds)

    def events(self, name: str = "sim", kind: str = "") -> list[JSON]:
        """Return what was told about a resource, of type Normal or Warning."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"
        found = [one for one in self.server.admin.items(path) if _is_about(one, name)]
        return [one for one in found if kind in ("", one["type"])]

    def warnings(self, name: str = "sim") -> list[str]:
        """Return the reasons of its Warning Events."""
        return [one["reason"] for one in self.events(name, "Warning")]

    def wait_event(self, name: str, reason: str) -> JSON:
        """Return the Event of a reason."""

        def look() -> JSON | None:
            return next((one for one in self.events(name) if one["reason"] == reason), None)

        found: JSON = wait_until(look, f"{name} has an Event {reason}", PATIENCE_S)
        return found

    def wait_told(self, name: str, note: str) -> None:
        """Wait for an Event that says this."""
        wait_until(lambda: note in [one["note"] for one in self.events(name)], f"{name} tells {note!r}", PATIENCE_S)

    # Pods

    def pods(self, name: str = "sim") -> dict[str, JSON]:
        """Return its pods by name."""
        selector = f"rhapsode.dev/worker={name}"
        found = self.server.admin.items(self._pods, labelSelector=selector)
        return {pod["metadata"]["name"]: pod for pod in found}

    def uids(self, name: str = "sim") -> dict[str, str]:
        return {pod: body["metadata"]["uid"] for pod, body in self.pods(name).items()}

    def wait_pods(self, name: str, count: int, seconds: float = PATIENCE_S) -> dict[str, JSON]:
        """Return the pods once there are so many."""
        wait_until(
            lambda: len(self.pods(name)) == count, f"{name} has {count} pods: {list(self.pods(name))}", seconds
        )
        return self.pods(name)

    def delete_pod(self, pod: str) -> None:
        self.server.delete(f"{self._pods}/{pod}")

    def delete(self, name: str = "sim") -> None:
        self.server.delete(f"{self._workers}/{name}", propagationPolicy="Background")


def worker(name: str = "sim", **spec: Any) -> JSON:
    """Return a resource; `options` are those of the simulator, which is fast unless they say otherwise."""
    options = {"load": [], "tokensPerSecond": 200} | spec.pop("options", {})
    served = {"model": {"source": "builtin://simulator"}, "engine": {"name": "Simulator", "options": options}}
    return {
        "apiVersion": "rhapsode.dev/v1alpha1",
        "kind": "InferenceWorker",
        "metadata": {"name": name},
        "spec": served | {"relay": {"drainSeconds": 20}} | spec,
    }


def complaints(process: Running) -> list[str]:
    """Return what an operator logged that is worse than information, and not about a machine that stalled."""
    said = [record["message"] for record in list(process.records) if record.get("level") in LOUD]
    return [message for message in said if not any(words in message for words in LATE)]


def shorten_lease(server: ApiServer, namespace: str) -> None:
    """Let a Lease that nobody renews any more end after a second."""
    server.patch(LEASE.format(namespace), {"spec": {"leaseDurationSeconds": 1}})


def kill(operator: Operator) -> None:
    """End an operator as the kernel does."""
    operator.send(signal.SIGKILL)
    operator.wait()


def _condition(status: JSON, kind: str) -> JSON:
    return next((one for one in status.get("conditions") or () if one["type"] == kind), {})


def _reason(status: JSON, kind: str) -> str:
    return str(_condition(status, kind).get("reason", ""))


def _is_about(event: JSON, name: str) -> bool:
    about = event.get("regarding") or {}
    return about.get("kind") == "InferenceWorker" and about.get("name") == name
