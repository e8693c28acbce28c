"""What those who wait at a relay hear of what only the operator sees: each thing once."""

import pytest

from rhapsode_contract.catalogue import CATALOGUE
from rhapsode_contract.conditions import REASONS
from rhapsode_contract.names import MAX_HUMAN_CHARS
from rhapsode_operator.judging import Verdict, judge
from rhapsode_operator.narrating import STILL_S, Teller, outdated
from rhapsode_operator.observing import Pod, read_pod
from support.snapshots import COMING, RAN, conditions, container, pod, pod_body


def told(teller: Teller, seen: Pod, now: float = 0.0) -> list[str]:
    return [one.human for one in teller.tell(seen, judge(seen, None, now, 600), now)]


def with_worker(**worker: object) -> Pod:
    made = container("worker", **worker)  # type: ignore[arg-type]
    up = container("relay", RAN, started=True)
    return read_pod(
        pod_body(conditions=conditions(ready=False), initContainerStatuses=[up], containerStatuses=[made])
    )


def test_a_cold_start_is_told_step_by_step() -> None:
    teller, pulling = Teller(), pod(state="pulling")
    assert told(teller, pulling, 0) == [
        "Pod w-0 has a place on node n1",
        "Pulling the worker's image registry.example/worker:1 to n1",
    ]
    assert told(teller, pulling, STILL_S - 1) == []
    assert told(teller, pulling, STILL_S) == ["Still pulling registry.example/worker:1: 15 s"]
    assert told(teller, pulling, STILL_S + 1) == []
    assert told(teller, pulling, 3 * STILL_S) == ["Still pulling registry.example/worker:1: 45 s"]
    assert told(teller, pod(state="loading"), 60) == []
    assert told(teller, pod(state="serving"), 90) == []


def test_an_image_that_cannot_be_pulled_is_told_with_its_remedy() -> None:
    teller = Teller()
    told(teller, pod(state="pulling"))
    refused = with_worker(state={"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}})
    (said,) = teller.tell(refused, judge(refused, None, 0, 600), 0)
    assert said.level == "error"
    assert "manifest unknown" in said.human
    assert told(teller, refused, 60) == [], "once"
    assert told(teller, pod(state="pulling"), 61) == ["Pulling the worker's image registry.example/worker:1 to n1"]


def test_however_long_a_runtime_s_words_the_cause_and_the_remedy_are_told() -> None:
    image = "docker.io/library/rhapsode-worker-cpu:none"
    words = (
        f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": failed to do request: Head'
        f' "https://registry-1.docker.io/v2/{image}/manifests/none": dial tcp: lookup registry-1.docker.io: no such host'
    )
    refused = with_worker(state={"waiting": {"reason": "ErrImagePull", "message": words}})
    said = told(Teller(), refused)[-1]
    assert said.startswith("registry.example/worker:1 for w-0 cannot be pulled: failed to pull")
    assert said.endswith(f"no such host. {REASONS['ImagePull'].remedy}")
    assert len(said) <= MAX_HUMAN_CHARS


@pytest.mark.parametrize(
    ("code", "reason", "how"),
    [(137, "OOMKilled", "OOMKilled"), (139, "Error", "exit code 139"), (0, "Completed", "Completed"), (1, "", "exit code 1")],
)  # fmt: skip
def test_a_restart_is_told_once_with_how_the_container_ended(code: int, reason: str, how: str) -> None:
    teller = Teller()
    told(teller, pod(state="loading"))
    last = {"terminated": {"exitCode": code, "reason": reason}}
    again = with_worker(state=RAN, restarts=1, last=last)
    assert told(teller, again) == [f"The worker ended by {how} and is started again, number 1"]
    assert told(teller, again) == []


def test_a_load_that_stalls_is_told_once_and_again_when_it_stalls_again() -> None:
    teller, loading = Teller(), pod(state="loading")
    stalled, loads = Verdict("LoadStalled", "w-0 made no progress"), Verdict("Loading", "")
    teller.tell(loading, loads, 0)
    heard = [teller.tell(loading, verdict, now) for now, verdict in enumerate((stalled, stalled, loads, stalled))]
    assert [len(said) for said in heard] == [1, 0, 0, 1]
    assert heard[0][0].human == "w-0 made no progress"


def test_an_operator_that_starts_anew_tells_a_serving_pod_nothing_of_its_past() -> None:
    last = {"terminated": {"exitCode": 1, "reason": "Error"}}
    serving = with_worker(state=RAN, ready=True, started=True, restarts=3, last=last)
    teller = Teller()
    assert told(teller, serving) == []
    assert told(teller, with_worker(state=RAN, restarts=4, last=last)) != []


def test_nothing_is_told_before_a_pod_has_a_place() -> None:
    assert told(Teller(), pod(state="new")) == []


def test_a_pod_that_is_replaced_says_so() -> None:
    assert outdated(pod()).human == "w-0 is replaced by a new version; what runs here may finish"


def test_all_words_come_from_the_catalogue() -> None:
    teller = Teller()
    waiting = with_worker(state=COMING, restarts=1, last={"terminated": {"exitCode": 1}})
    said = teller.tell(waiting, Verdict("ImagePulling", ""), 0) + teller.tell(waiting, Verdict("LoadStalled", "x"), 1)
    assert {one.action for one in said} <= CATALOGUE.keys()
    assert {one.actor for one in said} == {"operator"}
