"""The Job that checks a node's GPU: an API server takes it, and it runs as a worker's container does."""

from typing import Any

import yaml

from rhapsode_operator.settings import default_image
from support.api_server import ApiServer
from support.documents import ROOT

PATH = ROOT / "examples/jobs/selfcheck.yaml"


def container() -> dict[str, Any]:
    job = yaml.safe_load(PATH.read_text())
    found: dict[str, Any] = job["spec"]["template"]["spec"]["containers"][0]
    return found


def test_an_api_server_knows_every_field(chart_server: ApiServer) -> None:
    said = chart_server.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(PATH))
    assert said == "job.batch/rhapsode-selfcheck created (server dry run)\n"


def test_it_asks_as_much_of_a_cluster_as_a_worker() -> None:
    checked = container()
    assert checked["image"] == default_image("rhapsode-worker-tensorrt-llm")
    assert checked["command"][:2] == ["rhapsode", "selfcheck"]
    assert checked["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {mount["mountPath"] for mount in checked["volumeMounts"]} == {"/dev/shm", "/tmp"}


def test_its_time_is_over_before_the_pods() -> None:
    job = yaml.safe_load(PATH.read_text())
    assert float(container()["command"][-1]) < job["spec"]["activeDeadlineSeconds"]
