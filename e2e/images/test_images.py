"""The images hold what they run, run as nobody, and say what they are."""

import json
import os
import subprocess
from typing import Any

import pytest
from e2e.clusters import Cluster

from rhapsode_contract import __version__
from support.documents import ROOT

IMAGES = {
    "rhapsode-operator": "rhapsode_operator",
    "rhapsode-relay": "rhapsode_relay",
    "rhapsode-worker-cpu": "rhapsode_worker",
}


def _docker(*args: str) -> str:
    done = subprocess.run(["docker", *args], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _inside(image: str, *command: str) -> str:
    return _docker("run", "--rm", "--read-only", "--network=none", "--entrypoint", command[0], image, *command[1:])


@pytest.fixture(params=IMAGES, ids=str)
def image(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    return f"{request.param}:{cluster.tag}"


def test_an_image_holds_its_own_packages_and_the_contract(image: str) -> None:
    assert _inside(image, "ls", "/app").split() == sorted(["rhapsode_contract", IMAGES[image.partition(":")[0]]])


def test_an_image_begins_as_nobody_on_a_read_only_root_and_says_what_it_lacks(image: str) -> None:
    assert _inside(image, "id", "-u").strip() == "65532"
    command = ["docker", "run", "--rm", "--read-only", "--network=none", image]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    program = IMAGES[image.partition(":")[0]].replace("_", "-")
    assert done.stderr.startswith(f"{program}: "), done.stderr
    assert "Traceback" not in done.stderr


def test_an_image_says_what_it_is(image: str) -> None:
    found: Any = json.loads(_docker("image", "inspect", image))[0]["Config"]["Labels"]
    told = {name.removeprefix("org.opencontainers.image."): text for name, text in found.items()}
    assert told["title"] == image.partition(":")[0]
    assert told["licenses"] == "Apache-2.0"
    assert told["version"] == __version__
    assert {"description", "revision"} <= told.keys()


def test_the_models_layer_does_not_change_with_the_code(cluster: Cluster) -> None:
    """The layers under the code are shared: a change of the code ships less than two megabytes."""
    text = _docker(
        "history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Size}}", f"rhapsode-worker-cpu:{cluster.tag}"
    )
    layers = [line.rpartition("|") for line in text.splitlines() if line.startswith("COPY")]
    sizes = [size for _, _, size in layers]
    assert sizes[1].endswith("kB") or float(sizes[1].removesuffix("MB")) < 2, sizes
    assert sizes[2].startswith("98"), sizes


def test_the_same_files_make_the_same_layers(cluster: Cluster) -> None:
    """So a rebuilt image ships only what changed, whoever builds it."""
    environ = os.environ | {"DOCKER_BUILDKIT": "1"}
    command = ["docker", "build", "-q", "--no-cache", "-f", "relay/Dockerfile", "-t", "rhapsode-relay:again", "."]
    subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True, timeout=300)
    layers = "{{json .RootFS.Layers}}"
    again = _docker("image", "inspect", "-f", layers, "rhapsode-relay:again")
    assert again == _docker("image", "inspect", "-f", layers, f"rhapsode-relay:{cluster.tag}")
    _docker("rmi", "rhapsode-relay:again")
