"""What tests of the dungeon master begin with: its contract on a relay, a journal behind a proxy, a worker that we play."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from support.fake_worker import FakeWorker
from support.journals import FOLDER, Between, Journal, between, running_journal
from support.processes import Relay, running_relay
from support.streams import Event, Stream

NARRATIVE = ("You ", "enter ", "— ", "ünder ", "\x01moss.\n")
INTENTS: dict[str, Any] = {
    "location": {"name": "The Mill"},
    "quest": {"action": "create", "title": "Find the bell", "description": "It rang."},
    "combat": {"action": "create", "enemies": ["wolf"]},
    "poi": {"action": "create", "name": "Mossy Door", "description": "Green."},
}
ALLOWED = {"quest": True, "combat": True, "poi": True}
INPUTS = {"session": "s", "hero": "Mira", "place": "the mill", "event": "wolves come"}


def resource(journal: str) -> dict[str, Any]:
    """Return the example's manifest with its sinks at a journal, which may take longer than a machine stalls."""
    made: dict[str, Any] = yaml.safe_load(
        (FOLDER / "worker.yaml").read_text().replace("http://journal/", f"{journal}/")
    )
    for outcome in made["spec"]["outcomes"]:
        for called in (*outcome["context"], *outcome["sinks"]):
            called["timeoutSeconds"] = 60
        outcome["limits"] |= {"contextSeconds": 60, "writeSeconds": 240}
    return made


class Game(NamedTuple):
    """Who takes part in a turn of the example."""

    relay: Relay
    worker: FakeWorker
    journal: Journal
    between: Between

    def answer(self, **intents: Any) -> None:
        """Be the model for one turn: answer both questions."""
        self.worker.serve(*NARRATIVE)
        self.worker.serve(json.dumps(INTENTS | intents))

    def turn(self, intents: dict[str, Any] | None = None, **changes: Any) -> list[Event]:
        """Play one turn and return its events."""
        body = {"contract": "dungeon-master", "inputs": INPUTS, "policy": ALLOWED} | changes
        headers = {"Accept": "text/event-stream"}
        with Stream(self.relay.port, "/v1/turns", method="POST", body=body, headers=headers) as stream:
            self.answer(**(intents or {}))
            return stream.rest()

    def kept(self) -> dict[str, int]:
        """Return how many entries of each kind the journal has."""
        return {kind: len(self.journal.get(f"/{kind}")) for kind in ("quests", "combats", "pois", "narratives")}


@contextlib.contextmanager
def playing_game() -> Iterator[Game]:
    """Run the example with a model that a test plays."""
    with (
        running_journal() as journal,
        between(journal.url) as proxy,
        running_relay(resource(proxy.url)) as relay,
        FakeWorker(relay.socket, json_schema=True, model="smollm2") as worker,
        worker.breathing(),
    ):
        yield Game(relay, worker, journal, proxy)


def play_turns(relay: str, journal: str, *args: str) -> subprocess.Popen[str]:
    """Start the example's client."""
    command = [sys.executable, str(FOLDER / "play_turns.py"), "--relay", relay, "--journal", journal, *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
