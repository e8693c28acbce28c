"""The operator under test, installed as a user does: by the chart."""

import json
import subprocess
from pathlib import Path

from e2e.clusters import Body, Cluster, until

CHART = Path(__file__).parents[1] / "charts" / "rhapsode"
NAMESPACE = "rhapsode"
RELEASE = "rhapsode"
_SELECTOR = "app.kubernetes.io/name=rhapsode-operator"


class Operator:
    """The chart's release. It is the same for all scenarios unless one needs other values."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._values: tuple[str, ...] | None = None

    def install(self, *values: str) -> None:
        """Install the chart with these values, unless it is so already; return when the operators are ready."""
        if values == self._values:
            return
        self._clear()
        settings = [f"image.tag={self._cluster.tag}", "resources.requests.cpu=10m", *values]
        self.helm(
            *("upgrade", "--install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--create-namespace"),
            *(word for value in settings for word in ("--set", value)),
            *("--wait", "--timeout", "120s"),
        )
        self._values = values

    def _clear(self) -> None:
        """Take a release away that somebody was killed at: helm would have nothing to do with it."""
        releases = json.loads(self.helm("list", "--namespace", NAMESPACE, "--pending", "-o", "json"))
        if RELEASE in [release["name"] for release in releases]:
            self.uninstall()

    def uninstall(self) -> None:
        self._values = None
        self.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "90s")

    def helm(self, *args: str) -> str:
        """Return what helm says; AssertionError with its words if it fails."""
        done = subprocess.run(["helm", *args], capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, f"helm {' '.join(args)}: {done.stderr or done.stdout}"
        return done.stdout

    def pods(self) -> list[Body]:
        return self._cluster.all("pods", NAMESPACE, _SELECTOR)

    def leader(self) -> str:
        """Return the pod that holds the Lease."""
        lease = self._cluster.get("lease", "rhapsode-operator", NAMESPACE)
        return str(lease.get("spec", {}).get("holderIdentity", ""))

    def kill_leader(self) -> str:
        """Kill the leading process and take its pod away, as a node that dies would; return the pod's name."""
        pod: str = until(self.leader, "an operator leads")
        self._cluster.kill(pod, "operator", NAMESPACE)
        self._cluster.kubectl("delete", "pod", pod, "-n", NAMESPACE, "--force", "--grace-period=0")
        return pod
