"""One container of the stand-in: a real process with a kubelet's restarts, probes and hooks. Used by `pod_lives`."""

import asyncio
import contextlib
import math
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import psutil

from rhapsode_contract.lifelines import send_signal
from support.api_server import LEASH
from support.kubelet_faults import Faults
from support.pod_probes import Pace, Prober
from support.pod_rooms import Missing, Objects, Room
from support.pod_statuses import ContainerState, now, terminated

JSON = dict[str, Any]
Tell = Callable[[str, str, str], None]
"""Posts an Event: type, reason, message."""
TAIL_BYTES = 2048


class Container:
    """One container, from the pull of its image to its last end."""

    def __init__(
        self,
        spec: JSON,
        state: ContainerState,
        room: Room,
        *,
        faults: Faults,
        pace: Pace,
        http: aiohttp.ClientSession,
        base: dict[str, str],
        fetch: Callable[[], Awaitable[Objects]],
        tell: Tell,
        changed: Callable[[], None],
    ) -> None:
        self.state, self._spec, self._room = state, spec, room
        self._faults, self._pace, self._base = faults, pace, base
        self._fetch, self._tell, self._changed = fetch, tell, changed
        self._prober = Prober(http, spec, room.ip, pace)
        self._process: asyncio.subprocess.Process | None = None
        self._began = ""
        self._stopping = False
        self._oom = False
        self.initialized, self.over = asyncio.Event(), asyncio.Event()
        self._run: asyncio.Task[None] | None = None

    # Its life

    def start(self, spawn: Callable[[Any], asyncio.Task[None]]) -> None:
        self._run = spawn(self._live())

    async def _live(self) -> None:
        policy = "Always" if self.state.kind == "sidecar" else self._room.pod["spec"].get("restartPolicy", "Always")
        if self.state.kind == "init" and policy == "Always":
            policy = "OnFailure"
        await self._pull()
        while True:
            code = await self._play(await self._launch())
            if self._stopping or policy == "Never" or (policy == "OnFailure" and code == 0):
                break
            await self._back_off()
        self._finish()

    def _finish(self) -> None:
        if self.state.exit_code == 0:
            self.initialized.set()
        self.over.set()

    async def _pull(self) -> None:
        """Wait for the image as long as the script says so."""
        name, image, tries = self.state.name, self.state.image, 0
        self._tell("Normal", "Pulling", f'Pulling image "{image}"')
        if slow := self._faults.take("pull_takes", self._room.pod["metadata"]["name"], name):
            until = time.monotonic() + (slow.seconds if slow.seconds is not None else float("inf"))
            while time.monotonic() < until and not slow.released.is_set():
                await asyncio.sleep(0.02)
        while failure := self._faults.take("pull_fails", self._room.pod["metadata"]["name"], name):
            tries += 1
            words = failure.message or f'failed to pull and unpack image "{image}": not found'
            self._wait_for("ErrImagePull", words)
            self._tell("Warning", "Failed", f'Failed to pull image "{image}": {words}')
            await asyncio.sleep(self._pace.back_off_s)
            self._wait_for("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {words}')
            self._tell("Normal", "BackOff", f'Back-off pulling image "{image}"')
            await asyncio.sleep(self._pace.back_off(tries))
        self._tell("Normal", "Pulled", f'Successfully pulled image "{image}"')

    async def _launch(self) -> asyncio.subprocess.Process:
        """Start the process, once the Secrets that it names are there."""
        while True:
            objects = await self._fetch()
            try:
                self._room.fill(objects)
                environ = self._room.environ(self._spec, objects, self._base)
                break
            except Missing as exc:
                self._wait_for("CreateContainerConfigError", str(exc))
                await asyncio.sleep(self._pace.probe_s)
        command = self._room.command(self._spec, environ)
        self._room.last_words(self._spec).write_text("")
        with self._room.log(self.state.name).open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *LEASH, *command, env=environ, cwd=self._room.folder, stdin=asyncio.subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    async def _play(self, process: asyncio.subprocess.Process) -> int:
        """Be running until the process ends; return its exit code."""
        self._process, self._began, self._oom = process, now(), False
        self.state.state = {"running": {"startedAt": self._began}}
        self._changed()
        if self._faults.take("oom", self._room.pod["metadata"]["name"], self.state.name):
            self.oom()
        probing = asyncio.ensure_future(self._probe())
        try:
            code = await process.wait()
        finally:
            probing.cancel()
        (wrong,) = await asyncio.gather(probing, return_exceptions=True)
        if isinstance(wrong, Exception):
            raise wrong
        self._process = None
        code = code if code >= 0 else 128 - code
        self._ended(code)
        return code

    def _ended(self, code: int) -> None:
        reason = "OOMKilled" if self._oom else "Completed" if code == 0 else "Error"
        self.state.state = terminated(code, reason, self._message(code), self._began)
        self.state.ready = self.state.started = False
        self._changed()

    async def _back_off(self) -> None:
        """Pause as a kubelet does before it starts the container again."""
        pause = self._pace.back_off(self.state.restarts)
        self.state.last_state = self.state.state
        if pause:
            self._tell("Warning", "BackOff", f"Back-off restarting failed container {self.state.name}")
            self._wait_for("CrashLoopBackOff", f"back-off restarting failed container={self.state.name}")
            await asyncio.sleep(pause)
        self.state.restarts += 1
        if held := self._faults.take("restart_takes", self._room.pod["metadata"]["name"], self.state.name):
            self._wait_for("ContainerCreating", "")
            while not held.released.is_set():
                await asyncio.sleep(0.02)

    # Probes

    async def _probe(self) -> None:
        if probe := self._spec.get("startupProbe"):
            async for good in self._prober.verdicts(probe, self._pace.probe_s, deadly=True):
                if not good:
                    await self._fail_probe("startup")
                    return
                break
        self.state.started = True
        if self.state.kind == "sidecar":
            self.initialized.set()
        self._changed()
        await asyncio.gather(self._watch_readiness(), self._watch_liveness())

    async def _watch_readiness(self) -> None:
        probe = self._spec.get("readinessProbe")
        if probe is None:
            self._be_ready(True)
            return
        async for good in self._prober.verdicts(probe, self._pace.probe_s):
            self._be_ready(good)

    def _be_ready(self, ready: bool) -> None:
        if self.state.ready != ready:
            self.state.ready = ready
            self._changed()

    async def _watch_liveness(self) -> None:
        probe = self._spec.get("livenessProbe")
        if probe and self._pace.liveness_s < math.inf:
            async for good in self._prober.verdicts(probe, self._pace.liveness_s, deadly=True):
                if not good and not self._stopping:
                    await self._fail_probe("liveness")
                    return

    async def _fail_probe(self, kind: str) -> None:
        self._tell("Normal", "Killing", f"Container {self.state.name} failed {kind} probe, will be restarted")
        grace_s = min(float(self._room.pod["spec"].get("terminationGracePeriodSeconds", 30)), self._pace.grace_s)
        await self._pre_stop(grace_s)
        await self._terminate(grace_s)

    # Its end

    async def stop(self, grace_s: float, before: list["Container"]) -> None:
        """End in a kubelet's order: hook, wait for those that end first, SIGTERM, SIGKILL."""
        self._stopping = True
        deadline = time.monotonic() + min(grace_s, self._pace.grace_s)
        if self._process is None:
            await self.abandon()
            return
        self._tell("Normal", "Killing", f"Stopping container {self.state.name}")
        await self._pre_stop(deadline - time.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(0.0, deadline - time.monotonic())):
                for other in before:
                    await other.over.wait()
        await self._terminate(max(2.0, deadline - time.monotonic()))
        await self.over.wait()

    async def _pre_stop(self, seconds: float) -> None:
        hook = (self._spec.get("lifecycle") or {}).get("preStop") or {}
        if "httpGet" in hook:
            await self._prober.answers(hook["httpGet"], max(0.1, seconds))

    async def _terminate(self, seconds: float) -> None:
        process = self._process
        if process is None:
            return
        send_signal(process, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, self._pace.grace_s)):
                await process.wait()
                return
        self.signal(signal.SIGKILL)

    async def abandon(self) -> None:
        """End at once, unreported."""
        self._stopping = True
        process = self._process
        self.signal(signal.SIGKILL)
        if self._run is not None:
            self._run.cancel()
            await asyncio.gather(self._run, return_exceptions=True)
        if process is not None:
            await process.wait()
        self.over.set()

    # What a test does to it

    def signal(self, sent: signal.Signals) -> None:
        """Send a signal to everything that runs in this container."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(sent)

    def oom(self) -> None:
        """Kill it as the kernel does for memory."""
        self._oom = True
        self.signal(signal.SIGKILL)

    def processes(self) -> Iterator[psutil.Process]:
        """Return the container's first process and its descendants."""
        if self._process is None or self._process.returncode is not None:
            return iter(())
        try:
            first = psutil.Process(self._process.pid)
            return iter([first, *first.children(recursive=True)])
        except psutil.NoSuchProcess:
            return iter(())

    # Words

    def _wait_for(self, reason: str, message: str) -> None:
        self.state.state = {"waiting": {"reason": reason, "message": message}}
        self._changed()

    def _message(self, code: int) -> str:
        """Return the termination message, or the log's end where the container asks for that."""
        with contextlib.suppress(OSError):
            if said := self._room.last_words(self._spec).read_bytes()[:4096]:
                return said.decode(errors="replace")
        if code and self._spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            return self._room.log(self.state.name).read_bytes()[-TAIL_BYTES:].decode(errors="replace")
        return ""
