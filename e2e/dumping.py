"""What is left to look at when a scenario failed: objects, Events and logs, in `e2e-report/`."""

import shutil
from pathlib import Path

from e2e.clusters import Cluster

REPORT = Path(__file__).parents[1] / "e2e-report"
_TAIL = 4000
_OURS = "app.kubernetes.io/name in (rhapsode, rhapsode-operator)"
_LOGS = ("logs", "--all-containers", "--prefix", "--max-log-requests=20", "-l", _OURS)


def dump(cluster: Cluster, test: str, namespaces: list[str]) -> str:
    """Write the state of namespaces into a folder; return what should be seen at once."""
    folder = REPORT / test.replace("/", "_").replace("::", "-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    seen = ""
    for namespace in namespaces:
        parts = {
            "workers.yaml": ["get", "iw", "-o", "yaml"],
            "objects.txt": ["get", "iw,pods,services,pvc,pdb", "-o", "wide"],
            "events.txt": ["get", "events", "--sort-by=.metadata.creationTimestamp"],
            "pods.txt": ["describe", "pods"],
            "logs.txt": [*_LOGS, "--tail=200"],
            "previous.txt": [*_LOGS, "--previous", "--tail=100"],
        }
        for name, args in parts.items():
            _, text = cluster.tried(*args, "-n", namespace)
            (folder / f"{namespace}-{name}").write_text(text)
            if name in ("objects.txt", "events.txt"):
                seen += f"\n--- {namespace}: {name}\n{text[-_TAIL:]}"
    return seen + f"\n--- more in {folder.relative_to(REPORT.parent)}"
