"""One Helm release on a real API server. Used by `tests/chart`."""

import json
from typing import Any

import yaml

from rhapsode_operator.permissions import LEAD, WORK
from support.api_server import ApiServer
from support.charts import CHART, cluster_pairs, find, run_helm
from support.operators import Operator
from support.processes import wait_until

JSON = dict[str, Any]
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/inferenceworkers.rhapsode.dev"
WORKERS = "/apis/rhapsode.dev/v1alpha1/inferenceworkers"
SERVED = (WORKERS, "/apis/rhapsode.dev/v1alpha1", "/openapi/v3/apis/rhapsode.dev/v1alpha1")
"""Where the API server shows it, for a moment longer than it is there."""
FOREIGN_KINDS = ("ServiceMonitor", "PodMonitor", "PrometheusRule")


class Release:
    """The release `rhapsode` in one namespace."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self.server, self.namespace = server, namespace
        self._kubeconfig = server.kubeconfig()
        self._operators: list[Operator] = []

    def helm(self, *args: str) -> str:
        """Run helm in this namespace; AssertionError with its complaint."""
        done = run_helm(*args, "--namespace", self.namespace, kubeconfig=self._kubeconfig)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install(self, values: JSON | None = None) -> str:
        """Install it; return what it tells."""
        said = self.helm("install", "rhapsode", str(CHART), *cluster_pairs(values or {}))
        self.wait_crd()
        return said

    def upgrade(self, values: JSON) -> str:
        return self.helm("upgrade", "rhapsode", str(CHART), *cluster_pairs(values))

    def objects(self) -> list[JSON]:
        """Return what is installed, as Helm tells it."""
        return [one for one in yaml.safe_load_all(self.helm("get", "manifest", "rhapsode")) if one]

    def deployment(self) -> JSON:
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/rhapsode-operator"
        return self.server.get(path)

    def wait_crd(self) -> None:
        """Wait until the CRD that Helm installed is served, and found by who looks which kinds there are."""
        self.server.wait_served(self.server.get(CRD))

    def operate(self) -> Operator:
        """Start an operator as the Deployment's pods are: its account, its environment."""
        pod = find(self.objects(), "Deployment")["spec"]["template"]["spec"]
        token = self.server.service_account_token(self.namespace, pod["serviceAccountName"])
        given = {one["name"]: one["value"] for one in pod["containers"][0]["env"] if "value" in one}
        ours = {"RHAPSODE_HOST", "RHAPSODE_PORT", "HOME"}  # a pod's, not this machine's
        environ = {name: value for name, value in given.items() if name not in ours}
        account = f"system:serviceaccount:{self.namespace}:{pod['serviceAccountName']}"
        served = environ.get("RHAPSODE_WATCH_NAMESPACES", "").split(",")
        wait_until(lambda: self._may_work(account, served), f"the API server knows the rights of {account}")
        operator = Operator(self.server.kubeconfig(token), self.namespace, **environ)
        self._operators.append(operator)
        return operator

    def _may_work(self, account: str, served: list[str]) -> bool:
        """Return whether the roles are known: the API server learns of one a moment after it was made."""
        wanted = [
            (rule, where)
            for rules, places in ((WORK, served), (LEAD, [self.namespace]))
            for rule in rules
            for where in places
        ]
        asked = [
            (rule.verbs[-1], f"{rule.group}/{rule.resource}", where)
            for rule, where in wanted
            if "/" not in rule.resource
        ]
        return all(self.may(account, *one) for one in asked)

    def may(self, who: str, verb: str, resource: str, namespace: str) -> bool:
        """Return whether somebody may do something."""
        group, _, name = resource.rpartition("/")
        asked = {"verb": verb, "group": group, "resource": name, "namespace": namespace}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": who, "resourceAttributes": asked},
        }
        answer = self.server.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
        return bool(answer["status"]["allowed"])

    def close(self) -> None:
        """End everything, the CRD and what it kept as well."""
        for operator in self._operators:
            operator.close()
        run_helm("uninstall", "rhapsode", "--namespace", self.namespace, kubeconfig=self._kubeconfig)
        if self.server.admin.find(CRD):
            self.server.delete(CRD)
        wait_until(lambda: self.server.admin.find(CRD) is None, "the CRD is gone")
        wait_until(lambda: not any(map(self.server.admin.answers, SERVED)), "it is served no more")


def foreign_crd(kind: str) -> str:
    """Return a CRD that takes everything under a name of the Prometheus operator: its own are not ours to ship."""
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return json.dumps(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.monitoring.coreos.com"},
            "spec": {
                "group": "monitoring.coreos.com",
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                "versions": [
                    {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}},
                ],
            },
        }
    )
