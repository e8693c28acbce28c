"""Events: one for each transition, under a name that makes a second one impossible."""

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_contract.conditions import REASONS
from rhapsode_contract.statuses import Condition, ConditionType, LastExit, ReplicaStatus, Status
from rhapsode_operator.announcing import MAX_NOTE, Announcement, announce, announce_stage, event_body
from support.api_server import ApiServer
from support.documents import ROOT
from support.snapshots import resource, worker

EARLY, LATER, LAST = (f"2026-11-21T1{hour}:00:00.000Z" for hour in range(3))
ANNOUNCED = sorted(REASONS.keys() - {"Creating", "Scheduling", "ImagePulling", "Starting", "Scaling"})


def ready(reason: str, since: str = EARLY, generation: int = 1, message: str = "so it is") -> Status:
    word: Any = "True" if reason == "AllReplicasReady" else "False"
    return status("Ready", word, reason, since, generation, message)


def status(kind: ConditionType, word: Any, reason: str, since: str, generation: int = 1, said: str = "") -> Status:
    made = Condition(type=kind, status=word, reason=reason, message=said)
    made.last_transition_time, made.observed_generation = since, generation
    return Status(conditions=[made])


def told(old: Status, new: Status) -> list[Announcement]:
    return list(announce(old, new))


def names(old: Status, new: Status) -> list[str]:
    return [name_of(one) for one in told(old, new)]


def name_of(said: Announcement) -> str:
    return str(event_body(worker(), said, LATER, "operator-0")["metadata"]["name"])


# Which


@pytest.mark.parametrize("reason", ANNOUNCED)
def test_a_transition_is_told_and_warns_only_when_a_person_must_act(reason: str) -> None:
    (said,) = told(ready("Starting"), ready(reason, LATER))
    assert (said.reason, said.note) == (reason, "so it is")
    assert said.type == ("Warning" if REASONS[reason].stalls else "Normal")


def test_steps_that_kubernetes_tells_itself_are_not_told() -> None:
    for reason in REASONS.keys() - set(ANNOUNCED):
        assert told(ready("Loading"), ready(reason)) == []


def test_the_same_state_in_other_words_is_no_transition() -> None:
    assert told(ready("ImagePull", message="a"), ready("ImagePull", LATER, 2, message="b")) == []


def test_the_first_status_is_told() -> None:
    assert [one.reason for one in told(Status(), ready("Loading"))] == ["Loading"]


@pytest.mark.parametrize(
    ("before", "now", "count"), [("False", "True", 1), ("True", "True", 0), ("True", "False", 0)]
)
def test_only_the_beginning_of_pressure_is_told(before: str, now: str, count: int) -> None:
    old, new = (status("VRAMPressure", word, "VRAMHigh", EARLY) for word in (before, now))
    assert [one.type for one in told(old, new)] == ["Warning"] * count


def test_a_restart_is_told_with_its_end() -> None:
    def having(restarts: int) -> Status:
        end = LastExit(reason="OOMKilled", code=137)
        return Status(workers=[ReplicaStatus(pod="w-0", restarts=restarts, last_exit=end)])

    (said,) = told(having(1), having(2))
    assert (said.type, said.reason) == ("Normal", "Restarted")
    assert said.note == "w-0 restarted: OOMKilled, exit code 137 (2 in all)"
    assert told(having(2), having(2)) == told(Status(), having(2)) == told(having(2), having(0)) == []


def test_a_pod_that_restarts_for_ever_is_told_of_ever_less_often() -> None:
    def having(restarts: int) -> Status:
        return Status(workers=[ReplicaStatus(pod="w-0", restarts=restarts)])

    each = [said.note for count in range(100) for said in told(having(count), having(count + 1))]
    assert [note.split("(")[1] for note in each] == [f"{2**power} in all)" for power in range(7)]
    (skipped,) = told(having(3), having(6))
    assert "(6 in all)" in skipped.note
    assert names(having(3), having(4)) == names(having(3), having(5)), "telling again is the same Event"


# Once


def test_telling_again_after_a_write_that_failed_is_the_same_event() -> None:
    """The moment of the transition is new each time, the name is not."""
    first, again = ready("AllReplicasReady", LATER), ready("AllReplicasReady", LAST)
    assert names(ready("Loading"), first) == names(ready("Loading"), again)
    pressed = [status("VRAMPressure", "True", "VRAMHigh", since) for since in (LATER, LAST)]
    calm = status("VRAMPressure", "False", "VRAMLow", EARLY)
    assert names(calm, pressed[0]) == names(calm, pressed[1])


def test_another_transition_is_another_event() -> None:
    found = [
        *names(ready("Loading", EARLY), ready("AllReplicasReady", LATER)),
        *names(ready("AllReplicasReady", LATER), ready("EngineCrash", LAST)),
        *names(ready("EngineCrash", LAST), ready("AllReplicasReady", LAST)),
        *names(ready("Loading", EARLY), ready("LoadStalled", EARLY)),
        *names(ready("Loading", EARLY, 1), ready("LoadStalled", EARLY, 2)),
        *names(ready("Loading", LATER), ready("LoadStalled", LATER)),
    ]
    assert len(set(found)) == len(found) == 6


def test_an_operator_that_starts_anew_finds_the_status_and_says_nothing() -> None:
    for reason in ANNOUNCED:
        assert told(ready(reason), ready(reason)) == []


def test_a_load_stage_is_told_once_for_each_load_of_each_pod() -> None:
    made = [("uid-a", "weights", 0), ("uid-a", "weights", 1), ("uid-a", "warming up", 0), ("uid-b", "weights", 0)]
    said = [announce_stage(uid, "w-0", stage, restarts) for uid, stage, restarts in made]
    assert len({name_of(one) for one in said}) == 4
    assert name_of(said[0]) == name_of(announce_stage("uid-a", "w-0", "weights", 0))
    assert (said[0].type, said[0].reason, said[0].note) == ("Normal", "LoadStage", "w-0: weights")


# Its shape


@given(st.text(max_size=2000))
def test_a_note_keeps_within_its_bound_and_is_whole_characters(note: str) -> None:
    body = event_body(worker(), Announcement("Normal", "Loading", note, ""), EARLY, "x" * 500)
    size = len(body["note"].encode())
    assert size <= MAX_NOTE
    assert note.startswith(body["note"])
    assert size > MAX_NOTE - 4 or body["note"] == note
    assert len(body["reportingInstance"]) == 128


def test_the_api_server_takes_it_once_and_kubectl_shows_it(api_server: ApiServer, namespace: str) -> None:
    api_server.install_crd(ROOT / "crds/inferenceworkers.rhapsode.dev.yaml")
    name = "w" * 52
    path = f"/apis/rhapsode.dev/v1alpha1/namespaces/{namespace}/inferenceworkers"
    made = api_server.post(path, resource(name, namespace))
    about = worker(name=name, namespace=namespace, uid=made["metadata"]["uid"])
    note = "0/3 nodes are available. " * 60
    moment = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    body = event_body(about, Announcement("Warning", "Unschedulable", note, "x"), moment, "operator-0")
    stored = api_server.post(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", body, fieldValidation="Strict")
    assert stored["note"] == note.encode()[:MAX_NOTE].decode()
    described = api_server.kubectl("describe", "inferenceworker", name, "-n", namespace)
    assert "Warning  Unschedulable" in described
