"""The alerts: `alerts.yaml` beside this file shows when each fires; here they are run as the chart renders them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.charts import CHART, find, render, run_promtool

SCENES = Path(__file__).parent / "alerts.yaml"
SOURCE = yaml.safe_load((CHART / "files/alerts.yaml").read_text())
ALERTS = {rule["alert"]: rule for group in SOURCE["groups"] for rule in group["rules"]}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules as the chart renders them, with the scenes beside them."""
    folder = tmp_path_factory.mktemp("alerts")
    rule = find(render({"alerts.enabled": True}), "PrometheusRule")
    (folder / "alerts.rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    # Anchors and merges are ours to resolve: promtool knows none.
    (folder / "scenes.yaml").write_text(yaml.safe_dump(yaml.safe_load(SCENES.read_text())))
    return folder


def test_prometheus_reads_them(rules: Path) -> None:
    done = run_promtool("check", "rules", "--lint-fatal", str(rules / "alerts.rules.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(ALERTS)} rules found" in done.stdout


def test_each_fires_when_it_should_and_only_then(rules: Path) -> None:
    done = run_promtool("test", "rules", str(rules / "scenes.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_each_is_shown_to_fire_and_not_to_fire(name: str) -> None:
    shown = [one for scene in _scenes() for one in scene["alert_rule_test"] if one["alertname"] == name]
    assert any(one.get("exp_alerts") for one in shown)
    assert any(not one.get("exp_alerts") for one in shown)


@pytest.mark.parametrize("name", ALERTS)
def test_each_says_what_is_wrong_and_what_to_do_with_which_command(name: str) -> None:
    rule = ALERTS[name]
    assert name.startswith("Rhapsode")
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert len(rule["annotations"]["summary"]) < 110
    assert re.search(r"`kubectl [^`]+`", rule["annotations"]["description"])
    assert "for" in rule, "one bad scrape is no alert"


def _scenes() -> list[dict[str, Any]]:
    scenes: list[dict[str, Any]] = yaml.safe_load(SCENES.read_text())["tests"]
    return scenes
