"""What the operator remembers between two looks, and what of it outlives it."""

from rhapsode_contract.names import OUTGOING
from rhapsode_contract.statuses import ReplicaStatus, Status
from rhapsode_operator.cases import ECHO_S, Case, Phases
from rhapsode_operator.planning import DrainSeen
from support.snapshots import opening, pod, told, worker


def case() -> Case:
    return Case(uid="u", failures={})


def test_how_often_names_failed_comes_back_from_the_status() -> None:
    kept = worker()
    kept.status.workers = [ReplicaStatus(pod="w-0", replaced=3), ReplicaStatus(pod="w-1")]
    assert Case.of(kept).failures == {"w-0": 3}


def test_failures_are_forgotten_when_the_name_serves_again() -> None:
    made = case()
    made.failures = {"w-0": 3, "w-1": 2}
    assert made.look([pod("w-0", "serving"), pod("w-1", "loading")], 0).failures == {"w-1": 2}


def test_the_pause_counts_from_when_a_failure_was_first_seen() -> None:
    made, failed = case(), pod("w-0", "failed")
    made.look([failed], 100)
    assert made.look([failed], 107).failed_for_s == {failed.uid: 7}


def test_what_was_remembered_of_a_pod_goes_with_it() -> None:
    made, gone = case(), pod("w-0", "failed")
    made.look([gone], 100)
    made.drained(gone, DrainSeen(1, 5), 100)
    made.note_removal(gone, 100)
    made.look([], 101)
    assert (made.failed_at, made.drains, made.drain_began, made.removed) == ({}, {}, {}, {})
    assert made.failures == {"w-0": 1}, "but not that its name failed"


def test_a_removal_counts_once_and_is_tried_again_only_when_the_watch_stays_silent() -> None:
    made, failed = case(), pod("w-0", "failed")
    assert made.may_remove(failed, 0)
    made.note_removal(failed, 0)
    assert not made.may_remove(failed, ECHO_S)
    assert made.may_remove(failed, ECHO_S + 0.1)
    made.note_removal(failed, ECHO_S + 0.1)
    assert made.failures == {"w-0": 1}
    made.note_removal(pod("w-1", "serving"), 0)
    assert made.failures == {"w-0": 1}, "a pod that served did not fail"


def test_a_drain_lasts_as_long_as_whoever_knows_it_longest_says() -> None:
    made, leaving = case(), pod()
    made.drained(leaving, DrainSeen(2, 90.0), 100)
    assert made.drains[leaving.uid] == (2, 90.0), "it began before us"
    made.drained(leaving, DrainSeen(2, 0.0), 250)
    assert made.drains[leaving.uid] == (2, 150.0), "the relay began anew"
    made.drained(leaving, None, 300)
    assert made.drains[leaving.uid] == (None, 200.0), "the relay is away"


def test_a_drain_for_good_is_found_by_the_next_operator_and_another_is_not() -> None:
    made, pods = case(), [pod("w-0"), pod("w-1"), pod("w-2", deleting=True)]
    outgoing = told(opening("draining", reason=OUTGOING))
    tales = {pods[0].uid: outgoing, pods[1].uid: told(opening("draining")), pods[2].uid: outgoing}
    made.find_drains(pods, tales, 0)
    assert list(made.drains) == [pods[0].uid]


def test_our_own_write_counts_until_the_watch_must_have_told_of_it() -> None:
    made, stale = case(), worker()
    made.status, made.status_at = Status(phase="Ready"), 100
    assert made.latest_status(stale, 100 + ECHO_S - 0.1).phase == "Ready"
    assert made.latest_status(stale, 100 + ECHO_S).phase is None


def test_phases_are_counted_as_they_change() -> None:
    counts: list[dict[str, int]] = []
    phases = Phases(counts.append)
    for name, phase in (("a", "Loading"), ("b", "Loading"), ("a", "Ready"), ("a", "Ready")):
        phases.note(("ns", name), phase)
    phases.forget(("ns", "b"))
    phases.forget(("ns", "b"))
    assert counts == [{"Loading": 1}, {"Loading": 2}, {"Loading": 1, "Ready": 1}, {"Ready": 1}]
