"""What tests of turns begin with: a relay with a contract, sinks outside, and a worker that answers both questions."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx

from rhapsode_contract import frames
from support.fake_worker import FakeWorker
from support.outside import Outside, outside
from support.processes import Relay, manifest, running_relay
from support.streams import Event, Stream

PATIENCE_S = 60
"""How long sinks and sources may take where a test is not about that: no machine stalls so long."""
NARRATIVE = ("The ", "door ", "opens ", "— ", "ünder ", "moss.")
INTENTS: dict[str, Any] = {"poi": {"action": "create", "name": "Mossy Door"}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["narrative", "intents"],
    "properties": {
        "narrative": {"type": "string", "minLength": 1},
        "intents": {
            "type": "object",
            "required": ["poi"],
            "properties": {
                "poi": {
                    "type": "object",
                    "required": ["action"],
                    "properties": {"action": {"enum": ["create", "none"]}, "name": {"type": "string"}},
                }
            },
        },
    },
}


def declared(url: str, **changes: Any) -> dict[str, Any]:
    """Return a contract whose sinks and source are at a URL."""
    sinks = [
        {
            "name": "poi", "url": f"{url}/pois", "part": "/intents/poi", "fields": {"campaign": "/campaign"},
            "timeoutSeconds": PATIENCE_S,
            "when": [
                {"from": "request", "path": "/policy/memory", "equals": True},
                {"from": "outcome", "path": "/intents/poi/action", "equals": "create"},
            ],
        },
        {"name": "narrative", "url": f"{url}/narratives", "part": "/narrative", "as": "text", "method": "PUT",
         "timeoutSeconds": PATIENCE_S},
    ]  # fmt: skip
    return {
        "name": "tale",
        "schema": SCHEMA,
        "prompt": {
            "system": "You tell tales.",
            "narrative": "{% for spark in context.sparks %}* {{ spark.name }}\n{% endfor %}{{ inputs.action }}",
            "intents": "What came of it?",
        },
        "normalize": [{"path": "/intents/poi/name", "fallback": "A Notable Location", "maxLength": 200}],
        "context": [{"name": "sparks", "url": f"{url}/sparks", "items": "/pois", "timeoutSeconds": PATIENCE_S}],
        "limits": {"contextSeconds": PATIENCE_S, "writeSeconds": 2 * PATIENCE_S},
        "sinks": sinks,
    } | changes


def request(**changes: Any) -> dict[str, Any]:
    asked = {"contract": "tale", "inputs": {"action": "open the door", "campaign": "c-1"}, "policy": {"memory": True}}
    return asked | changes


class Table(NamedTuple):
    """Who takes part in a turn."""

    relay: Relay
    worker: FakeWorker
    outside: Outside

    def ask(self, headers: dict[str, str] | None = None, **changes: Any) -> Stream:
        """Ask for a turn and return its stream."""
        wanted = {"Accept": "text/event-stream"} | (headers or {})
        return Stream(self.relay.port, "/v1/turns", method="POST", body=request(**changes), headers=wanted)

    def post(self, headers: dict[str, str] | None = None, **changes: Any) -> httpx.Response:
        """Ask for a turn and return its whole answer."""
        body = json.dumps(request(**changes))  # the same bytes as those of `ask`
        return httpx.post(f"{self.relay.url}/v1/turns", content=body, headers=headers, timeout=60)

    def narrate(self, texts: tuple[str, ...] = NARRATIVE) -> frames.Generate:
        """Answer the first question."""
        return self.worker.serve(*texts)

    def intend(self, intents: Any = None) -> frames.Generate:
        """Answer the second question, with JSON or with bytes that are none."""
        text = intents if isinstance(intents, str) else json.dumps(INTENTS if intents is None else intents)
        return self.worker.serve(text)

    def play(self, intents: Any = None, texts: tuple[str, ...] = NARRATIVE) -> None:
        """Answer both questions."""
        self.narrate(texts)
        self.intend(intents)


@contextlib.contextmanager
def sitting(
    environ: dict[str, str] | None = None, relay: dict[str, Any] | None = None, slots: int = 8, **changes: Any
) -> Iterator[Table]:
    """Run a relay with a contract of these changes, which may be made from the sinks' URL."""
    with outside() as server:
        resource = manifest(**(relay or {}))
        made = {key: value(server.url) if callable(value) else value for key, value in changes.items()}
        resource["spec"]["outcomes"] = [declared(server.url, **made)]
        with (
            running_relay(resource, environ) as running,
            FakeWorker(running.socket, slots=slots, json_schema=True) as worker,
        ):
            yield Table(running, worker, server)


def names_of(events: list[Event]) -> list[str]:
    """Return the kinds of events, with what data events are about; the same kinds in a row count once."""
    names = [f"data {one.data['action']}" if one.name == "data" else one.name for one in events]
    return [name for at, name in enumerate(names) if at == 0 or name != names[at - 1] or name.startswith("data")]


@contextlib.contextmanager
def stopped_in(table: Table, phase: str) -> Iterator[tuple[Stream, str]]:
    """Bring a turn to a phase, and no further; yield its stream and the id of the job that the worker runs."""
    wishes: dict[str, Any] = {"context": {"sparks": True}} if phase == "context" else {}
    held = {"context": "/sparks", "writes": "/pois"}.get(phase)
    event = table.outside.hold(held) if held else None
    with table.ask(**wishes) as stream:
        running = stream.headers["x-job-id"]
        if phase == "context":
            table.outside.wait_call("/sparks")
        elif phase == "narrative":
            table.worker.speak(table.worker.begin(), "The ")
            stream.next("token")
        elif phase in ("intents", "writes"):
            table.narrate()
            running = table.worker.begin().job_id
        if phase == "writes":
            table.worker.speak(generation(running), '{"poi":{"action":"create"}}')
            table.worker.finish(generation(running), 1)
            table.outside.wait_call("/pois")
        yield stream, running
        if event is not None:
            event.set()


def generation(job_id: str) -> frames.Generate:
    """Return what the fake worker needs of a job that it was given."""
    return frames.Generate(job_id=job_id, max_tokens=9, correlation_id="c")
