"""Give a service account the rights of a role file."""

import yaml

from support.api_server import ApiServer


def grant(server: ApiServer, namespace: str, roles: str) -> str:
    """Bind each role of a file, in this namespace, to its default service account; return the account's token."""
    base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
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
    return server.service_account_token(namespace, "default")
