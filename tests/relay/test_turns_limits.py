"""What a turn may not be: requests that are refused, contracts that cannot work, and turns beyond the limit."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from rhapsode_contract import frames, names
from support.fake_worker import FakeWorker
from support.processes import Relay, free_port, manifest, running_relay, wait_until
from support.requests import assert_error
from support.streams import Stream
from support.turns import INTENTS, Table, declared, request, sitting


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    with sitting() as running, running.worker.breathing():
        yield running


def send(table: Table, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body)
    return httpx.post(f"{table.relay.url}/v1/turns", content=content, headers=headers)


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        (b"", 400, "invalid_json", "empty"),
        (b"{", 400, "invalid_json", "not JSON"),
        (b"[]", 400, "invalid_request", "Expected"),
        ({}, 400, "invalid_request", "contract"),
        (request(contract="other"), 404, "contract_not_found", "there is no contract 'other'; there are tale"),
        (request(contract="x" * 64), 400, "invalid_request", "contract"),
        (request(contract="a\u0000\u001b[31m"), 404, "contract_not_found", "there are tale"),
        (request(model="other"), 404, "model_not_found", "'other' is not served here"),
        (request(inputs={}), 400, "invalid_inputs", "prompt.narrative, line"),
        (request(inputs=[]), 400, "invalid_request", "inputs"),
        (request(policy=1), 400, "invalid_request", "policy"),
        (request(max_tokens=0), 400, "invalid_request", "max_tokens"),
        (request(dry_run="yes"), 400, "invalid_request", "dry_run"),
        (b'{"contract":"tale","inputs":' + b'{"a":' * 100_000, 413, "body_too_large", "262144"),
        (b'{"contract":"tale","inputs":' + b'{"a":' * 20_000, 400, "invalid_json", "not JSON"),
        (request(inputs={"action": "x" * 300_000}), 413, "body_too_large", "262144 bytes"),
    ],
)  # fmt: skip
def test_what_is_no_turn_is_refused(table: Table, body: Any, status: int, code: str, words: str) -> None:
    error = assert_error(send(table, body), status, code)
    assert words in error["message"]
    assert error["message"].isprintable()


def test_inputs_are_data_and_never_a_template_or_an_address(table: Table) -> None:
    table.outside.calls.clear()
    wild = "{{ 7 * 7 }}{% include 'x' %}\u0000\u001b[31m ünder"
    with table.ask(inputs={"action": wild, "campaign": {"a": [None]}}, url="http://evil", sinks=[]) as stream:
        asked = table.narrate()
        table.intend()
        assert stream.rest()[-2].name == "end"
    assert (asked.messages or [])[-1].content == wild
    assert table.outside.calls[0].body["campaign"] == {"a": [None]}
    assert not [line for line in table.relay.lines if "7 * 7" in line]


def test_a_largest_body_is_taken(table: Table) -> None:
    with table.ask(inputs={"action": "\u0001" * 40_000}) as stream:
        assert len((table.narrate().messages or [])[-1].content) == 40_000
        table.intend()
        assert stream.rest()[-2].name == "end"


def test_turns_beyond_the_limit_are_sent_away_and_come_in_later() -> None:
    with sitting(relay={"turnLimit": 2}) as table, table.ask() as one, table.ask() as two:
        answer = table.post()
        assert_error(answer, 503, "turns_full", retryable=True)
        assert int(answer.headers["retry-after"]) >= 1
        first, second = table.worker.begin(), table.worker.begin()
        table.worker.speak(first, "a")
        table.worker.finish(first, 1)
        table.intend()
        assert one.rest()[-2].name == "end"
        with table.ask() as three:
            table.play()
            assert three.rest()[-2].name == "end"
        table.worker.speak(second, "b")
        table.worker.finish(second, 1)
        table.intend()
        assert two.rest()[-2].name == "end"


def test_an_engine_that_cannot_be_constrained_has_no_turns() -> None:
    resource = manifest()
    resource["spec"]["outcomes"] = [declared("http://127.0.0.1:9")]
    with running_relay(resource) as relay, FakeWorker(relay.socket):
        wait_until(lambda: relay.get("/v1/worker").json()["phase"] == "ready", "the worker is ready")
        answer = httpx.post(f"{relay.url}/v1/turns", json=request())
        assert_error(answer, 400, "unsupported")


@pytest.mark.parametrize("able", [True, False])
def test_a_turn_that_comes_while_the_engine_loads_waits_until_it_is_known_what_it_can(able: bool) -> None:
    resource = manifest()
    resource["spec"]["outcomes"] = [declared("http://127.0.0.1:9")]
    asked: dict[str, Any] = {"method": "POST", "body": request(), "headers": {"Accept": "text/event-stream"}}
    with (
        running_relay(resource) as relay,
        FakeWorker(relay.socket, ready=False) as worker,
        Stream(relay.port, "/v1/turns", **asked) as stream,
    ):
        stream.next("queued")
        worker.send(frames.State(phase="ready", caps=frames.Caps(slots=1, json_schema=able)))
        if able:
            worker.serve("a")
            worker.serve(json.dumps(INTENTS))
            assert stream.rest()[-2].name == "end"
        else:
            command = worker.begin()
            error = stream.until("error")[-1].data
            assert (error["error"]["code"], error["retryable"]) == ("unsupported", False)
            assert worker.receive(frames.Cancel).job_id == command.job_id


def test_a_worker_without_contracts_says_so(shared: Relay) -> None:
    error = assert_error(httpx.post(f"{shared.url}/v1/turns", json=request()), 404, "contract_not_found")
    assert "spec.outcomes" in error["message"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": {"type": "objet"}}, "spec.outcomes[0].schema.type: "),
        ({"prompt": {"narrative": "{% if %}", "intents": "x"}}, "spec.outcomes[0].prompt.narrative: line 1"),
        ({"prompt": {"narrative": "{{ input.x }}", "intents": "x"}}, "spec.outcomes[0].prompt.narrative: input is none"),
        ({"normalize": [{"path": "/intents/nothing/name"}]}, "spec.outcomes[0].normalize[0].path: the schema has no"),
    ],
)  # fmt: skip
def test_a_contract_that_cannot_work_ends_the_relay_with_one_line(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    resource = manifest()
    resource["spec"]["outcomes"] = [declared("http://127.0.0.1:9", **changes)]
    (tmp_path / "m.json").write_text(json.dumps(resource))
    environ = {
        names.ENV_MANIFEST: str(tmp_path / "m.json"),
        names.ENV_SOCKET: str(tmp_path / "w.sock"),
        names.ENV_PORT: str(free_port()),
    }
    done = subprocess.run(
        [sys.executable, "-m", "rhapsode_relay"], env=os.environ | environ, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == names.EXIT_CANNOT_WORK
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"rhapsode-relay: {words}")
