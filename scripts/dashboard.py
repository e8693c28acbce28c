"""The Grafana dashboard, readable: rows of panels with their queries. `make generate` writes it into the chart.

`tests/chart` fails on a metric or label that no process of ours exposes.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

JSON = dict[str, Any]
ACROSS = 24
"""Columns of a dashboard."""
HEIGHT = 7
RELAY = 'namespace=~"$namespace",worker=~"$worker"'
RATE = "$__rate_interval"


class Query(NamedTuple):
    """PromQL and the name of its lines."""

    expr: str
    legend: str = ""


class Panel(NamedTuple):
    """One panel; three stand side by side unless it says otherwise."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    what: str = ""
    kind: str = "timeseries"
    width: int = 8


class Row(NamedTuple):
    """Panels under one head."""

    title: str
    panels: tuple[Panel, ...]


def _relay(metric: str) -> str:
    return f"sum by (namespace, worker) ({metric}{{{RELAY}}})"


def _rate(metric: str, by: str = "worker") -> str:
    return f"sum by ({by}) (rate({metric}{{{RELAY}}}[{RATE}]))"


def _quantile(share: float, metric: str, by: str, labels: str = "") -> str:
    return f"histogram_quantile({share}, sum by (le{by}) (rate({metric}_bucket{{{labels}}}[{RATE}])))"


WORKERS = Row("Workers", (
    Panel(
        "Workers by phase", (Query("sum by (phase) (rhapsode_workers)", "{{phase}}"),), kind="stat",
        what="As the operator that leads counts them.",
    ),
    Panel(
        "Not ready, and why",
        (Query(
            'rhapsode_worker_condition{condition="Ready",namespace=~"$namespace",worker=~"$worker"} == 0',
            "{{namespace}}/{{worker}}: {{reason}}",
        ),),
        what="kubectl describe iw NAME has the remedy.",
    ),
    Panel(
        "Need a person",
        (Query(
            'rhapsode_worker_condition{condition="Stalled",namespace=~"$namespace",worker=~"$worker"} == 1',
            "{{namespace}}/{{worker}}: {{reason}}",
        ),),
        what="Nothing changes until someone acts.",
    ),
))  # fmt: skip
LOAD = Row("Load", (
    Panel(
        "Load progress", (Query(f"rhapsode_load_percent{{{RELAY}}}", "{{pod}}: {{stage}}"),), "percent",
        what="Of the stage; a line that stays flat is a load that hangs.", width=12,
    ),
    Panel(
        "Pods by phase", (Query(f"sum by (phase) (rhapsode_worker_phase{{{RELAY}}})", "{{phase}}"),),
        what="As their relays tell.", width=12,
    ),
))  # fmt: skip
RELAYS = Row("Relays", (
    Panel("Open streams", (Query(_relay("rhapsode_relay_readers"), "{{worker}}"),)),
    Panel(
        "Jobs", (
            Query(_relay("rhapsode_jobs_running"), "{{worker}} running"),
            Query(_relay("rhapsode_jobs_queued"), "{{worker}} waiting"),
        ),
    ),
    Panel("Tokens a second", (Query(_rate("rhapsode_tokens_total"), "{{worker}}"),)),
    Panel(
        "Time to first token", (
            Query(_quantile(0.5, "rhapsode_time_to_first_token_seconds", ", worker", RELAY), "{{worker}} half"),
            Query(_quantile(0.99, "rhapsode_time_to_first_token_seconds", ", worker", RELAY), "{{worker}} 99 %"),
        ), "s", "From acceptance, waiting included.",
    ),
    Panel("Requests accepted a second", (Query(_rate("rhapsode_requests_accepted_total"), "{{worker}}"),)),
    Panel(
        "Jobs ended a second", (Query(_rate("rhapsode_jobs_ended_total", "worker, status"), "{{worker}} {{status}}"),)
    ),
    Panel(
        "Requests refused a second",
        (Query(_rate("rhapsode_requests_refused_total", "worker, code"), "{{worker}} {{code}}"),),
    ),
    Panel(
        "Streams opened a second, by how they began",
        (Query(_rate("rhapsode_relay_streams_opened_total", "began"), "{{began}}"),),
        what="A replay or a snapshot is a client that came back.",
    ),
    Panel(
        "Dropped and cut off a second", (
            Query(_rate("rhapsode_relay_narrations_dropped_total"), "{{worker}} narrations"),
            Query(_rate("rhapsode_socket_notes_dropped_total"), "{{worker}} notes of others in the pod"),
            Query(_rate("rhapsode_relay_readers_stalled_total"), "{{worker}} readers that took no data"),
        ), what="Tokens are never dropped.",
    ),
    Panel(
        "Passed on to other replicas a second", (
            Query(_rate("rhapsode_requests_forwarded_total", "kind, result"), "{{kind}} {{result}}"),
            Query(_rate("rhapsode_requests_handed_over_total", "why"), "new requests of one that is {{why}}"),
        ), what="Of clients that came back to another replica than their job's, or asked one that cannot begin.",
        width=12,
    ),
    Panel("Memory of journals", (Query(f"rhapsode_relay_journal_bytes{{{RELAY}}}", "{{pod}}"),), "bytes", width=12),
))  # fmt: skip
TURNS = Row("Streams and turns", (
    Panel(
        "Streams a second, by how far they got", (
            Query(_rate("rhapsode_streams_started_total"), "{{worker}} started"),
            Query(_rate("rhapsode_streams_completed_total"), "{{worker}} completed"),
            Query(_rate("rhapsode_streams_disconnected_total"), "{{worker}} left by their last reader"),
        ), what="Of requests and turns alike. A turn that is left goes on.",
    ),
    Panel(
        "Time of a stream", (
            Query(_quantile(0.5, "rhapsode_stream_duration_seconds", ", worker", RELAY), "{{worker}} half"),
            Query(_quantile(0.99, "rhapsode_stream_duration_seconds", ", worker", RELAY), "{{worker}} 99 %"),
        ), "s", "From acceptance to the end, writes of turns included.",
    ),
    Panel(
        "Tokens of a stream", (
            Query(_quantile(0.5, "rhapsode_stream_tokens", ", worker", RELAY), "{{worker}} half"),
            Query(_quantile(0.99, "rhapsode_stream_tokens", ", worker", RELAY), "{{worker}} 99 %"),
        ),
    ),
    Panel(
        "Turns that were not valid a second",
        (Query(_rate("rhapsode_turn_validation_failures_total"), "{{worker}}"),),
        what="Nothing was written of them. The log says which rule, and where.", width=12,
    ),
    Panel(
        "Writes of turns a second",
        (Query(_rate("rhapsode_sink_calls_total", "worker, sink, status"), "{{worker}} {{sink}} {{status}}"),),
        what="Skipped are those that a condition held back; failed ones are not tried again.", width=12,
    ),
))  # fmt: skip
VRAM = Row("VRAM", (
    Panel(
        "VRAM in use", (Query(f"rhapsode_vram_used_bytes{{{RELAY}}}", "{{pod}} {{uuid}}"),), "bytes",
        "As NVML reports it. Nothing is shown where nobody measures.", width=12,
    ),
    Panel(
        "Share of VRAM in use",
        (Query(f"rhapsode_vram_used_bytes{{{RELAY}}} / rhapsode_vram_total_bytes{{{RELAY}}}", "{{pod}} {{uuid}}"),),
        "percentunit", "Above 97 % the condition VRAMPressure is True.", width=12,
    ),
    Panel(
        "Share of the KV cache in use",
        (Query(f"rhapsode_kv_cache_used_blocks{{{RELAY}}} / rhapsode_kv_cache_total_blocks{{{RELAY}}}", "{{pod}}"),),
        "percentunit", "Of engines that tell it. A full one lets requests wait inside the engine.", width=24,
    ),
))  # fmt: skip
OPERATOR = Row("Operator", (
    Panel("Leading", (Query("rhapsode_leader", "{{pod}}"),), what="One, always one.", kind="stat"),
    Panel("Reconciles a second", (Query(f"sum by (result) (rate(rhapsode_reconcile_total[{RATE}]))", "{{result}}"),)),
    Panel(
        "Time of a reconcile", (
            Query(_quantile(0.5, "rhapsode_reconcile_seconds", ""), "half"),
            Query(_quantile(0.99, "rhapsode_reconcile_seconds", ""), "99 %"),
        ), "s",
    ),
    Panel(
        "Queue", (
            Query("sum(rhapsode_workqueue_depth)", "waiting"),
            Query("sum(rhapsode_workqueue_running)", "running"),
        ),
    ),
    Panel("Wait in the queue, 99 %", (Query(_quantile(0.99, "rhapsode_workqueue_wait_seconds", ""), "99 %"),), "s"),
    Panel("Retries a second", (Query(f"sum(rate(rhapsode_workqueue_retries_total[{RATE}]))", "retries"),)),
    Panel(
        "Requests to the API server a second",
        (Query(f"sum by (verb, code) (rate(rhapsode_kube_requests_total[{RATE}]))", "{{verb}} {{code}}"),),
    ),
    Panel(
        "Time of a request to the API server, 99 %",
        (Query(_quantile(0.99, "rhapsode_kube_request_seconds", ", verb"), "{{verb}}"),), "s",
    ),
    Panel(
        "Status writes a second",
        (Query(f"sum by (manager) (rate(rhapsode_status_writes_total[{RATE}]))", "{{manager}}"),),
    ),
    Panel("Relays listened to", (Query("sum(rhapsode_telemetry_streams)", "relays"),)),
    Panel(
        "Events posted a second",
        (Query(f"sum by (result) (rate(rhapsode_events_posted_total[{RATE}]))", "{{result}}"),),
    ),
    Panel(
        "Late", (
            Query("max(rhapsode_watch_unseen_seconds)", "changes that the watch owes"),
            Query("max(rhapsode_loop_lag_seconds)", "event loop"),
        ), "s",
    ),
))  # fmt: skip
ROWS = (WORKERS, LOAD, RELAYS, TURNS, VRAM, OPERATOR)


def dashboard_json() -> str:
    """Return the dashboard as Grafana imports it."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


def dashboard() -> JSON:
    """Return it as data."""
    return {
        "uid": "rhapsode",
        "title": "Rhapsode",
        "description": "Made by `make generate` from scripts/dashboard.py.",
        "tags": ["rhapsode"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": list(_variables())},
        "panels": list(_panels()),
    }


def _variables() -> Iterator[JSON]:
    yield {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    for name, within in (("namespace", ""), ("worker", 'namespace=~"$namespace"')):
        yield {
            "name": name,
            "type": "query",
            "datasource": _SOURCE,
            "query": f"label_values(rhapsode_worker_condition{{{within}}}, {name})",
            "includeAll": True,
            "multi": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
            "refresh": 2,
        }


def _panels() -> Iterator[JSON]:
    number, top = 0, 0
    for row in ROWS:
        yield {"id": (number := number + 1), "type": "row", "title": row.title, "gridPos": _place(0, top, ACROSS, 1)}
        top, left = top + 1, 0
        for panel in row.panels:
            if left + panel.width > ACROSS:
                top, left = top + HEIGHT, 0
            yield _panel(panel, number := number + 1, _place(left, top, panel.width, HEIGHT))
            left += panel.width
        top += HEIGHT


def _place(left: int, top: int, width: int, height: int) -> JSON:
    return {"x": left, "y": top, "w": width, "h": height}


def _panel(panel: Panel, number: int, place: JSON) -> JSON:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.what,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}} if panel.kind == "timeseries" else {},
        "targets": [
            {"refId": chr(ord("A") + at), "expr": query.expr, "legendFormat": query.legend or "__auto"}
            for at, query in enumerate(panel.queries)
        ],
    }


_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
