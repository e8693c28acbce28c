"""What only the operator can see, as narration for those who wait at a pod's relay. Pure; called by `reconciling`."""

from rhapsode_contract.catalogue import narrate
from rhapsode_contract.conditions import REASONS
from rhapsode_contract.frames import Narration
from rhapsode_contract.names import MAX_HUMAN_CHARS
from rhapsode_operator.judging import Verdict
from rhapsode_operator.observing import Container, Pod, Terminated

STILL_S = 15.0
"""How often a pull that goes on is mentioned, and how long a relay that did not hear is left alone."""

_WORDS = {"model": "model's fetch"}


class Teller:
    """Remembers what one pod's relay has been told. It can be copied."""

    def __init__(self) -> None:
        self._placed = False
        self._restarts: dict[str, int] = {}
        self._reason = ""
        self._reason_at = 0.0
        self._told_at = 0.0

    def tell(self, pod: Pod, verdict: Verdict, now: float) -> list[Narration]:
        """Return what to say now, and count it as told. Call it only when the relay can hear; keep it if it did."""
        if not self._reason and pod.has_served:  # an operator before us told it
            self._placed = True
            self._restarts = {one.name: one.restart_count for one in _told_of(pod)}
        said = [*self._place(pod), *self._restart(pod)]
        if verdict.reason != self._reason:
            self._reason, self._reason_at, self._told_at = verdict.reason, now, now
            return said + self._change(pod, verdict)
        if verdict.reason == "ImagePulling" and now - self._told_at >= STILL_S:
            self._told_at = now
            fields = {"image": pod.images.get("worker", ""), "elapsed_s": round(now - self._reason_at)}
            said.append(narrate("image_still_pulling", fields))
        return said

    def _place(self, pod: Pod) -> list[Narration]:
        if self._placed or not pod.node:
            return []
        self._placed = True
        return [narrate("pod_scheduled", {"pod": pod.name, "node": pod.node})]

    def _restart(self, pod: Pod) -> list[Narration]:
        said = []
        for one in _told_of(pod):
            if one.restart_count > self._restarts.get(one.name, 0):
                self._restarts = self._restarts | {one.name: one.restart_count}  # a copy has the same dict
                how = _how(one.last_end) if one.last_end else "an unknown end"
                said.append(
                    narrate(
                        "container_restart",
                        {"container": _WORDS.get(one.name, one.name), "count": one.restart_count, "how": how},
                    )
                )
        return said

    def _change(self, pod: Pod, verdict: Verdict) -> list[Narration]:
        if verdict.reason == "ImagePulling":
            image = pod.images.get("worker", "")
            return [narrate("image_pull", {"image": image, "node": pod.node})]
        if verdict.reason == "ImagePull":
            return [narrate("image_failed", {"why": _shorten(verdict)})]
        if verdict.reason == "LoadStalled":
            return [narrate("load_stalled", {"why": _shorten(verdict)})]
        return []


def _shorten(verdict: Verdict) -> str:
    """Return a verdict that fits a narration: begin, cause and remedy stay, since runtimes say the cause last."""
    remedy = REASONS[verdict.reason].remedy
    said = verdict.message.removesuffix(remedy)
    over = len(verdict.message) - MAX_HUMAN_CHARS
    if over <= 0:
        return verdict.message
    head = (len(said) - over) // 2
    return f"{said[:head]}…{said[head + over + 1 :]}{verdict.message[len(said) :]}"


def _told_of(pod: Pod) -> tuple[Container, Container]:
    """Return the containers whose restarts concern those who wait."""
    return pod.fetcher, pod.worker


def _how(end: Terminated) -> str:
    """Return how a container ended: `Error` is what the kubelet calls every exit code but 0."""
    return f"exit code {end.exit_code}" if end.reason in ("", "Error") else end.reason


def outdated(pod: Pod) -> Narration:
    """Return what those hear whose pod is replaced by a new one."""
    return narrate("rollout", {"pod": pod.name})
