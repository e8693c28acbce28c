"""Give a service account the rights of a role file."""

from collections.abc import Iterable
from typing import Any

import yaml

from support.api_client import ApiClient, ApiError
from support.api_server import ApiServer
from support.processes import wait_until

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
Right = tuple[str, str, str]
"""Group, resource and verb."""


def grant(server: ApiServer, namespace: str, roles: str) -> str:
    """Bind each role of a file, in this namespace, to its default service account; return the account's token."""
    base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    wanted: set[Right] = set()
    for role in yaml.safe_load_all(roles):
        name = role["metadata"]["name"]
        metadata = {"name": name, "namespace": namespace}
        server.admin.apply(f"{base}/roles/{name}", role | {"kind": "Role", "metadata": metadata})
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        }
        server.admin.apply(f"{base}/rolebindings/{name}", binding)
        wanted |= _rights(role["rules"])
    token = server.service_account_token(namespace, "default")
    client = server.client(token)
    wait_until(lambda: wanted <= _held(client, namespace), f"the API server knows the rights in {namespace}")
    return token


def _held(client: ApiClient, namespace: str) -> set[Right]:
    """Return what somebody may do; nothing while the API server does not know who that is."""
    try:
        review = client.post(REVIEWS, {"spec": {"namespace": namespace}})
    except ApiError as exc:
        if exc.status != 401:
            raise
        return set()
    return _rights(review["status"]["resourceRules"])


def _rights(rules: Iterable[dict[str, Any]]) -> set[Right]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule.get("apiGroups", ())
        for resource in rule.get("resources", ())
        for verb in rule["verbs"]
    }
