"""A real API server takes what we build, where Pod Security is restricted, and defaults nothing that we rely on."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from rhapsode_operator.kube import path_of, path_to
from support.api_client import ApiError
from support.api_server import ApiServer
from support.processes import wait_until

JSON = dict[str, Any]
CARELESS = {"containers": [{"name": "c", "image": "i"}]}
CONFINED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
SAFE = {
    "priorityClassName": "inference",
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [{"name": "c", "image": "i", "securityContext": CONFINED}],
}
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.yaml"))


@pytest.fixture
def restricted(api_server: ApiServer, namespace: str) -> str:
    """A namespace under the strictest Pod Security, with what the pods refer to."""
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    api_server.patch(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": label}})
    priority = {"metadata": {"name": "inference"}, "value": 10}
    api_server.admin.apply(
        "/apis/scheduling.k8s.io/v1/priorityclasses/inference",
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", **priority},
    )
    wait_until(lambda: _is_admitted(api_server, namespace, SAFE), "pods may have the priority")
    wait_until(lambda: not _is_admitted(api_server, namespace, CARELESS), "the namespace is strict")
    return namespace


def _is_admitted(api_server: ApiServer, namespace: str, spec: JSON) -> bool:
    """Return whether a pod is let in: what admits it learns of labels and priorities a moment after they are made."""
    pod = {"metadata": {"name": "probe"}, "spec": spec}
    try:
        api_server.post(path_to("Pod", namespace), pod, dryRun="All")
    except ApiError as exc:
        if exc.status != 403:
            raise
        return False
    return True


def moved(body: JSON, namespace: str) -> JSON:
    return body | {"metadata": body["metadata"] | {"namespace": namespace}}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_everything_is_taken_under_restricted_pod_security(
    path: Path, api_server: ApiServer, restricted: str
) -> None:
    for body in yaml.safe_load_all(path.read_text()):
        made = moved(body, restricted)
        stored = api_server.post(path_to(made["kind"], restricted), made, fieldValidation="Strict")
        assert missing(made, stored) == []


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_what_is_applied_again_and_again_stays_as_it_is(path: Path, api_server: ApiServer, restricted: str) -> None:
    for body in yaml.safe_load_all(path.read_text()):
        made = moved(body, restricted)
        if made["kind"] not in ("Service", "PodDisruptionBudget"):
            continue
        first = api_server.admin.apply(path_of(made), made)
        second = api_server.admin.apply(path_of(made), made)
        assert first == second, made["kind"]


def test_the_namespace_is_as_strict_as_we_say(api_server: ApiServer, restricted: str) -> None:
    careless = {"metadata": {"name": "p"}, "spec": CARELESS}
    with pytest.raises(ApiError, match="violates PodSecurity"):
        api_server.post(path_to("Pod", restricted), careless)


def missing(wanted: Any, found: Any, where: str = "") -> list[str]:
    """Return what was written and is not stored so."""
    if isinstance(wanted, dict):
        parts = [missing(value, found.get(name), f"{where}.{name}") for name, value in wanted.items()]
        return [one for part in parts for one in part]
    if isinstance(wanted, list):
        if len(wanted) > len(found):
            return [where]
        return [one for part in zip(wanted, found, strict=False) for one in missing(*part, where)]
    return [] if str(wanted) == str(found) else [f"{where}: {wanted} became {found}"]
