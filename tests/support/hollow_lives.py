"""A pod of which nothing runs: it says what it would say. Cheap enough for a thousand. Used by `kubelet`."""

import asyncio
from dataclasses import dataclass
from typing import Any

from support.pod_reports import House, Report
from support.pod_statuses import conditions_of, now, phase_of, states_of

JSON = dict[str, Any]


@dataclass
class HollowLife:
    """A pod of which nothing runs: it says what it would say. Cheap enough for a thousand."""

    house: House
    pod: JSON
    ip: str
    delay_s: float
    """How long until it is Ready, its sidecar halfway; with 0 both at once, in one write."""
    ending: bool = False

    def __post_init__(self) -> None:
        self._states = states_of(self.pod)
        self._conditions: list[JSON] = []
        self._failed: JSON = {}
        self._began = now()
        self._report = Report(self.house, self.pod, self._status)
        self._starting = self.house.spawn(self._start())
        self.update(self.pod)

    def update(self, pod: JSON) -> None:
        self.pod = pod
        if pod["metadata"].get("deletionTimestamp") and not self.ending:
            self.ending = True
            self._starting.cancel()
            self._report.close()
            self.house.spawn(self._report.remove())

    async def fail(self, reason: str, message: str) -> None:
        self._failed = {"phase": "Failed", "reason": reason, "message": message}
        self._starting.cancel()
        await self._report.flush()

    async def abandon(self) -> None:
        self._starting.cancel()
        self._report.close()

    async def _start(self) -> None:
        if self.house.faults.take("reject", self.pod["metadata"]["name"]):
            words = "Allocate failed, which is unexpected"
            self._failed = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": words}
            await self._report.flush()
            return
        for wanted in (("init", "sidecar"), ("main",)) if self.delay_s else (("init", "sidecar", "main"),):
            await asyncio.sleep(self.delay_s / 2)
            for state in self._states:
                if state.kind in wanted:
                    done = {"terminated": {"exitCode": 0, "reason": "Completed"}}
                    state.state = done if state.kind == "init" else {"running": {"startedAt": now()}}
                    state.ready = state.started = True
            await self._report.flush()

    def _status(self) -> JSON:
        self._conditions = conditions_of(self._states, self._conditions)
        inits = [one.status() for one in self._states if one.kind != "main"]
        mains = [one.status() for one in self._states if one.kind == "main"]
        seen = {"phase": phase_of(self._states, "Always"), "hostIP": "127.0.0.1", "podIP": self.ip}
        lists = {"conditions": self._conditions, "initContainerStatuses": inits, "containerStatuses": mains}
        return seen | {"podIPs": [{"ip": self.ip}], "startTime": self._began} | lists | self._failed
