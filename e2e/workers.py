"""InferenceWorkers of the scenarios, and what is asked of them."""

import json
from typing import Any

from e2e.clusters import Body, Cluster, condition_of, until


def worker(name: str, *, engine: Body | None = None, options: Body | None = None, **spec: Any) -> Body:
    """Return an InferenceWorker that plays the simulator and loads for a second."""
    settings = {"load": [{"stage": "loading weights", "seconds": 1}], "tokensPerSecond": 50}
    return {
        "apiVersion": "rhapsode.dev/v1alpha1",
        "kind": "InferenceWorker",
        "metadata": {"name": name},
        "spec": {
            "model": {"source": "builtin://simulator"},
            "engine": engine or {"name": "Simulator", "options": settings | (options or {})},
            "relay": {"drainSeconds": 60},
            "resources": {
                "relay": {"requests": {"cpu": "10m"}, "limits": {}},
                "worker": {"requests": {"cpu": "10m"}},
            },
            **spec,
        },
    }


class Applied:
    """A resource in a namespace."""

    def __init__(self, cluster: Cluster, body: Body, namespace: str) -> None:
        self._cluster = cluster
        self.name = body["metadata"]["name"]
        self.namespace = namespace
        cluster.apply(body, namespace)

    def now(self) -> Body:
        return self._cluster.get("iw", self.name, self.namespace)

    def status(self) -> Body:
        found: Body = self.now().get("status", {})
        return found

    def condition(self, kind: str = "Ready") -> Body:
        return condition_of(self.now(), kind)

    def pods(self) -> list[Body]:
        return self._cluster.pods(self.name, self.namespace)

    def ready(self, seconds: float = 90, replicas: int | None = None) -> Body:
        """Wait until the newest spec is served."""

        def is_ready() -> Body | None:
            found = self.now()
            status = found.get("status", {})
            fresh = status.get("observedGeneration") == found["metadata"]["generation"]
            right = replicas is None or status.get("readyReplicas") == status.get("replicas") == replicas
            return found if fresh and right and condition_of(found, "Ready").get("status") == "True" else None

        try:
            got: Body = until(is_ready, f"{self.name} is ready", seconds)
        except AssertionError as exc:
            raise AssertionError(f"{exc}: {self.condition()}") from exc
        return got

    def reason(self, wanted: str, kind: str = "Ready", seconds: float = 90) -> Body:
        """Wait until a condition has a reason; return the condition."""

        def has_it() -> Body | None:
            found = self.condition(kind)
            return found if found.get("reason") == wanted else None

        try:
            got: Body = until(has_it, f"{self.name}'s {kind} is {wanted}", seconds)
        except AssertionError as exc:
            raise AssertionError(f"{exc}: it is {self.condition(kind)}") from exc
        return got

    def patch(self, spec: Body) -> None:
        body = json.dumps({"spec": spec})
        self._cluster.kubectl("patch", "iw", self.name, "-n", self.namespace, "--type=merge", "-p", body)

    def events(self) -> list[Body]:
        """Return the Events of this resource, oldest first."""
        found = self._cluster.all("events.events.k8s.io", self.namespace)
        mine = [one for one in found if one["regarding"].get("name") == self.name]
        return sorted(mine, key=lambda one: one["metadata"]["creationTimestamp"])

    def url(self, path: str, pod: str = "") -> str:
        """Return where the client's pod finds it: at its Service, or at one pod."""
        host = f"{pod}.{self.name}-pods" if pod else self.name
        return f"http://{host}.{self.namespace}.svc.cluster.local.:8080{path}"

    def delete(self, *, wait: bool = True) -> None:
        self._cluster.delete("iw", self.name, self.namespace, wait=wait)
