"""What is said of a pod whose model an init container fetches: how it runs, waits, fails, and is forgiven."""

import json
from typing import Any

import pytest

from rhapsode_contract import events
from rhapsode_contract.conditions import FAILURES
from rhapsode_operator.judging import judge
from rhapsode_operator.narrating import Teller
from rhapsode_operator.observing import Pod, last_exit, read_pod
from rhapsode_operator.tales import Tale
from support.snapshots import COMING, RAN, conditions, container, opening, pod_body, told

JSON = dict[str, Any]
STALL_S = 600.0
DONE = {"terminated": {"exitCode": 0, "reason": "Completed"}}
LOAD = events.Load(seq=1, stage="fetching the model", percent=40)


def fetching(state: JSON, *, worker: JSON | None = None, restarts: int = 0, last: JSON | None = None) -> Pod:
    """Return a pod with an init container in a state."""
    found = container("model", state, restarts=restarts, last=last)
    body = pod_body(
        conditions=conditions(ready=False),
        initContainerStatuses=[container("relay", RAN, started=True), found],
        containerStatuses=[worker or container("worker", COMING)],
    )
    body["spec"]["initContainers"].append({"name": "model", "image": "registry.example/worker:1"})
    return read_pod(body)


def ended(code: int, reason: str = "Error", message: str = "") -> JSON:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def wrote(reason: str, message: str, code: int = 78) -> JSON:
    return ended(code, message=json.dumps({"reason": reason, "message": message}))


def waits(reason: str, message: str) -> JSON:
    return {"waiting": {"reason": reason, "message": message}}


BACKOFF = waits("CrashLoopBackOff", "back-off 10s restarting failed container=model")
COMPLAINT = events.Narration(seq=2, action="load_failed", human="Could not load m", level="error", actor="supervisor")


@pytest.mark.parametrize(
    ("found", "tale", "reason", "words"),
    [
        (fetching(RAN), told(opening("starting"), LOAD), "Loading", "w-0 fetches its model; status.load"),
        (fetching(RAN), None, "Loading", "w-0 fetches its model"),
        (fetching(COMING), None, "ImagePulling", "registry.example/worker:1 comes to n1"),
        (fetching(DONE), told(opening("starting"), LOAD), "Starting", "w-0 starts"),
        (fetching(DONE, worker=container("worker", RAN)), told(opening("loading")), "Loading", "loads its model"),
        (fetching(waits("ErrImagePull", "not found")), None, "ImagePull", "registry.example/worker:1 for w-0"),
        (fetching(waits("CreateContainerConfigError", 'secret "hub" not found')), None, "ContainerConfig", "model of w-0"),
        (fetching(BACKOFF, last=wrote("ModelGated", "hf://org/model is gated")), None, "ModelGated", "is gated"),
        (fetching(BACKOFF, last=wrote("FetchFailed", "answers 503", 1)), None, "FetchFailed", "answers 503"),
        (fetching(BACKOFF, last=ended(137, "OOMKilled")), None, "ContainerOOM", "model of w-0 used more memory"),
        (fetching(BACKOFF, last=ended(137)), None, "FetchFailed", "model of w-0 ended by signal 9"),
        (fetching(RAN, restarts=1, last=wrote("ModelGated", "gated")), told(opening("starting")), "ModelGated", "gated"),
        (fetching(RAN, restarts=1, last=wrote("FetchFailed", "503", 1)), told(opening("starting"), LOAD, COMPLAINT), "FetchFailed", "503"),
        (fetching(RAN, restarts=1, last=ended(137)), told(opening("starting"), LOAD), "Loading", "status.load"),
        (fetching(DONE, restarts=1, last=ended(137)), None, "Starting", ""),
    ],
)  # fmt: skip
def test_what_is_said_of_a_fetch(found: Pod, tale: Tale | None, reason: str, words: str) -> None:
    verdict = judge(found, tale, 0, STALL_S)
    assert verdict.reason == reason, verdict.message
    assert words in verdict.message
    assert not verdict.failing or verdict.message.endswith(FAILURES[reason].remedy)


def test_a_fetch_that_failed_is_forgiven_when_bytes_come_again() -> None:
    found = fetching(RAN, restarts=1, last=wrote("FetchFailed", "answers 503", 1))
    tale = told(opening("starting"), LOAD, COMPLAINT, events.Load(seq=3, stage=LOAD.stage, percent=40))
    assert judge(found, tale, 0, STALL_S).reason == "FetchFailed", "it only says again how far it was"
    tale.hear(events.Load(seq=4, stage=LOAD.stage, percent=41), 1.0)
    assert judge(found, tale, 1, STALL_S).reason == "Loading"


def test_a_fetch_that_gets_nowhere_is_stalled() -> None:
    tale = told(opening("starting"), LOAD)
    assert judge(fetching(RAN), tale, STALL_S - 1, STALL_S).reason == "Loading"
    verdict = judge(fetching(RAN), tale, STALL_S + 1, STALL_S)
    assert verdict.reason == "LoadStalled"
    assert "no progress with fetching the model for more than 600 s" in verdict.message


def test_the_status_shows_how_a_fetch_ended_unless_it_came_to_a_good_end() -> None:
    failed = fetching(BACKOFF, last=wrote("ModelGated", "hf://org/model is gated"))
    (first, *_) = [end for one in failed.by_weight if (end := last_exit(one))]
    assert (first.reason, first.code) == ("ModelGated", 78)
    assert [last_exit(one) for one in fetching(DONE).by_weight] == [None, None]


def test_those_who_wait_hear_that_a_fetch_is_started_again() -> None:
    teller = Teller()
    said = [
        one.human
        for found in (fetching(RAN), fetching(RAN, restarts=1, last=ended(137, "OOMKilled")))
        for one in teller.tell(found, judge(found, None, 0, STALL_S), 0)
    ]
    assert said == [
        "Pod w-0 has a place on node n1",
        "The model's fetch ended by OOMKilled and is started again, number 1",
    ]
