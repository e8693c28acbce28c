"""The stand-in's scheduler, without effects: which node has room for a pod, and what is missing. Used by `kubelet`."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

JSON = dict[str, Any]


def amount(quantity: str | int) -> int:
    """Return a quantity in thousandths: `2` is 2000 and `500m` is 500; bytes are not counted."""
    text = str(quantity)
    return int(text[:-1]) if text.endswith("m") else int(float(text) * 1000)


def demand_of(pod: JSON) -> Counter[str]:
    """Return what a pod asks for; its sidecars run beside its containers and count with them."""
    spec = pod["spec"]
    inits = [one for one in spec.get("initContainers") or [] if one.get("restartPolicy") == "Always"]
    demand: Counter[str] = Counter()
    for container in [*inits, *spec["containers"]]:
        requests = container.get("resources", {}).get("requests") or {}
        for name, quantity in requests.items():
            if name not in ("memory", "ephemeral-storage"):
                demand[name] += amount(quantity)
    return demand


@dataclass
class NodeBook:
    """Who has what on which node."""

    capacity: dict[str, Counter[str]]
    claims: dict[str, tuple[str, Counter[str]]] = field(default_factory=dict)
    """By uid of a pod: its node and what it holds there, until it is gone or over."""
    used: dict[str, Counter[str]] = field(default_factory=dict)

    def place(self, pod: JSON) -> tuple[str, str]:
        """Return a node with room, or `""` and the real scheduler's words for there being none."""
        demand, reasons = demand_of(pod), Counter[str]()
        selector = pod["spec"].get("nodeSelector") or {}
        for node in self.capacity:
            if selector.get("kubernetes.io/hostname", node) != node or len(selector) > 1:
                reasons["node(s) didn't match Pod's node affinity/selector"] += 1
            elif lacking := self._lacking(node, demand):
                reasons.update(f"Insufficient {name}" for name in lacking)
            else:
                return node, ""
        words = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
        return "", f"0/{len(self.capacity)} nodes are available{': ' + words if words else ''}."

    def claim(self, pod: JSON, node: str) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self.claims:
            self.claims[uid] = node, demand_of(pod)
            self.used.setdefault(node, Counter()).update(self.claims[uid][1])

    def release(self, uid: str) -> bool:
        """Give back what a pod holds; return whether it held anything."""
        if uid not in self.claims:
            return False
        node, demand = self.claims.pop(uid)
        self.used[node].subtract(demand)
        return True

    def _lacking(self, node: str, demand: Counter[str]) -> list[str]:
        capacity, used = self.capacity[node], self.used.get(node, Counter())
        return [name for name, wanted in demand.items() if wanted > capacity[name] - used[name]]
