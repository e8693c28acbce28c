"""What goes wrong with pods, as a test scripts it before and while they run. Read by the stand-in's pods.

A pod is named by its name or a pattern (`sim-*`).
"""

import threading
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

Action = Literal["pull_fails", "pull_takes", "restart_takes", "oom", "reject", "evict"]


@dataclass(eq=False)
class Fault:
    """One thing that goes wrong, so often."""

    action: Action
    pods: str
    container: str = ""
    times: int | None = None
    """How often; None: until it is released."""
    message: str = ""
    seconds: float | None = None
    released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """End this fault."""
        self.released.set()

    def hits(self, action: Action, pod: str, container: str) -> bool:
        """Return whether this fault is about that container."""
        about = self.action == action and fnmatchcase(pod, self.pods) and self.container in ("", container)
        return about and not self.released.is_set() and self.times != 0


class Faults:
    """All that is scripted."""

    def __init__(self) -> None:
        self._scripted: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._scripted.append(fault)
        return fault

    def take(self, action: Action, pod: str, container: str = "") -> Fault | None:
        """Return the fault that strikes now, and count it."""
        with self._lock:
            for fault in self._scripted:
                if fault.hits(action, pod, container):
                    fault.times = None if fault.times is None else fault.times - 1
                    return fault
        return None
