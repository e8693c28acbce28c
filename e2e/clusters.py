"""The cluster under test, by kubectl: what a person types is what a scenario does."""

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from support.processes import wait_until

Body = dict[str, Any]

WORKER_LABEL = "rhapsode.dev/worker"
LOOK_S = 0.25


class Cluster:
    """One kind cluster. Everything that it does has a deadline."""

    def __init__(self, name: str, tag: str) -> None:
        self.name = name
        self.tag = tag
        self.node = f"{name}-control-plane"

    def kubectl(self, *args: str, stdin: str | None = None, timeout: float = 90) -> str:
        """Return what kubectl says. AssertionError with its words if it fails."""
        done = subprocess.run(
            ["kubectl", *args], input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, f"kubectl {' '.join(args)}: {done.stderr or done.stdout}"
        return done.stdout

    def tried(self, *args: str, timeout: float = 90) -> tuple[int, str]:
        """Return kubectl's exit status and all its words."""
        done = subprocess.run(["kubectl", *args], capture_output=True, text=True, timeout=timeout, check=False)
        return done.returncode, done.stdout + done.stderr

    @contextlib.contextmanager
    def watching(self, *args: str) -> Iterator[list[str]]:
        """Run a kubectl that never ends; yield the lines that it says so far."""
        lines: list[str] = []
        process = subprocess.Popen(["kubectl", *args], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        reader = threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True)
        reader.start()
        try:
            yield lines
        finally:
            process.kill()
            reader.join(60)
            process.stdout.close()
            process.wait(60)

    def heard(self, lines: list[str], text: str, seconds: float = 120) -> None:
        """Wait until a line has these words."""
        until(lambda: any(text in line for line in lines), f"{text!r} is shown", seconds)

    def on_node(self, *args: str, timeout: float = 60) -> str:
        """Return what a program on the node says."""
        done = subprocess.run(
            ["docker", "exec", self.node, *args], capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, f"{' '.join(args)}: {done.stderr or done.stdout}"
        return done.stdout

    def give_image(self, image: str, name: str) -> None:
        """Let the node have an image under another name."""
        for command in (["docker", "tag", image, name], ["kind", "load", "docker-image", "--name", self.name, name]):
            subprocess.run(command, check=True, capture_output=True, timeout=120)

    def take_image(self, name: str) -> None:
        """Let the node, and this machine, forget an image's name."""
        subprocess.run(["docker", "rmi", name], check=True, capture_output=True, timeout=60)
        (full,) = (
            one for one in self.on_node("ctr", "-n", "k8s.io", "images", "ls", "-q").split() if one.endswith(name)
        )
        self.on_node("ctr", "-n", "k8s.io", "images", "rm", full)

    def apply(self, body: Body, namespace: str) -> None:
        self.kubectl("apply", "-n", namespace, "-f", "-", stdin=yaml.safe_dump(body))

    def get(self, kind: str, name: str, namespace: str) -> Body:
        """Return an object, or {} if there is none."""
        text = self.kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else {}

    def all(self, kind: str, namespace: str, selector: str = "") -> list[Body]:
        args = ["get", kind, "-n", namespace, "-o", "json"] + (["-l", selector] if selector else [])
        return list(json.loads(self.kubectl(*args))["items"])

    def pods(self, worker: str, namespace: str) -> list[Body]:
        return self.all("pods", namespace, f"{WORKER_LABEL}={worker}")

    def delete(self, kind: str, name: str, namespace: str, *, wait: bool = True) -> None:
        self.kubectl("delete", kind, name, "-n", namespace, f"--wait={str(wait).lower()}", "--ignore-not-found")

    def kill(self, pod: str, container: str, namespace: str) -> None:
        """Kill a container's process from outside, as the kernel would."""
        status = self.get("pod", pod, namespace)["status"]
        every = status.get("containerStatuses", []) + status.get("initContainerStatuses", [])
        (found,) = (one["containerID"] for one in every if one["name"] == container)
        self.on_node("ctr", "-n", "k8s.io", "task", "kill", "-s", "SIGKILL", found.removeprefix("containerd://"))


def until(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    """Return the first true value of a condition; fail with `what` when it does not come in time."""
    return wait_until(condition, what, seconds, pause_s=LOOK_S)


def condition_of(body: Body, kind: str) -> Body:
    """Return a condition of an object, or {}."""
    found = (one for one in body.get("status", {}).get("conditions", []) if one["type"] == kind)
    return next(found, {})


def the_cluster() -> Cluster:
    """Return the cluster that `scripts/e2e` made; refuse any other that kubectl may point to."""
    name = os.environ.get("RHAPSODE_E2E_CLUSTER", "")
    context = subprocess.run(
        ["kubectl", "config", "current-context"], capture_output=True, text=True, check=False
    ).stdout.strip()
    if not name or context != f"kind-{name}":
        raise SystemExit(
            f"e2e: kubectl points to {context or 'nothing'!r}, expected 'kind-{name or 'NAME'}': run 'make e2e', which"
            " makes a cluster of its own; scenarios delete things and must not meet another one."
        )
    return Cluster(name, os.environ["RHAPSODE_E2E_TAG"])
