"""A client streams through the relay's Service, and sees what the worker does."""

from e2e.clients import Client
from e2e.clusters import Cluster
from e2e.conftest import Apply
from e2e.workers import worker


def test_a_client_gets_narration_and_tokens_through_the_service(apply: Apply, client: Client) -> None:
    sim = apply(worker("sim"))
    sim.ready()
    with client.asking("sim", sim.namespace, "--streams", "4", "--tokens", "30") as asking:
        results = asking.results(4)
    assert [(one["how"], one["whole"], one["tokens"], one["cuts"]) for one in results] == [("end", True, 30, 0)] * 4
    assert any("First token" in said for said in asking.said())


def test_a_real_model_answers(apply: Apply, client: Client, cluster: Cluster) -> None:
    smollm = apply(
        worker(
            "smollm",
            engine={"name": "OpenVINO", "maxContextTokens": 1024},
            model={"source": "builtin://smollm2-135m"},
        )
    )
    with client.asking("smollm", smollm.namespace, "--tokens", "24", "--prompt", "Count to ten, friend") as asking:
        asking.heard("Loading weights")
        result = asking.result(180)
    assert (result["how"], result["whole"]) == ("end", True)
    assert 0 < result["tokens"] <= 24
    assert result["text"].strip()
    smollm.ready()
