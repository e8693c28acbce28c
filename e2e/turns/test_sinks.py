"""Sinks with secrets, sinks that are required, and replicas that come and go under a turn."""

import pytest
from e2e.clients import Client
from e2e.clusters import Cluster, condition_of, until
from e2e.tables import STREAM, Table, contract, has_written, lay_table, written
from e2e.workers import worker

INPUTS = {"hero": "Mira"}
SECRET = {"prefix": "Bearer ", "secretRef": {"name": "journal-key", "key": "key"}}
CONTRACTS = [
    contract("keyed", {"name": "kept", "url": "http://recorder/kept", "secretHeader": SECRET}),
    contract(
        "strict",
        {"name": "broken", "url": "http://recorder/broken", "required": True},
        {"name": "later", "url": "http://recorder/later"},
    ),
    contract("long", {"name": "kept", "url": "http://recorder/long"}, generation={"narrativeTokens": 120}),
]
PAIR = worker(
    "pair",
    engine={"name": "OpenVINO", "maxSequences": 4, "maxContextTokens": 512},
    model={"source": "builtin://smollm2-135m"},
    replicas=2,
    outcomes=CONTRACTS,
)


@pytest.fixture(scope="module")
def pair(cluster: Cluster, client: Client, room: str) -> Table:
    _give_key(cluster, room, "first")
    return lay_table(cluster, room, PAIR)


def _give_key(cluster: Cluster, namespace: str, key: str) -> None:
    metadata = {"name": "journal-key"}
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"key": key}}, namespace)


def test_a_new_secret_goes_with_the_next_call_and_nothing_restarts(pair: Table) -> None:
    assert written(pair.turn(contract="keyed", inputs=INPUTS).whole()) == {"kept": "written"}
    (first,) = until(lambda: pair.recorded(authorization="Bearer first"), "the recorder's log has the call")
    assert "first" not in first["body"]["text"]
    before = _restarts(pair)
    _give_key(pair.cluster, pair.namespace, "second")
    # a kubelet looks at a pod's Secrets once a minute, and at once when the pod is changed
    pair.cluster.kubectl("annotate", "pods", "pair-0", "pair-1", "-n", pair.namespace, "e2e/look=now")
    until(lambda: _uses_second(pair), "the new key is shown", 150)
    assert _restarts(pair) == before


def _uses_second(pair: Table) -> bool:
    turns = [pair.turn(pod=pod, contract="keyed", inputs=INPUTS).whole()["job_id"] for pod in ("pair-0", "pair-1")]
    return all(pair.recorded(authorization="Bearer second", x_rhapsode_turn=turn) for turn in turns)


def _restarts(pair: Table) -> list[tuple[str, int]]:
    pods = pair.cluster.pods(pair.name, pair.namespace)
    every = [(pod["metadata"]["uid"], pod["status"]["containerStatuses"]) for pod in pods]
    return sorted((uid, sum(one["restartCount"] for one in statuses)) for uid, statuses in every)


def test_a_required_sink_that_fails_ends_the_turn_and_no_later_one_is_called(pair: Table) -> None:
    told = pair.turn(contract="strict", inputs=INPUTS, headers=STREAM).events()
    assert "end" not in dict(told)
    assert dict(told)["error"]["error"]["code"] == "sink_required_failed"
    answer = pair.turn(contract="strict", inputs=INPUTS)
    assert (answer.status, answer.json()["error"]["code"]) == (502, "sink_required_failed")
    until(lambda: "/broken" in _paths(pair), "the recorder's log has the call")
    assert "/later" not in _paths(pair)


def _paths(pair: Table) -> list[str]:
    return [one["path"] for one in pair.recorded()]


def test_a_turn_that_meets_a_loading_replica_is_told_by_the_other(pair: Table) -> None:
    before = _restarts(pair)
    with pair.turning_once_away("pair-1", STREAM, contract="keyed", inputs=INPUTS) as asking:
        pair.cluster.kill("pair-1", "worker", pair.namespace)
        told = asking.answer().events()
    assert told[0][1]["job_id"].startswith("pair-0-")
    assert written(dict(told)["end"]) == {"kept": "written"}
    until(lambda: _restarts(pair) != before and _is_ready(pair, "pair-1"), "pair-1 is ready again")


def test_a_turn_that_was_left_is_written_while_its_pod_ends_and_the_service_goes_on(pair: Table) -> None:
    told = pair.turn(contract="long", inputs=INPUTS, headers=STREAM, leave_at="event: token").events()
    turn = told[0][1]["job_id"]
    pair.cluster.delete("pod", turn.rpartition("-")[0], pair.namespace, wait=False)
    assert written(pair.turn(contract="keyed", inputs=INPUTS).whole()) == {"kept": "written"}
    has_written(pair, turn, 1)


def _is_ready(pair: Table, pod: str) -> bool:
    status: str = condition_of(pair.cluster.get("pod", pod, pair.namespace), "Ready").get("status", "")
    return status == "True"
