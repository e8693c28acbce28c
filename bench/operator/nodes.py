"""Nodes without containers: `python -m bench.operator.nodes URL TOKEN CERTIFICATE VRAM_S`.

A scheduler and kubelets at their cheapest: each pod is bound, gets an address and one status, in which it is Ready
(or loads, by its name). Its relay is one of `relays`. Commands come as JSON lines on standard input.
"""

import asyncio
import itertools
import sys
from typing import Any

import msgspec
import uvloop

from bench.operator.calling import Caller
from bench.operator.relays import Relays
from bench.operator.resources import LOADING, NAMESPACE, PODS, Change
from bench.plans import say
from rhapsode_contract import events
from rhapsode_contract.records import timestamp
from support.processes import NETWORK

STRATEGIC = "application/strategic-merge-patch+json"
_events = msgspec.json.Decoder(list[events.Load | events.State | events.Vram | events.Narration])


class Nodes:
    """Follows all pods and says of each that it runs."""

    def __init__(self, api: Caller, relays: Relays) -> None:
        self._api, self._relays = api, relays
        self._numbers = itertools.count(1)
        self._known: set[str] = set()

    async def run(self) -> None:
        """Work until cancelled. What goes wrong with one pod ends all: a figure of fewer would be a lie."""
        async with asyncio.TaskGroup() as tasks:
            async for change in self._api.watch(PODS):
                uid = change.object.metadata.uid
                if change.type == "ADDED" and uid not in self._known:
                    self._known.add(uid)
                    tasks.create_task(self._start(change))

    async def _start(self, change: Change) -> None:
        name, number = change.object.metadata.name, next(self._numbers)
        address = f"{NETWORK}.{128 + number // 250}.{1 + number % 250}"
        await self._relays.open_for(name, address)
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}"
        target = {"apiVersion": "v1", "kind": "Node", "name": f"node-{number % 100}"}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        await self._api.send("POST", f"{path}/binding", msgspec.json.encode(binding))
        status = _status(address, ready=not name.startswith(LOADING))
        await self._api.send("PATCH", f"{path}/status", msgspec.json.encode({"status": status}), STRATEGIC)


def _status(address: str, *, ready: bool) -> dict[str, Any]:
    now = timestamp()[:19] + "Z"
    word = "True" if ready else "False"
    conditions = {"PodScheduled": "True", "Initialized": "True", "ContainersReady": word, "Ready": word}
    return {
        "phase": "Running",
        "hostIP": "127.0.0.1",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": now,
        "conditions": [
            {"type": kind, "status": status, "lastTransitionTime": now} for kind, status in conditions.items()
        ],
        "initContainerStatuses": [_container("relay", now, ready=True)],
        "containerStatuses": [_container("worker", now, ready=ready)],
    }


def _container(name: str, now: str, *, ready: bool) -> dict[str, Any]:
    state = {"running": {"startedAt": now}}
    same = {"image": "bench", "imageID": "", "lastState": {}, "restartCount": 0}
    return {"name": name, "state": state, "ready": ready, "started": ready, **same}


async def obey(relays: Relays) -> None:
    """Do what the bench says, until it hangs up."""
    reader = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        command = msgspec.json.decode(line)
        if "count" in command:
            say(str(len(relays.open)))
        else:
            relays.say(command["say"], _events.decode(msgspec.json.encode(command["events"])))  # type: ignore[arg-type]


async def main(url: str, token: str, certificate: str, vram_s: str) -> None:
    relays = Relays(float(vram_s))
    async with Caller(url, token, certificate) as api, asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(relays.run()), tasks.create_task(Nodes(api, relays).run())]
        await obey(relays)
        for task in work:
            task.cancel()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
