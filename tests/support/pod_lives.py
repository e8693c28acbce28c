"""A pod of the stand-in whose containers are processes of this machine. Used by `kubelet`."""

import asyncio
from typing import Any

from support.pod_containers import Container
from support.pod_reports import House, Report
from support.pod_rooms import Objects, Room
from support.pod_statuses import ContainerState, conditions_of, now, phase_of, states_of

JSON = dict[str, Any]


class PodLife:
    """A pod whose containers are processes of this machine."""

    def __init__(self, house: House, pod: JSON, ip: str, number: int) -> None:
        self.pod, self._house, self.ip = pod, house, ip
        self._room = Room(house.folder / str(number), house.folder / "claims", pod, ip)
        self._began = now()
        self._conditions: list[JSON] = []
        self._failed: JSON = {}
        self._ending = False
        specs = [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]
        self.containers = [self._container(spec, state) for spec, state in zip(specs, states_of(pod), strict=True)]
        self._report = Report(house, pod, self._status)
        self._starting = house.spawn(self._start())
        self.update(pod)

    def _container(self, spec: JSON, state: ContainerState) -> Container:
        house = self._house
        return Container(
            spec, state, self._room, faults=house.faults, pace=house.pace, http=house.http, base=house.environ,
            fetch=self._fetch, tell=lambda *words: house.tell(self.pod, *words), changed=self._changed,
        )  # fmt: skip

    def container(self, name: str) -> Container:
        return next(one for one in self.containers if one.state.name == name)

    def logs(self) -> str:
        """Return what every container wrote."""
        files = [(one.state.name, self._room.log(one.state.name)) for one in self.containers]
        return "".join(f"--- {name}\n{path.read_text(errors='replace')}" for name, path in files if path.exists())

    # What the kubelet calls

    def update(self, pod: JSON) -> None:
        """See a newer version: new annotations for the files, or the wish that it ends."""
        old, self.pod, self._room.pod = self.pod["metadata"], pod, pod
        metadata = pod["metadata"]
        if any(metadata.get(key) != old.get(key) for key in ("annotations", "labels")):
            self._house.spawn(self._refill())
        if metadata.get("deletionTimestamp") and not self._ending:
            self._ending = True
            self._house.spawn(self._end(float(metadata.get("deletionGracePeriodSeconds") or 0)))

    async def fail(self, reason: str, message: str) -> None:
        """Be Failed as a whole, as after an eviction: its containers end in order."""
        self._starting.cancel()
        await self._stop_all(self._house.pace.grace_s)
        self._failed = {"phase": "Failed", "reason": reason, "message": message}
        await self._report.flush()

    async def abandon(self) -> None:
        """End everything at once, and write nothing more."""
        self._ending = True
        self._starting.cancel()
        self._report.close()
        await asyncio.gather(*(one.abandon() for one in self.containers))

    # Its course

    async def _start(self) -> None:
        if refused := self._house.faults.take("reject", self.pod["metadata"]["name"]):
            words = (
                refused.message
                or "Allocate failed due to no healthy devices present; cannot allocate, which is unexpected"
            )
            self._failed = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": words}
            self._changed()
            return
        self._changed()
        mains = [one for one in self.containers if one.state.kind == "main"]
        for init in self.containers[: -len(mains)]:
            init.start(self._house.spawn)
            await init.initialized.wait()
        for main in mains:
            main.start(self._house.spawn)
        for main in mains:
            await main.over.wait()
        if not self._ending:
            await self._stop_all(self._house.pace.grace_s)
            self._changed()

    async def _end(self, grace_s: float) -> None:
        self._starting.cancel()
        await self._stop_all(grace_s)
        await self._report.flush()
        self._report.close()
        await self._report.remove()

    async def _stop_all(self, grace_s: float) -> None:
        """Stop containers before their sidecars, and sidecars in the reverse order of their start."""
        before: list[Container] = [one for one in self.containers if one.state.kind == "main"]
        stopping = [one.stop(grace_s, []) for one in self.containers if one.state.kind != "sidecar"]
        for one in reversed([one for one in self.containers if one.state.kind == "sidecar"]):
            stopping.append(one.stop(grace_s, list(before)))
            before.append(one)
        await asyncio.gather(*stopping)

    # Its words

    def _changed(self) -> None:
        self._report.news()

    def _status(self) -> JSON:
        states = [one.state for one in self.containers]
        phase = phase_of(states, "Never" if self._ending else self.pod["spec"].get("restartPolicy", "Always"))
        over = phase in ("Succeeded", "Failed")
        self._conditions = conditions_of(states, self._conditions, over=over)
        inits = [one.state.status() for one in self.containers if one.state.kind != "main"]
        mains = [one.state.status() for one in self.containers if one.state.kind == "main"]
        seen = {"phase": phase, "hostIP": "127.0.0.1", "podIP": self.ip, "podIPs": [{"ip": self.ip}]}
        lists = {"conditions": self._conditions, "initContainerStatuses": inits, "containerStatuses": mains}
        return seen | {"startTime": self._began} | lists | self._failed

    async def _refill(self) -> None:
        self._room.fill(await self._fetch())

    async def _fetch(self) -> Objects:
        namespace = self.pod["metadata"]["namespace"]
        return {
            (plural, name): await self._house.api.find(f"/api/v1/namespaces/{namespace}/{plural}/{name}")
            for plural, name in self._room.needs()
        }
