"""The whole way, on a real API server with real relays and workers: apply, load, serve, scale, roll out, delete."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.fake_nvml import GIB, FakeNvml
from support.gated_engine import SPEECH, Gates
from support.kubelet import Kubelet
from support.operators import PATIENCE_S, Cluster, kill
from support.pod_audits import PodAudit
from support.pod_calls import PodCall
from support.processes import wait_until

JSON = dict[str, Any]
STAGES = ("fetching", "loading weights")
LOAD = [{"stage": "fetching", "seconds": 0.7}, {"stage": "loading weights", "seconds": 1.5}]


def ask(kubelet: Kubelet, pod: str, tokens: int = 5) -> PodCall:
    return PodCall(kubelet.address(pod), tokens)


def columns(table: str) -> dict[str, str]:
    """Return the cells of the first line of what kubectl prints."""
    head, line = table.splitlines()[:2]
    starts = [at for at, char in enumerate(head) if char != " " and (at == 0 or head[at - 1] == " ")]
    cells = [line[begin:end].strip() for begin, end in zip(starts, [*starts[1:], None], strict=True)]
    return dict(zip(head.split(), cells, strict=True))


@pytest.fixture
def gpus(tmp_path: Path) -> FakeNvml:
    return FakeNvml(tmp_path, gpus=2)


@pytest.fixture
def measured(cluster: Cluster, gates: Gates, gpus: FakeNvml) -> Iterator[Kubelet]:
    with Kubelet(cluster.server, environ=gates.environ | gpus.environ) as running:
        yield running


def test_from_apply_to_a_stream_with_progress_and_vram_in_the_status(
    cluster: Cluster, gates: Gates, gpus: FakeNvml, measured: Kubelet
) -> None:
    gates.hold(*STAGES)
    operator = cluster.operate()
    cluster.apply(gpus=1, options={"load": LOAD})
    stages = []
    for stage in STAGES:
        seen = cluster.wait_status("sim", f"is {stage}", partial(_does, stage))
        stages.append(seen["load"])
        assert seen["phase"] == "Loading"
        assert seen["conditions"][0]["status"] == "False"
        gates.release(stage)
    assert stages[0]["since"] < stages[1]["since"]
    assert all(load["summary"].startswith(load["stage"]) for load in stages)
    gpus.gpus[0].used = 70 * GIB
    cluster.wait_ready()
    status = cluster.wait_status("sim", "tells what the GPU holds", lambda status: _used(status) > 70 * 1024)
    assert (status["vram"]["source"], status["vram"]["totalMiB"]) == ("nvml", 160 * 1024)
    assert [gpu["pod"] for gpu in status["vram"]["gpus"]] == ["sim-0", "sim-0"]
    assert status["load"]["summary"] == "loaded"
    assert status["readyReplicas"] == status["updatedReplicas"] == status["replicas"] == 1
    with ask(measured, "sim-0") as call:
        call.finish()
    assert operator.complaints() == []
    assert operator.errors == []


def _does(stage: str, status: JSON) -> bool:
    return (_stage(status), status.get("phase")) == (stage, "Loading")


def _tells_the_end(status: JSON) -> bool:
    said = status.get("narration", {}).get("text", "")
    return _stage(status) == "loaded" and str(said).startswith("Ready after")


def _stage(status: JSON) -> str:
    return str(status.get("load", {}).get("stage", ""))


def _used(status: JSON) -> int:
    return int(status.get("vram", {}).get("usedMiB", 0))


def test_kubectl_says_the_right_things(cluster: Cluster, gates: Gates, gated: Kubelet) -> None:
    gates.hold(*STAGES)
    cluster.operate()
    cluster.apply(options={"load": LOAD})
    for stage in STAGES:
        cluster.wait_told("sim", f"sim-0: {stage}")
        gates.release(stage)
    cluster.kubectl("wait", "--for=condition=Ready", "iw/sim", "--timeout=120s")
    cluster.wait_status("sim", "tells that it is loaded", _tells_the_end)
    narrow = columns(cluster.kubectl("get", "iw"))
    assert list(narrow) == ["NAME", "READY", "PHASE", "LOAD", "VRAM", "MODEL", "AGE"]
    assert list(narrow.values())[:-1] == ["sim", "True", "Ready", "loaded", "n/a", "builtin://simulator"]
    wide = columns(cluster.kubectl("get", "iw", "-o", "wide"))
    assert (wide["ENGINE"], wide["NODE"], wide["REASON"]) == ("Simulator", "node-0", "AllReplicasReady")
    assert wide["ENDPOINT"] == f"http://sim.{cluster.namespace}.svc:8080"
    assert wide["NARRATION"].startswith("Ready after")
    told = cluster.kubectl("describe", "iw", "sim")
    for words in ("1 of 1 pod serving", "AllReplicasReady", "LoadStage", "loaded"):
        assert words in told
    assert "Pods that serve this model." in cluster.kubectl("explain", "iw.spec.replicas")
    assert "sim" in cluster.kubectl("get", "ml")
    assert cluster.warnings() == []
    assert cluster.status()["observedGeneration"] == 1
    cluster.patch("sim", {"load": {"stallSeconds": 30}})
    cluster.wait_status("sim", "tells of the second spec", lambda status: status["observedGeneration"] == 2)
    before = cluster.uids()
    cluster.kubectl("annotate", "iw/sim", "kubectl.kubernetes.io/restartedAt=2026-01-01T00:00:00Z")
    wait_until(lambda: cluster.uids() and cluster.uids() != before, "an annotation makes a new pod", PATIENCE_S)
    cluster.wait_ready()


def test_scaling_adds_pods_and_drains_those_that_go(cluster: Cluster, gates: Gates, gated: Kubelet) -> None:
    gates.hold(SPEECH)
    cluster.operate()
    cluster.apply()
    cluster.wait_ready()
    cluster.kubectl("scale", "iw/sim", "--replicas=2")
    status = cluster.wait_ready()
    assert [one["pod"] for one in status["workers"]] == ["sim-0", "sim-1"]
    stayed = cluster.uids()["sim-0"]
    with ask(gated, "sim-1", tokens=400) as call:
        call.wait()
        cluster.kubectl("scale", "iw/sim", "--replicas=1")
        cluster.wait_condition("Ready", "Scaling")
        gates.release(SPEECH)
        call.finish()
    cluster.wait_pods("sim", 1)
    assert cluster.wait_ready()["replicas"] == 1
    assert cluster.uids() == {"sim-0": stayed}


def test_a_rollout_lets_a_running_stream_finish_and_replaces_one_pod_at_a_time(
    cluster: Cluster, gates: Gates, gated: Kubelet
) -> None:
    gates.hold(SPEECH)
    operator = cluster.operate()
    cluster.apply(replicas=2)
    cluster.wait_ready()
    before = cluster.uids()
    with PodAudit(cluster.server, cluster.namespace, {"sim": 2}) as audit:
        audit.begin_to_count("sim")
        with ask(gated, "sim-1", tokens=500) as call:
            call.wait()
            cluster.apply(replicas=2, options={"seed": 7})
            cluster.wait_condition("Ready", "RollingOut")
            wait_until(lambda: '"event":"rollout"' in gated.logs("sim-1"), "the relay is told", PATIENCE_S)
            gates.release(SPEECH)
            call.finish()
        cluster.wait_ready()
        audit.catch_up()
        assert audit.story[-4:] == ["- sim-1", "+ sim-1", "- sim-0", "+ sim-0"]
        assert audit.fewest["sim"] == 1
    after = cluster.uids()
    assert set(after) == set(before)
    assert not set(after.values()) & set(before.values())
    assert operator.complaints() == []


def test_a_rollout_that_is_taken_back_half_way_still_ends_with_pods_that_serve(
    cluster: Cluster, gates: Gates, gated: Kubelet
) -> None:
    """A relay that was told to drain never takes anything again, whatever the spec says later."""
    gates.hold(SPEECH)
    first = cluster.operate()
    cluster.apply()
    cluster.wait_ready()
    with ask(gated, "sim-0", tokens=600) as call:
        call.wait()
        cluster.apply(options={"seed": 7})
        cluster.wait_condition("Ready", "RollingOut")
        wait_until(lambda: _drains(cluster), "the pod drains", PATIENCE_S)
        kill(first)
        cluster.apply()
        cluster.operate().wait_leading()
        gates.release(SPEECH)
        call.finish()
    cluster.wait_ready()
    with ask(gated, "sim-0") as call:
        call.finish()


def _drains(cluster: Cluster) -> bool:
    conditions = cluster.pods()["sim-0"]["status"]["conditions"]
    return any(one["type"] == "Ready" and one["status"] == "False" for one in conditions)


def test_suspending_drains_all_pods_and_keeps_the_rest(cluster: Cluster, gates: Gates, gated: Kubelet) -> None:
    gates.hold(SPEECH)
    cluster.operate()
    cluster.apply()
    cluster.wait_ready()
    with ask(gated, "sim-0", tokens=300) as call:
        call.wait()
        cluster.patch("sim", {"suspend": True})
        cluster.wait_condition("Ready", "Draining")
        gates.release(SPEECH)
        call.finish()
    cluster.wait_condition("Ready", "Suspended")
    assert cluster.pods() == {}
    assert cluster.status()["phase"] == "Suspended"
    assert cluster.kubectl("get", "service/sim", "service/sim-pods", "-o", "name").count("\n") == 2
    cluster.patch("sim", {"suspend": False})
    cluster.wait_ready()
