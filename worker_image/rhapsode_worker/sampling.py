"""Sample the GPUs about once a second, in a thread of its own. Called by `watching_devices`.

NVML may be slow, hang, or lose a GPU: nobody waits for this thread, and a GPU in trouble is tried again with a
fresh `nvmlInit`. Without a driver it says so once and ends.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from rhapsode_worker.devices import NoDriver, Nvml
from rhapsode_worker.sightings import Reading, Xid

PERIOD_S = 1.0
REOPEN_S = 5.0
"""How long a GPU may be in trouble before NVML is opened afresh, and how often that is tried."""
_SLICE_S = 0.1
"""How long one wait for an Xid takes: so soon a wish for a sample, or the end, is heard."""


class Driver(Protocol):
    """One use of NVML."""

    def read(self) -> Reading: ...
    def wait_xids(self, seconds: float) -> tuple[Xid, ...]: ...
    def close(self) -> None: ...


class Sampler:
    """A thread that reports what NVML says. `report` is called in that thread, and must not block."""

    def __init__(self, report: Callable[[Reading], None], open_driver: Callable[[], Driver] = Nvml) -> None:
        self._report = report
        self._open = open_driver
        self._was_open = False
        self._seen: set[str] = set()
        self._stopping = threading.Event()
        self._wanted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nvml", daemon=True)  # a hanging call ends with us

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def hurry(self) -> None:
        """Sample now."""
        self._wanted.set()

    def stop(self) -> None:
        """End soon, unless NVML hangs."""
        self._stopping.set()
        self._wanted.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._use(self._open())
                continue
            except NoDriver as exc:
                if not self._was_open:
                    self._report(Reading(absent=True))
                    return
                self._report(Reading(trouble=str(exc)))
            except Exception as exc:  # whatever it was, the worker goes on and so do we
                self._report(Reading(trouble=str(exc) or type(exc).__name__))
            self._wanted.clear()
            self._stopping.wait(REOPEN_S)

    def _use(self, driver: Driver) -> None:
        """Sample until NVML must be opened afresh, or to the end."""
        self._was_open = True
        ends_at: float | None = None
        xids: tuple[Xid, ...] = ()
        try:
            while not self._stopping.is_set():
                self._wanted.clear()
                began = time.monotonic()
                reading = replace(driver.read(), xids=xids, began=began)
                self._report(reading)
                if not self._in_trouble(reading):
                    ends_at = None
                elif ends_at is None:
                    ends_at = time.monotonic() + REOPEN_S
                elif time.monotonic() > ends_at:
                    return
                xids = self._idle(driver)
        finally:
            driver.close()

    def _idle(self, driver: Driver) -> tuple[Xid, ...]:
        """Wait for the next sample's time, or an Xid, or someone's wish."""
        until = time.monotonic() + PERIOD_S
        while (left := until - time.monotonic()) > 0 and not self._wanted.is_set():
            if xids := driver.wait_xids(min(left, _SLICE_S)):
                self._stopping.wait(_SLICE_S)  # a storm of them costs no more than this
                return xids
        return ()

    def _in_trouble(self, reading: Reading) -> bool:
        """Return whether a fresh `nvmlInit` might show more than this."""
        reachable = {sight.uuid for sight in reading.gpus if not sight.trouble}
        self._seen |= reachable
        return bool(reading.trouble) or reachable != self._seen
