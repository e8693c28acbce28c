"""The chart under test: helm and promtool as they are on this machine, and what the chart renders."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.documents import ROOT

JSON = dict[str, Any]
CHART = ROOT / "charts/rhapsode"
NAMESPACE = "inference"
EVERYTHING: JSON = {
    "replicas": 3,
    "imagePullSecrets": [{"name": "pull"}],
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "nodeSelector": {"pool": "system"},
    "tolerations": [{"key": "system", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
    "podLabels": {"team": "ml"},
    "podAnnotations": {"team": "ml"},
    "commonLabels": {"cost": "7"},
    "serviceAccount": {"annotations": {"team": "ml"}},
    "metrics": {
        "serviceAnnotations": {"prometheus.io/scrape": "true"},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "podMonitor": {"enabled": True},
    },
    "alerts": {"enabled": True, "alertLabels": {"team": "ml"}},
    "dashboard": {"enabled": True},
    "networkPolicy": {
        "relays": {"clients": [{"podSelector": {}}], "extraIngress": [{"ports": [{"port": 9400}]}]},
    },
}
"""Values that bring out every part of every template; `watchNamespaces` is a test's."""


def need(program: str, advice: str) -> str:
    """Return the path of a program; skips where it is not, unless somebody insists."""
    if found := shutil.which(program):
        return found
    said = f"{program} is not on the PATH: {advice}"
    if os.environ.get("CI") or os.environ.get("RHAPSODE_REQUIRE_KUBERNETES"):
        pytest.fail(f"{said}. CI does not accept skips.")
    pytest.skip(said)


def run_helm(*args: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run helm, against this cluster or none."""
    helm = need("helm", "install Helm (https://helm.sh) and its plugin helm-unittest")
    environ = os.environ | {"KUBECONFIG": str(kubeconfig or "/dev/null")}
    return subprocess.run(
        [helm, *args], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False
    )


def run_promtool(*args: str) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    promtool = need("promtool", "install Prometheus (Debian's package prometheus has it)")
    return subprocess.run([promtool, *args], capture_output=True, text=True, timeout=120, check=False)


def render(values: JSON | None = None, *args: str) -> list[JSON]:
    """Return the objects that these values make."""
    done = run_helm(
        "template", "rhapsode", str(CHART), "--namespace", NAMESPACE, *args, "--set-json", _pairs(values or {})
    )
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def cluster_pairs(values: JSON) -> list[str]:
    """Return the arguments that give helm these values."""
    return ["--set-json", _pairs(values)]


def find(objects: list[JSON], kind: str, name: str = "") -> JSON:
    """Return the one object of a kind, or that of a name."""
    (found,) = [one for one in objects if one["kind"] == kind and name in ("", one["metadata"]["name"])]
    return found


def leaves(values: JSON, path: str = "") -> Iterator[str]:
    """Yield the path of every value that is set, groups included."""
    for name, value in values.items():
        where = f"{path}.{name}" if path else name
        yield where
        if isinstance(value, dict):
            yield from leaves(value, where)


def _pairs(values: JSON) -> str:
    return ",".join(f"{name}={json.dumps(value)}" for name, value in values.items()) or "global={}"
