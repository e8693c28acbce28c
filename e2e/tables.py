"""What scenarios of turns play at: the example as it is, and a small contract whose sinks are at a recorder."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from e2e.calls import Answer, Call, call, calling
from e2e.clusters import Body, Cluster, until
from e2e.workers import Applied
from rhapsode_contract import __version__

EXAMPLE = Path(__file__).parents[1] / "examples" / "dungeon-master"
STREAM = {"Accept": "text/event-stream"}

_RECORDER = """
import http.server, json
class Recorder(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(500 if self.path == "/broken" else 201)
        self.send_header("Content-Length", "0")
        self.end_headers()
        told = json.dumps({"path": self.path, "body": body, "headers": dict(self.headers)})
        print(told + "\\n", end="", flush=True)  # in one piece: two may come at once
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("", 8080), Recorder).serve_forever()
"""


class Table:
    """A worker with contracts, in a namespace."""

    def __init__(self, cluster: Cluster, name: str, namespace: str) -> None:
        self.cluster, self.name, self.namespace = cluster, name, namespace

    def turn(self, *, pod: str = "", leave_at: str = "", headers: Body | None = None, **body: Any) -> Answer:
        """Ask for a turn, through the Service or at a pod, and return the answer."""
        host = f"{pod}.{self.name}-pods" if pod else self.name
        return call(self._url(host, 8080, "/v1/turns"), "POST", body, headers, until=leave_at)

    @contextlib.contextmanager
    def turning_once_away(self, pod: str, headers: Body, **body: Any) -> Iterator[Call]:
        """Ask a pod for a turn at the moment that its worker is not ready any more."""
        url = self._url(f"{pod}.{self.name}-pods", 8080, "/v1/turns")
        with calling(url, "POST", body, headers, once_away=True) as one:
            yield one

    def view(self, job: str) -> Body:
        """Return what the worker says of a turn."""
        found: Body = call(self._url(self.name, 8080, f"/v1/inference/{job}")).json()
        return found

    def kept(self, kind: str, session: str) -> list[Body]:
        """Return what the journal has of a session."""
        found: list[Body] = call(self._url("journal", 80, f"/{kind}?session={session}")).json()
        return found

    def recorded(self, **headers: str) -> list[Body]:
        """Return the calls that the recorder got, those with these headers."""
        text = self.cluster.kubectl("logs", "recorder", "-n", self.namespace)
        calls = [json.loads(line) for line in text.splitlines()]
        wanted = {name.replace("_", "-").title(): value for name, value in headers.items()}
        return [one for one in calls if wanted.items() <= {k.title(): v for k, v in one["headers"].items()}.items()]

    def _url(self, host: str, port: int, path: str) -> str:
        return f"http://{host}.{self.namespace}.svc.cluster.local.:{port}{path}"


def play_example(cluster: Cluster, namespace: str) -> Table:
    """Apply the example, with the images of this cluster, and wait until both of its parts are ready."""
    text = cluster.kubectl("kustomize", str(EXAMPLE))
    for body in yaml.safe_load_all(text.replace(f"rhapsode-relay:{__version__}", f"rhapsode-relay:{cluster.tag}")):
        cluster.apply(body, namespace)
    cluster.kubectl(
        "wait", "iw/dungeon-master", "-n", namespace, "--for=condition=Ready", "--timeout=240s", timeout=260
    )
    cluster.kubectl("rollout", "status", "deploy/journal", "-n", namespace, "--timeout=120s", timeout=150)
    return Table(cluster, "dungeon-master", namespace)


def lay_table(cluster: Cluster, namespace: str, worker: Body) -> Table:
    """Apply a worker and a recorder, which its sinks are to call `http://recorder`, and wait until both are ready."""
    labels = {"app": "recorder"}
    container = {
        "name": "recorder", "image": f"rhapsode-relay:{cluster.tag}", "command": ["python", "-u", "-c", _RECORDER],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }  # fmt: skip
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    service = {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}
    metadata = {"name": "recorder", "labels": labels}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, namespace)
    cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service}, namespace)
    applied = Applied(cluster, worker, namespace)
    applied.ready(180, replicas=worker["spec"].get("replicas", 1))
    cluster.kubectl("wait", "pod/recorder", "-n", namespace, "--for=condition=Ready", "--timeout=120s", timeout=150)
    return Table(cluster, applied.name, namespace)


def contract(name: str, *sinks: Body, **more: Any) -> Body:
    """Return a contract that a small model fulfils in few tokens, with sinks that get the narrative."""
    intents = {
        "type": "object",
        "required": ["mood"],
        "additionalProperties": False,
        "properties": {"mood": {"enum": ["good", "bad"]}},
    }
    parts = {"narrative": {"type": "string"}, "intents": intents}
    return {
        "name": name,
        "schema": {"type": "object", "required": ["narrative", "intents"], "properties": parts},
        "prompt": {
            "narrative": "Tell me of {{ inputs.hero }}.",
            "intents": "Is the mood good or bad? Say it as JSON.",
        },
        "generation": {"narrativeTokens": 16, "intentsTokens": 24},
        "sinks": [{"part": "/narrative", "as": "text", **sink} for sink in sinks],
        **more,
    }


def written(end: Body) -> dict[str, str]:
    """Return what became of each sink."""
    return {write["sink"]: write["status"] for write in end["writes"]}


def has_written(table: Table, turn: str, times: int) -> None:
    """Wait until the recorder has so many calls of a turn."""
    until(lambda: len(table.recorded(x_rhapsode_turn=turn)) == times, f"{turn} is written")
