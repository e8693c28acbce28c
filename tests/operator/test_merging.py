"""The strategic merge of `podTemplate`: as kubectl and the API server do it."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode_operator.merging import MERGE_KEYS, merged
from support.api_server import ApiServer

JSON = dict[str, Any]
WORKER: JSON = {
    "name": "worker",
    "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
    "ports": [{"containerPort": 8080, "name": "http"}],
    "volumeMounts": [{"mountPath": "/tmp", "name": "tmp"}],
    "resources": {"limits": {"memory": "1Gi"}},
}
SPEC: JSON = {
    "initContainers": [{"name": "relay", "image": "relay:1"}],
    "containers": [{**WORKER, "image": "worker:1"}],
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "volumes": [{"name": "tmp", "emptyDir": {}}],
    "securityContext": {"runAsUser": 65532, "runAsNonRoot": True},
}


def within(part: JSON) -> JSON:
    """Return a patch of the worker."""
    return {"containers": [{"name": "worker", **part}]}


PATCHES: list[tuple[str, JSON]] = [
    ("a new field", {"priorityClassName": "high"}),
    ("a changed field", {"terminationGracePeriodSeconds": 5}),
    ("a map is merged", {"securityContext": {"runAsGroup": 1}}),
    ("null takes a field away", {"securityContext": {"runAsUser": None}}),
    ("null takes a map away", {"securityContext": None}),
    ("null in what is new is nothing", {"affinity": {"nodeAffinity": None}}),
    ("a list without a merge key is replaced", {"tolerations": [{"key": "gpu", "operator": "Exists"}]}),
    ("a container is found by its name", within({"image": "worker:2"})),
    ("another container comes last", {"containers": [{"name": "more", "image": "x"}]}),
    ("an init container comes after the relay", {"initContainers": [{"name": "prepare", "image": "x"}]}),
    ("an environment variable is changed", within({"env": [{"name": "A", "value": "9"}]})),
    ("one is added", within({"env": [{"name": "C", "value": "3"}]})),
    ("one is taken away", within({"env": [{"name": "A", "$patch": "delete"}]})),
    ("one that is not there is taken away", within({"env": [{"name": "Z", "$patch": "delete"}]})),
    ("a port is found by its number", within({"ports": [{"containerPort": 8080, "name": "web"}]})),
    ("a mount is found by its path", within({"volumeMounts": [{"mountPath": "/tmp", "name": "tmp", "readOnly": True}]})),
    ("deep inside", within({"resources": {"limits": {"cpu": "2"}}})),
    ("a volume changes its source", {"volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}]}),
    ("an empty patch", {}),
]  # fmt: skip


@pytest.mark.parametrize(
    "patch", [patch for _, patch in PATCHES], ids=[name.replace(" ", "-") for name, _ in PATCHES]
)
def test_we_merge_as_the_api_server_does(patch: JSON, api_server: ApiServer, namespace: str) -> None:
    """A Deployment's template can be patched with everything, so the API server shows how it merges."""
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    template: JSON = {"metadata": {"labels": {"a": "b"}}, "spec": copy.deepcopy(SPEC)}
    deployment: JSON = {
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    }
    api_server.post(path, deployment)
    theirs = api_server.patch(f"{path}/d", {"spec": {"template": {"spec": patch}}}, "strategic")
    template["spec"] = merged(copy.deepcopy(SPEC), patch)
    deployment["metadata"]["name"] = "ours"
    ours = api_server.post(path, deployment)
    assert in_order(theirs["spec"]["template"]["spec"]) == in_order(ours["spec"]["template"]["spec"])


def in_order(spec: Any, field: str = "") -> Any:
    """Return a spec whose keyed lists, in which order says nothing here, are sorted."""
    if isinstance(spec, dict):
        return {name: in_order(value, name) for name, value in spec.items()}
    if isinstance(spec, list) and (key := MERGE_KEYS.get(field)):
        return sorted((in_order(item) for item in spec), key=lambda item: str(item[key]))
    return spec


def test_the_relay_stays_the_first_container() -> None:
    made = merged(SPEC, {"initContainers": [{"name": "prepare"}, {"name": "relay", "image": "relay:2"}]})
    assert [one["name"] for one in made["initContainers"]] == ["relay", "prepare"]
    assert made["initContainers"][0]["image"] == "relay:2"


NAMES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(["worker", "relay", "A", "name"]), st.integers(0, 3), st.none(), st.just({}), st.just([])
)
ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(st.dictionaries(st.sampled_from(["name", "containerPort", "$patch", "env"]), st.one_of(NAMES, inner)), max_size=3),
        st.dictionaries(st.sampled_from([*MERGE_KEYS, "name", "spec"]), inner, max_size=3),
    ),
    max_leaves=12,
)  # fmt: skip


@given(patch=st.dictionaries(st.sampled_from([*MERGE_KEYS, "x"]), ANY))
def test_nothing_that_somebody_writes_breaks_the_merge_or_changes_what_it_is_given(patch: JSON) -> None:
    base, given_patch = copy.deepcopy(SPEC), copy.deepcopy(patch)
    once = merged(base, patch)
    assert (base, patch) == (SPEC, given_patch)
    assert merged(base, {}) == base
    assert set(once) <= set(base) | set(patch)
