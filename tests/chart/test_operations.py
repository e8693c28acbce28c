"""The Helm commands of docs/operations.md, on a real API server that has no nodes; `e2e` runs the whole page."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from support.api_server import ApiServer
from support.charts import CHART, need
from support.documents import ROOT, blocks
from support.releases import CRD, Release
from support.sessions import commands

PAGE = (ROOT / "docs/operations.md").read_text()
OURS = [block for block in blocks("console", "sh") if block.document == "docs/operations.md"]
COMMANDS = [
    command
    for block in OURS
    for command in ([block.text] if block.language == "sh" else [one for one, _ in commands(block)])
    if command.startswith("helm ")
]
ROWS = re.findall(r"`(--set(?:-json)? .+?)`", PAGE)


@pytest.fixture
def shell(chart_server: ApiServer) -> dict[str, str]:
    """The environment of a person at the repository's root."""
    helm = Path(need("helm", "install Helm (https://helm.sh)"))
    path = f"{helm.parent}:{chart_server.tools}:{os.environ['PATH']}"
    return os.environ | {"PATH": path, "KUBECONFIG": str(chart_server.kubeconfig())}


def _run(command: str, shell: dict[str, str]) -> str:
    """Run a command, but wait for no pods: there are no nodes."""
    done = subprocess.run(
        ["bash", "-ec", command.replace(" --wait", "")],
        cwd=ROOT, env=shell, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (command, done.stdout)
    return done.stdout


def test_its_helm_commands_do_what_they_say(chart_server: ApiServer, shell: dict[str, str]) -> None:
    verbs = [command.split()[1] for command in COMMANDS]
    assert verbs == ["install", "template", "upgrade", "history", "rollback", "upgrade", "uninstall"]
    chart_server.namespace("monitoring")
    try:
        for command in COMMANDS[:-1]:
            _run(command, shell)
        assert chart_server.admin.items("/apis/monitoring.coreos.com/v1/prometheusrules")
        _run(COMMANDS[-1], shell)
        assert not chart_server.admin.items("/apis/monitoring.coreos.com/v1/prometheusrules")
    finally:
        Release(chart_server, "rhapsode").close()


@pytest.mark.parametrize("given", ROWS)
def test_each_value_that_it_names_is_one(given: str, shell: dict[str, str]) -> None:
    _run(f"helm template rhapsode charts/rhapsode {given.replace('…', 'x')}", shell)


def test_a_crd_that_kubectl_made_is_taken_over(release: Release) -> None:
    release.server.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    with pytest.raises(AssertionError, match="invalid ownership metadata"):
        release.install()
    assert "`--take-ownership --force-conflicts`" in PAGE
    release.helm("install", "rhapsode", str(CHART), "--take-ownership", "--force-conflicts")
    assert release.server.get(CRD)["metadata"]["annotations"]["meta.helm.sh/release-name"] == "rhapsode"


def test_it_names_every_alert_with_its_severity() -> None:
    groups = yaml.safe_load((CHART / "files/alerts.yaml").read_text())["groups"]
    alerts = {rule["alert"]: rule["labels"]["severity"] for group in groups for rule in group["rules"]}
    named = dict(re.findall(r"^\| `(Rhapsode\w+)` \| .+ \| (\w+) \|$", PAGE, re.MULTILINE))
    assert named == alerts


def test_the_chart_s_readme_says_the_same() -> None:
    shown = [line.removeprefix("$ ") for line in (CHART / "README.md").read_text().splitlines() if line[:2] == "$ "]
    assert shown
    assert all(f"$ {command}\n" in PAGE for command in shown)
