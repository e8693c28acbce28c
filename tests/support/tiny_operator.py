"""An operator whose deciding half is the least that can be: one Service per resource, and a line about each run.

Run as a process by the tests of the runtime (`python -m support.tiny_operator`), with `TinyOperator` to hold it.
"""

import logging
import os
import sys
import types
from pathlib import Path
from typing import Any, cast

import httpx

from rhapsode_operator.__main__ import main
from rhapsode_operator.queueing import Key
from rhapsode_operator.running import Parts, Seam
from support.documents import ROOT
from support.processes import DEADLINE_S, Running, free_port, wait_until

MANAGER = "rhapsode-operator"
READ: set[str] = set()
"""The names of all resources that were ever seen."""


class TinyReconciler:
    """Says what it sees, and keeps a Service per resource."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def start(self) -> None:
        self._say("began", ("", ""))

    async def stop(self) -> None:
        self._say("ended", ("", ""))

    async def reconcile(self, key: Key) -> float | None:
        worker, pods = self._parts.watched.worker(key), self._parts.watched.pods(key)
        self._say("reconciled", key, there=worker is not None, seen=worker, pods=sorted(pods), read=len(READ))
        if worker is not None:
            metadata = {"namespace": key[0], "name": key[1], "annotations": {"source": worker}}
            spec = {"ports": [{"port": 80, "protocol": "TCP"}]}
            body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
            await self._parts.kube.apply(body, manager=MANAGER)
        return None

    def _say(self, event: str, key: Key, **facts: Any) -> None:
        told = {"event": event, "key": "/".join(key), **facts}
        logging.getLogger("rhapsode.operator").info("%s", event, extra={"facts": told})


def make_worker(body: dict[str, Any]) -> str:
    assert "managedFields" not in body["metadata"]
    READ.add(body["metadata"]["name"])
    return str(body["spec"]["model"]["source"])


def make_pod(body: dict[str, Any]) -> str:
    return str(body["metadata"]["name"])


class TinyOperator(Running):
    """The process."""

    def __init__(self, kubeconfig: Path, namespace: str, **environ: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        given = {
            "PYTHONPATH": str(ROOT / "tests"),
            "KUBECONFIG": str(kubeconfig),
            "RHAPSODE_NAMESPACE": namespace,
            "RHAPSODE_WATCH_NAMESPACES": namespace,
            "RHAPSODE_PORT": str(self.port),
            # No stall of the machine and no restart of an API server lasts as long.
            "RHAPSODE_LEASE_SECONDS": "90",
            "RHAPSODE_LEASE_RENEW_SECONDS": "60",
            "RHAPSODE_LEASE_RETRY_SECONDS": "0.2",
        }
        super().__init__([sys.executable, "-m", "support.tiny_operator"], given | environ)

    def runs(self, name: str) -> list[dict[str, Any]]:
        """Return the records of a resource's reconciles."""
        mine = [record for record in list(self.records) if record.get("event") == "reconciled"]
        return [record for record in mine if record["key"].endswith(f"/{name}")]

    def wait_run(self, name: str, seconds: float = DEADLINE_S, **facts: Any) -> dict[str, Any]:
        """Return the record of a reconcile that saw this."""

        def found() -> dict[str, Any] | None:
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}: {self.errors[-5:]} {self.lines[-5:]}")
            fitting = (run for run in self.runs(name) if facts.items() <= run.items())
            return next(fitting, None)

        run: dict[str, Any] = wait_until(found, f"{name} is reconciled with {facts}; {self.lines[-3:]}", seconds)
        return run

    def page(self, path: str) -> tuple[int, str]:
        """Return status and text of a page, 0 while nobody answers."""
        try:
            answer = httpx.get(f"{self.url}{path}", timeout=DEADLINE_S)
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.text

    def metric(self, name: str) -> float:
        """Return a metric's value, 0 if it is not there."""
        lines = (line.rpartition(" ") for line in self.page("/metrics")[1].splitlines())
        return next((float(value) for found, _, value in lines if found == name), 0.0)


if __name__ == "__main__":
    seam = types.SimpleNamespace(make_worker=make_worker, make_pod=make_pod, make_reconciler=TinyReconciler)
    os.environ.setdefault("RHAPSODE_LOG_LEVEL", "info")
    sys.exit(main(cast("Seam", seam)))
