"""What the operator may do, and why: the smallest Role that works.

`checking` asks the API server for each of these at start, `make generate` renders `deploy/role.yaml` and the chart's
roles from them, and the tests run the operator under exactly those.
"""

from collections.abc import Iterator
from typing import NamedTuple

from rhapsode_contract.names import GROUP


class Rule(NamedTuple):
    """Some verbs on one resource."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str


WORK = (
    Rule(GROUP, "inferenceworkers", ("get", "list", "watch"), "what is wanted"),
    Rule(GROUP, "inferenceworkers/status", ("patch",), "tell what is so"),
    Rule("", "pods", ("get", "list", "watch", "create", "patch", "delete"), "one pod per replica"),
    Rule("", "services", ("get", "create", "patch"), "where clients call"),
    Rule("", "persistentvolumeclaims", ("get", "create"), "the cache of models; never deleted by us"),
    Rule("policy", "poddisruptionbudgets", ("get", "create", "patch"), "keep a replica during drains"),
    Rule("events.k8s.io", "events", ("create",), "tell of transitions"),
)
"""Needed in each namespace that is served: a ClusterRole for the whole cluster, a Role per namespace otherwise."""

LEAD = (Rule("coordination.k8s.io", "leases", ("get", "create", "update"), "one operator leads at a time"),)
"""Needed in the operator's own namespace."""


def role_yaml() -> str:
    """Return both roles as manifests, each rule with its reason."""
    return "".join(_lines())


def rules_yaml(rules: tuple[Rule, ...]) -> str:
    """Return the rules alone, for the chart."""
    return "".join(line.removeprefix("  ") for line in _rules(rules))


def _lines() -> Iterator[str]:
    yield "# What the operator may do. Bind the first where it serves, the second where it runs.\n"
    yield "# Made by `make generate` from operator/rhapsode_operator/permissions.py.\n"
    yield from _role("ClusterRole", "rhapsode-operator", WORK)
    yield "---\n"
    yield from _role("Role", "rhapsode-operator-leader", LEAD)


def _role(kind: str, name: str, rules: tuple[Rule, ...]) -> Iterator[str]:
    yield f"apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata:\n  name: {name}\nrules:\n"
    yield from _rules(rules)


def _rules(rules: tuple[Rule, ...]) -> Iterator[str]:
    for rule in rules:
        yield f"  # {rule.why}\n"
        yield f'  - apiGroups: ["{rule.group}"]\n'
        yield f'    resources: ["{rule.resource}"]\n'
        yield f"    verbs: [{', '.join(rule.verbs)}]\n"
