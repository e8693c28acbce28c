"""What goes wrong is told apart, in the status and to the client who waits."""

import pytest
from e2e.clients import Client
from e2e.conftest import Apply
from e2e.workers import worker


def test_a_wrong_engine_option_stalls_and_says_which_are_known(apply: Apply) -> None:
    found = apply(worker("typo", options={"tempo": "allegro"})).reason("BadEngineOption", "Stalled")
    assert "tempo" in found["message"]


def test_no_free_gpu_is_unschedulable_and_says_what_is_missing(apply: Apply, client: Client) -> None:
    greedy = apply(worker("greedy", gpus=64))
    found = greedy.reason("Unschedulable")
    assert "nvidia.com/gpu" in found["message"]


def test_cuda_out_of_memory_is_told_from_the_containers(apply: Apply) -> None:
    faults = [{"kind": "oom", "at": "loading weights", "askedGiB": 60, "freeGiB": 40}]
    found = apply(worker("cuda", options={"faults": faults})).reason("CUDAOutOfMemory")
    assert "60" in found["message"]
    assert "40" in found["message"]


def test_the_containers_own_memory_limit_is_container_oom(apply: Apply) -> None:
    needs = {"requests": {"cpu": "10m"}, "limits": {"memory": "24Mi"}}
    apply(worker("small", resources={"worker": needs})).reason("ContainerOOM", seconds=120)


def test_a_load_that_goes_silent_is_stalled_after_the_seconds_of_the_spec(apply: Apply) -> None:
    faults = [{"kind": "stall", "at": "loading weights"}]
    silent = apply(worker("silent", options={"faults": faults}, load={"stallSeconds": 10}))
    assert "10 s" in silent.reason("LoadStalled")["message"]


@pytest.mark.parametrize("name", ["absent"])
def test_an_image_that_cannot_be_pulled_is_told(apply: Apply, name: str) -> None:
    absent = apply(worker(name, image={"worker": "rhapsode-worker-cpu:absent"}))
    assert "rhapsode-worker-cpu:absent" in absent.reason("ImagePull")["message"]
