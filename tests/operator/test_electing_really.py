"""Who leads: with Leases of a real API server."""

import asyncio
from typing import Any

import pytest

from rhapsode_operator.electing import Elector
from rhapsode_operator.errors import CannotRun
from rhapsode_operator.kube import Kube
from rhapsode_operator.settings import OperatorSettings
from support.api_server import ApiServer
from support.kube import connected
from support.processes import DEADLINE_S


def settings_of(identity: str, **changes: Any) -> OperatorSettings:
    return OperatorSettings(
        identity=identity, relay_image="", worker_image_cpu="", worker_image_tensorrt_llm="", **changes
    )


async def test_a_namespace_that_is_not_there_is_told_instead_of_waiting_for_it(api_server: ApiServer) -> None:
    async with connected(api_server) as kube:
        with pytest.raises(CannotRun, match="The namespace nosuchns does not exist: set RHAPSODE_NAMESPACE"):
            await asyncio.wait_for(_acquired(kube, "one", "nosuchns"), 2 * DEADLINE_S)


async def _acquired(kube: Kube, identity: str, namespace: str, **changes: Any) -> Elector:
    won = Elector(kube, settings_of(identity, namespace=namespace, retry_s=0.1, **changes))
    await asyncio.wait_for(won.acquire(), DEADLINE_S)
    return won


async def test_a_real_lease_is_created_renewed_released_and_taken(api_server: ApiServer, namespace: str) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/rhapsode-operator"
    async with connected(api_server) as kube:
        first = await _acquired(kube, "one", namespace)
        before = api_server.get(path)["spec"]
        assert await first.try_renew()
        after = api_server.get(path)["spec"]
        assert after["renewTime"] > before["renewTime"]
        assert (after["holderIdentity"], after["leaseDurationSeconds"]) == ("one", 15)
        await first.release()
        second = await _acquired(kube, "two", namespace)
        spec = api_server.get(path)["spec"]
        assert second.leading
        assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("two", 1)


async def test_two_that_reach_for_a_real_lease_agree_on_one(api_server: ApiServer, namespace: str) -> None:
    async with connected(api_server) as kube:
        for round_ in range(10):
            both = [
                Elector(kube, settings_of(who, namespace=namespace, lease_name=f"lease-{round_}"))
                for who in ("one", "two", "three")
            ]
            assert sum(await asyncio.gather(*(each.try_acquire() for each in both))) == 1


async def test_a_dead_leaders_real_lease_is_taken_when_it_ends(api_server: ApiServer, namespace: str) -> None:
    async with connected(api_server) as kube:
        await _acquired(kube, "dead", namespace, lease_s=1.0)
        second = await _acquired(kube, "two", namespace)  # waits as long as the dead one promised, not as it would
        assert second.leading
