"""The commands that alerts name are ones that kubectl knows, and that find what is there."""

import re

import yaml

from support.charts import CHART
from support.operators import worker
from support.releases import Release

GROUPS = yaml.safe_load((CHART / "files/alerts.yaml").read_text())["groups"]
COMMANDS = sorted(
    {
        " ".join(command.split())
        for group in GROUPS
        for rule in group["rules"]
        for command in re.findall(r"`kubectl ([^`]+)`", rule["annotations"]["description"])
    }
)
NO_NODE = "does not have a host assigned"
"""What becomes of `logs` where no node runs the pod; anything else would be a wrong command."""


def test_kubectl_does_what_the_alerts_say(release: Release) -> None:
    release.install()
    server, namespace = release.server, release.namespace
    server.kubectl("-n", namespace, "apply", "-f", "-", input=yaml.safe_dump(worker("choir")))
    server.post(f"/api/v1/namespaces/{namespace}/pods", _pod())
    for command in COMMANDS:
        words = _filled_in(command, namespace).split()
        complaint = _complaint(release, words)
        assert not complaint or ("logs" in words and NO_NODE in complaint), (words, complaint)


def _complaint(release: Release, words: list[str]) -> str:
    try:
        release.server.kubectl(*words)
    except AssertionError as exc:
        return str(exc)
    return ""


def _filled_in(command: str, namespace: str) -> str:
    labels = {"namespace": namespace, "worker": "choir", "pod": "choir-0"}
    for name, value in labels.items():
        command = command.replace(f"{{{{ $labels.{name} }}}}", value)
    assert "{{" not in command
    return command.replace("OPERATOR_NAMESPACE", namespace).replace("=N", "=2").replace("'", "")


def _pod() -> dict[str, object]:
    containers = [{"name": name, "image": "x"} for name in ("worker", "relay")]
    metadata = {"name": "choir-0", "labels": {"rhapsode.dev/worker": "choir"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}}
