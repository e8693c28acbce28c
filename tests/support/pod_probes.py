"""A kubelet's HTTP probes and hooks, faster than in a cluster. Used by `pod_containers`."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp

JSON = dict[str, Any]


@dataclass(frozen=True)
class Pace:
    """How long things take that take seconds and minutes in a cluster."""

    probe_s: float = 0.1
    """Longest period of a startup or readiness probe."""
    liveness_s: float = 1.0
    """Longest period of a liveness probe: a process takes as long to start as anywhere, so this shrinks less.
    Infinity: nobody asks."""
    answer_s: float = 20.0
    """Least time that an answer may take: a machine that stalls for seconds is no container that is deaf."""
    back_off_s: float = 0.1
    """First pause after a container that ended twice, or an image that cannot be pulled; it doubles."""
    longest_back_off_s: float = 2.0
    grace_s: float = 20.0
    """Longest grace period."""

    def back_off(self, times: int) -> float:
        """Return the pause before the next start; the first one comes at once, as a kubelet does it."""
        return 0.0 if times < 1 else min(self.back_off_s * 2.0 ** (times - 1), self.longest_back_off_s)


class Prober:
    """Asks one container how it is."""

    def __init__(self, http: aiohttp.ClientSession, container: JSON, ip: str, pace: Pace) -> None:
        self._http, self._ip, self._pace = http, ip, pace
        self._ports = {port.get("name"): port["containerPort"] for port in container.get("ports") or []}

    async def verdicts(self, probe: JSON, longest_s: float, *, deadly: bool = False) -> AsyncIterator[bool]:
        """Yield True after enough good answers in a row, False after enough bad ones.

        We ask faster than a kubelet, but where a False is `deadly` it takes as long as in a cluster: a process starts
        no faster here.
        """
        period_s, most = probe.get("periodSeconds", 10), probe.get("failureThreshold", 3)
        good = bad = 0
        failing_since = time.monotonic()
        await asyncio.sleep(min(probe.get("initialDelaySeconds", 0), longest_s))
        while True:
            answered = await self.answers(probe["httpGet"], max(probe.get("timeoutSeconds", 1), self._pace.answer_s))
            good, bad = (good + 1, 0) if answered else (0, bad + 1)
            failing_since = time.monotonic() if bad == 1 or answered else failing_since
            if good >= probe.get("successThreshold", 1):
                yield True
            elif bad >= most and not (deadly and time.monotonic() - failing_since < period_s * most):
                yield False
            await asyncio.sleep(min(period_s, longest_s))

    async def answers(self, action: JSON, seconds: float) -> bool:
        """Send a GET; return whether the answer is a good one."""
        port = self._ports.get(action["port"], action["port"])
        headers = {one["name"]: one["value"] for one in action.get("httpHeaders") or []}
        url = f"http://{self._ip}:{port}{action.get('path', '/')}"
        try:
            async with self._http.get(url, headers=headers, timeout=aiohttp.ClientTimeout(seconds)) as response:
                return 200 <= response.status < 400
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
