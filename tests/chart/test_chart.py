"""The chart itself: whole, documented, the same as the code, and strict about what it is given."""

import json
import tomllib
from typing import Any

import pytest
import yaml
from scripts.chart_pages import Value, read_values

from rhapsode_operator import permissions
from rhapsode_operator.settings import OperatorSettings
from support.charts import CHART, EVERYTHING, find, leaves, render, run_helm
from support.documents import ROOT

VALUES = [value for value in read_values() if value.path != "global"]


def test_its_versions_are_the_project_s() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart["appVersion"] == chart["version"] == project["version"]


@pytest.mark.parametrize("values", [{}, EVERYTHING | {"watchNamespaces": ["a", "b"]}], ids=["default", "everything"])
def test_helm_finds_nothing_to_complain_about(values: dict[str, Any]) -> None:
    pairs = [word for name, value in values.items() for word in ("--set-json", f"{name}={json.dumps(value)}")]
    done = run_helm("lint", "--strict", str(CHART), *pairs)
    assert done.returncode == 0, done.stdout


def test_its_own_tests_pass() -> None:
    done = run_helm("unittest", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("value", [one for one in VALUES if one.inner is None], ids=lambda value: value.path)
def test_every_value_is_tested(value: Value) -> None:
    tested = {
        path
        for suite in (CHART / "tests").glob("*_test.yaml")
        for document in yaml.safe_load_all(suite.read_text())
        for test in document["tests"]
        for path in _set_paths(test.get("set", {}))
    }
    assert any(path == value.path or path.startswith(f"{value.path}.") for path in tested)


def _set_paths(given: dict[str, Any]) -> list[str]:
    nested = [leaf for path, part in given.items() if isinstance(part, dict) for leaf in leaves(part, path)]
    return [*given, *nested]


def test_every_template_is_tested() -> None:
    suites = [one for suite in (CHART / "tests").glob("*_test.yaml") for one in yaml.safe_load_all(suite.read_text())]
    tested = {template for suite in suites for template in suite["templates"]}
    there = {str(path.relative_to(CHART)) for path in (CHART / "templates").iterdir() if path.suffix != ".tpl"}
    assert tested == there


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.path)
def test_every_value_says_what_it_is_for(value: Value) -> None:
    assert value.what.endswith(".")
    assert f"# {value.what[:60]}" in (CHART / "values.yaml").read_text()
    assert value.inner is not None or f"| `{value.path}` |" in (CHART / "README.md").read_text()


def test_every_value_is_used() -> None:
    templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    unused = [one.path for one in VALUES if one.inner is None and f".{one.name}" not in templates]
    assert set(unused) <= {"image.operator", "image.relay", "image.workerCpu", "image.workerTensorrtLlm"}, unused


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("replcas=3", "additional properties 'replcas' not allowed"),
        ("metrics.serviceMonitor.enable=true", "at '/metrics/serviceMonitor': additional properties 'enable'"),
        ("replicas=two", "at '/replicas': got string, want integer"),
        ("logLevel=loud", "at '/logLevel': value must be one of 'debug', 'error', 'info', 'warning'"),
        ("watchNamespaces={Team_A}", "at '/watchNamespaces/0': 'Team_A' does not match pattern"),
        ("image.tag=a b", "at '/image/tag': 'a b' does not match pattern"),
        ("lease.seconds=0", "at '/lease/seconds': minimum: got 0, want 0.05"),
        ("imagePullSecrets[0].nam=x", "at '/imagePullSecrets/0': "),
        ("metrics.podMonitor.interval=often", "at '/metrics/podMonitor/interval': 'often' does not match pattern"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_its_name(given: str, words: str) -> None:
    done = run_helm("template", "rhapsode", str(CHART), "--set", given)
    assert done.returncode != 0
    assert words in done.stderr


def test_it_may_be_part_of_an_umbrella_chart() -> None:
    assert render({"global": {"anything": 1}})


def test_the_crd_is_the_one_of_the_repository() -> None:
    ours = yaml.safe_load((ROOT / "crds/inferenceworkers.rhapsode.dev.yaml").read_text())
    assert find(render(), "CustomResourceDefinition")["spec"] == ours["spec"]


@pytest.mark.parametrize("namespaces", [[], ["a", "b"]])
def test_the_roles_are_the_ones_that_the_operator_asks_for(namespaces: list[str]) -> None:
    cluster, lead = yaml.safe_load_all(permissions.role_yaml())
    roles = [one for one in render({"watchNamespaces": namespaces}) if one["kind"] in ("Role", "ClusterRole")]
    ours = [one for one in roles if one["metadata"]["name"] == "rhapsode-operator"]
    assert [one["metadata"].get("namespace", "") for one in ours] == (namespaces or [""])
    assert all(one["rules"] == cluster["rules"] for one in ours)
    assert find(roles, "Role", "rhapsode-operator-leader")["rules"] == lead["rules"]


def test_what_it_tells_the_operator_is_what_the_operator_reads() -> None:
    (container,) = find(render(), "Deployment")["spec"]["template"]["spec"]["containers"]
    given = {one["name"]: one.get("value", "") for one in container["env"] if one["name"] != "HOME"}
    settings = OperatorSettings.from_env(given | {"RHAPSODE_NAMESPACE": "n", "RHAPSODE_POD_NAME": "p"})
    bare = OperatorSettings.from_env(
        {"RHAPSODE_NAMESPACE": "n", "RHAPSODE_POD_NAME": "p", "RHAPSODE_HOST": "0.0.0.0"}
    )
    assert settings == bare, "the chart's defaults are the operator's"
    page = (ROOT / "docs/operator.md").read_text()
    assert all(f"| `{name}` |" in page for name in given)
    assert page.count("| `RHAPSODE_") == len(given), "the chart sets every variable"
