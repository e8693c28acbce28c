"""Where the operator cannot work it says what, where and what to do, in one line, and exits."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rhapsode_operator.checking import check_crd, check_permissions
from rhapsode_operator.errors import CannotRun
from rhapsode_operator.permissions import role_yaml
from rhapsode_operator.settings import OperatorSettings
from support.api_server import ApiServer, find_tools
from support.documents import ROOT
from support.kube import connected
from support.processes import wait_until
from support.releases import SERVED
from support.roles import grant
from support.tiny_operator import TinyOperator

CRD = ROOT / "crds/inferenceworkers.rhapsode.dev.yaml"


@pytest.fixture(scope="module")
def bare(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server of this module, where no CRD is installed at first."""
    server = ApiServer(tmp_path_factory.mktemp("bare"), find_tools())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def install(bare: ApiServer, tmp_path: Path) -> Iterator[Callable[[Callable[[Any], None]], None]]:
    """Install a CRD that was changed, and remove it."""

    def put(change: Callable[[Any], None]) -> None:
        crd = copy.deepcopy(yaml.safe_load(CRD.read_text()))
        change(crd["spec"]["versions"][0])
        path = tmp_path / "crd.yaml"
        path.write_text(yaml.safe_dump(crd))
        bare.install_crd(path)

    yield put
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/inferenceworkers.rhapsode.dev"
    bare.delete(path)
    bare.admin.wait_gone(path)
    wait_until(lambda: not any(map(bare.admin.answers, SERVED)), "the group is gone")


def settings_of(namespace: str) -> OperatorSettings:
    return OperatorSettings.from_env({"RHAPSODE_NAMESPACE": namespace, "RHAPSODE_WATCH_NAMESPACES": namespace})


def test_a_missing_crd_is_one_line_and_status_78(bare: ApiServer) -> None:
    operator = TinyOperator(bare.kubeconfig(), "default")
    try:
        assert operator.wait() == 78
    finally:
        operator.close()
    (line,) = operator.errors
    assert line == (
        "rhapsode-operator: The CRD inferenceworkers.rhapsode.dev (rhapsode.dev/v1alpha1) is not installed in this "
        "cluster. Install it: kubectl apply --server-side -f crds/\n"
    )
    assert operator.lines == []


async def test_our_own_crd_is_good(bare: ApiServer, install: Callable[..., None]) -> None:
    install(lambda _: None)
    async with connected(bare) as kube:
        await check_crd(kube)


async def test_a_crd_without_status_is_too_old(bare: ApiServer, install: Callable[..., None]) -> None:
    install(lambda version: version.pop("subresources"))
    async with connected(bare) as kube:
        with pytest.raises(CannotRun, match="too old: it has no status subresource"):
            await check_crd(kube)


async def test_a_crd_without_a_field_of_ours_is_too_old(bare: ApiServer, install: Callable[..., None]) -> None:
    def drop(version: Any) -> None:
        fields = version["schema"]["openAPIV3Schema"]["properties"]
        del fields["status"]["properties"]["narration"]
        del fields["status"]["properties"]["vram"]

    install(drop)
    async with connected(bare) as kube:
        with pytest.raises(CannotRun, match=r"it lacks status\.vram, status\.narration\. Replace it"):
            await check_crd(kube)


async def test_the_shipped_role_is_enough(api_server: ApiServer, namespace: str) -> None:
    token = grant(api_server, namespace, role_yaml())
    async with connected(api_server.kubeconfig(token)) as kube:
        await check_permissions(kube, settings_of(namespace))


async def test_each_right_that_is_missing_is_named(api_server: ApiServer, namespace: str) -> None:
    roles = role_yaml().replace(
        "verbs: [get, list, watch, create, patch, delete]", "verbs: [get, list, create, patch]"
    )
    token = grant(api_server, namespace, roles)
    async with connected(api_server.kubeconfig(token)) as kube:
        with pytest.raises(CannotRun) as caught:
            await check_permissions(kube, settings_of(namespace))
    assert caught.value.message == (
        f"This operator may not watch pods in the namespace {namespace}; delete pods in the namespace {namespace}. "
        f"Grant it deploy/role.yaml: bind the ClusterRole where it serves and the Role in {namespace}"
    )


def test_an_operator_without_rights_says_so_in_one_line(api_server: ApiServer, namespace: str) -> None:
    api_server.install_crd(CRD)
    token = api_server.service_account_token(namespace, "default")
    operator = TinyOperator(api_server.kubeconfig(token), namespace)
    try:
        assert operator.wait() == 78
    finally:
        operator.close()
    assert len(operator.errors) == 1
    assert "may not get inferenceworkers.rhapsode.dev in the namespace" in operator.errors[0]


def test_an_api_server_that_comes_later_is_waited_for_and_health_answers_meanwhile(
    api_server: ApiServer, namespace: str
) -> None:
    api_server.install_crd(CRD)
    api_server.kill()
    operator = TinyOperator(api_server.kubeconfig(), namespace)
    try:
        operator.wait_record("check")
        assert operator.page("/healthz") == (200, "ok\n")
        assert operator.page("/readyz") == (503, "starting\n")
    finally:
        api_server.start()
    try:
        operator.wait_record("began")
    finally:
        operator.close()


def test_the_file_that_is_shipped_is_what_the_operator_asks_for() -> None:
    roles = list(yaml.safe_load_all(role_yaml()))
    assert [role["kind"] for role in roles] == ["ClusterRole", "Role"]
    granted = {resource for role in roles for rule in role["rules"] for resource in rule["resources"]}
    assert "secrets" not in granted
    assert all("*" not in rule["verbs"] for role in roles for rule in role["rules"])
