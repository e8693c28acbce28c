"""Dashboard and alerts ask only for what a process of ours tells: its real pages of metrics are read."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from rhapsode_contract import frames
from rhapsode_contract.statuses import Condition
from rhapsode_contract.validating import decode_manifest
from rhapsode_operator.metrics import Metrics
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.hearing import Hearing
from rhapsode_relay.listening import Room
from rhapsode_relay.metrics import RelayCollector
from rhapsode_relay.reading import Readers
from rhapsode_relay.settings import RelaySettings
from support.charts import CHART, find, render, run_promtool
from support.documents import ROOT
from support.fake_worker import FakeWorker
from support.processes import Relay, running_relay, wait_until
from support.requests import post
from support.streams import ask

DASHBOARD = json.loads((CHART / "files/dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ASKED = [target["expr"] for panel in PANELS for target in panel["targets"]]
VARIABLES = [one["query"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
ALERTS = [
    rule["expr"]
    for group in yaml.safe_load((CHART / "files/alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
FROM_PROMETHEUS = {"namespace", "pod", "job", "worker", "le"}
"""Labels that a scrape adds: those of the target, `worker` by the chart's PodMonitor; `le` is a histogram's."""
Told = dict[str, set[str]]


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    """What all processes tell: names of samples with their labels."""
    with running_relay() as relay, FakeWorker(relay.socket, ready=False) as worker:
        found = _samples(_busy_operator().page().decode())
        yield found | _samples(_busy_relay(relay, worker)) | _samples(_passed_on())


def _busy_operator() -> Metrics:
    """Return the operator's metrics after everything that is counted has happened."""
    metrics = Metrics()
    metrics.worked("done", 0.1)
    metrics.waited(0.1)
    metrics.called("GET", "200", 0.1)
    metrics.status_written("rhapsode-operator")
    metrics.event_posted("posted")
    metrics.workers_by_phase({"Ready": 1})
    metrics.worker_conditions(("ns", "w"), [Condition(type="Ready", status="True", reason="AllReplicasReady")])
    return metrics


def _busy_relay(relay: Relay, worker: FakeWorker) -> str:
    """Return a relay's page while it loads, and while it has served and refused."""
    gpu = frames.Gpu(uuid="GPU-1", name="H200", total_bytes=2, used_bytes=1)
    worker.send(frames.State(phase="loading"), frames.Load(stage="importing", percent=42))
    wait_until(lambda: relay.metric('rhapsode_load_percent{stage="importing"}') == 42, "the load is shown")
    loading = _page(relay)
    worker.send(frames.State(phase="ready"), frames.Vram(source="nvml", gpus=[gpu]))
    worker.send(frames.Stats(kv_used=1, kv_total=2))
    with ask(relay.port) as stream:
        worker.serve("a")
        stream.rest()
    post(relay, {})
    wait_until(lambda: relay.metric('rhapsode_vram_used_bytes{uuid="GPU-1"}') == 1, "the GPU is shown")
    return loading + _page(relay)


def _passed_on() -> str:
    """Return what a relay tells of requests passed on, of turns' writes, of limits: others test how it comes to that."""
    settings = RelaySettings.load(decode_manifest(yaml.safe_load((ROOT / "examples/simulator.yaml").read_text())), {})
    house = Conductor(settings, "epoch", logging.getLogger("tests"))
    house.counts.forward("stream", "done")
    house.counts.hand_over("draining")
    house.counts.wrote("quest", "failed")
    house.counts.time_out("idle_timeout")
    registry = CollectorRegistry()
    hearing, readers = Hearing(house), Readers(1, 1, 1)
    registry.register(RelayCollector(house, readers, Room(hearing, readers)))
    return generate_latest(registry).decode()


def _page(relay: Relay) -> str:
    return httpx.get(f"{relay.admin_url}/metrics").text


def _samples(page: str) -> Told:
    found: Told = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize("expr", [*ASKED, *ALERTS, *VARIABLES])
def test_what_is_asked_for_is_told(told: Told, expr: str) -> None:
    names = set(re.findall(r"\brhapsode_\w+", expr))
    assert names
    assert names <= told.keys()


@pytest.mark.parametrize("expr", [*ASKED, *ALERTS])
def test_each_label_is_one_of_the_metric_or_of_the_scrape(told: Told, expr: str) -> None:
    for name, matchers in re.findall(r"\b(rhapsode_\w+)\{([^}]*)\}", expr):
        matched = set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", matchers)) - {"OPERATOR"}
        assert matched <= told[name] | FROM_PROMETHEUS
    of_all = {label for name in re.findall(r"\brhapsode_\w+", expr) for label in told[name]}
    grouped = {label for group in re.findall(r"\bby \(([^)]*)\)", expr) for label in group.split(", ")}
    assert grouped <= of_all | FROM_PROMETHEUS


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_legend_names_labels_that_are_left(told: Told, panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        of_all = {label for name in re.findall(r"\brhapsode_\w+", target["expr"]) for label in told[name]}
        groups = re.findall(r"\bby \(([^)]*)\)", target["expr"])
        left = {label for group in groups for label in group.split(", ")} if groups else of_all | FROM_PROMETHEUS
        assert shown <= left, target


def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"asked:{at}", "expr": expr.replace("$__rate_interval", "5m")} for at, expr in enumerate(ASKED)
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = run_promtool("check", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_do_not_overlap_and_have_a_head_of_each_part() -> None:
    cells = [
        (column, row)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for column in range(place["x"], place["x"] + place["w"])
        for row in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(column for column, _ in cells) < 24
    heads = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert heads == ["Workers", "Load", "Relays", "Streams and turns", "VRAM", "Operator"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_config_map_holds_the_dashboard() -> None:
    data = find(render({"dashboard.enabled": True}), "ConfigMap")["data"]
    assert json.loads(data["rhapsode.json"]) == DASHBOARD
