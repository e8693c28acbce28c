"""The chart's values as types: names, defaults, bounds and what each is for. The one source of `values.yaml`,
`values.schema.json` and the table of the chart's README; `chart_pages` writes them.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
NameOrNone = Annotated[str, Meta(pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$")]
Duration = Annotated[str, Meta(pattern=r"^([0-9]+(ms|s|m|h))+$")]
Seconds = Annotated[float, Meta(ge=0.05, le=86_400)]
Tag = Annotated[str, Meta(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$")]
Object = dict[str, Any]


class Values(Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Values of the chart rhapsode."""

    image: Annotated[
        "Image", Meta(description="Which images. Changing those of relay and workers rolls all workers.")
    ]
    image_pull_secrets: Annotated[
        list["Reference"],
        Meta(description="Secrets that pull the operator's image; workers pull with their namespace's."),
    ] = []
    watch_namespaces: Annotated[
        list[Name],
        Meta(description="Namespaces to serve; they must exist. Empty: the whole cluster, by a ClusterRole."),
    ] = []
    crds: Annotated["Crds", Meta(description="The CustomResourceDefinition.")]
    replicas: Annotated[
        Annotated[int, Meta(ge=0, le=9)],
        Meta(description="Operators; one leads, the others take over. 0 stops it all."),
    ] = 2
    resources: Annotated[Object, Meta(description="Of the operator; it takes 115 MiB with 1,000 workers.")]
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="What the operator logs, as JSON lines.")
    ] = "info"
    reconcile_workers: Annotated[
        Annotated[int, Meta(ge=1, le=256)], Meta(description="Resources that are reconciled at once.")
    ] = 16
    resync_seconds: Annotated[
        Seconds, Meta(description="How often each resource is looked at when nothing happens.")
    ] = 600
    initial_streaming: Annotated[
        bool, Meta(description="List by watching: saves memory; needs an etcd of 3.5.13 or newer.")
    ] = False
    lease: Annotated["Lease", Meta(description="By which operators take turns.")]
    extra_env: Annotated[list[Object], Meta(description="More environment variables of the operator.")] = []
    service_account: Annotated["ServiceAccount", Meta(description="Who the operator is to the API server.")]
    rbac: Annotated["Rbac", Meta(description="What may be done, by the operator and by people.")]
    pod_disruption_budget: Annotated["DisruptionBudget", Meta(description="Of the operator's own pods.")]
    common_labels: Annotated[dict[str, str], Meta(description="Labels of every object of this chart.")] = {}
    pod_labels: Annotated[dict[str, str], Meta(description="More labels of the operator's pods.")] = {}
    pod_annotations: Annotated[dict[str, str], Meta(description="Annotations of the operator's pods.")] = {}
    node_selector: Annotated[dict[str, str], Meta(description="Nodes that the operator's pods may run on.")] = {}
    tolerations: Annotated[list[Object], Meta(description="Taints that the operator's pods bear.")] = []
    affinity: Annotated[Object, Meta(description="Affinity of the operator's pods.")] = {}
    topology_spread_constraints: Annotated[
        list[Object],
        Meta(
            description="How the operator's pods spread; a labelSelector is added. Empty: over nodes, where possible."
        ),
    ] = []
    priority_class_name: Annotated[str, Meta(description="PriorityClass of the operator's pods.")] = ""
    termination_grace_period_seconds: Annotated[
        Annotated[int, Meta(ge=5, le=600)], Meta(description="How long an operator may take to end; it needs 3 s.")
    ] = 30
    metrics: Annotated["Metrics", Meta(description="How Prometheus finds operator and relays.")]
    alerts: Annotated["Alerts", Meta(description="A PrometheusRule; needs the Prometheus operator.")]
    dashboard: Annotated["Dashboard", Meta(description="A ConfigMap that Grafana's sidecar loads.")]
    network_policy: Annotated["NetworkPolicy", Meta(description="Who may connect to whom.")]
    fullname_override: Annotated[
        NameOrNone, Meta(description="Name of the operator's objects instead of <release>-operator.")
    ] = ""
    global_: Annotated[Object, Meta(description="What an umbrella chart gives to all; not read here.")] = field(
        name="global", default_factory=dict
    )


class Image(Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Images: `<registry>/rhapsode-…:<tag>`, or whole references."""

    registry: Annotated[
        str, Meta(description="Registry and path before the names, such as registry.example.com/you; none if empty.")
    ] = ""
    tag: Annotated[Tag, Meta(description="Tag of all images; the chart's appVersion if empty.")] = ""
    pull_policy: Annotated[
        Literal["Always", "IfNotPresent", "Never"],
        Meta(description="Of the operator's image; workers' is IfNotPresent."),
    ] = "IfNotPresent"
    operator: Annotated[str, Meta(description="Whole reference, for a digest or another name.")] = ""
    relay: Annotated[str, Meta(description="The same, of the relay of workers that name none.")] = ""
    worker_cpu: Annotated[str, Meta(description="The same, of workers with OpenVINO or the simulator.")] = ""
    worker_tensorrt_llm: Annotated[str, Meta(description="The same, of workers with TensorRT-LLM.")] = ""


class Reference(Struct, forbid_unknown_fields=True):
    """A Secret."""

    name: Annotated[str, Meta(description="Its name.")]


class Crds(Struct, kw_only=True, forbid_unknown_fields=True):
    """The CRD is a template, so that `helm upgrade` upgrades it."""

    install: Annotated[bool, Meta(description="Install and upgrade it; false if someone else does.")] = True
    keep: Annotated[
        bool, Meta(description="Keep it, and with it every InferenceWorker, when the chart is uninstalled.")
    ] = True


class Lease(Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Leader election."""

    seconds: Annotated[Seconds, Meta(description="How long others wait for a leader that says nothing.")] = 15
    renew_seconds: Annotated[
        Seconds, Meta(description="How long a leader that cannot renew goes on; below the above.")
    ] = 10
    retry_seconds: Annotated[Seconds, Meta(description="How often it is renewed, or looked at; below the above.")] = 2


class ServiceAccount(Struct, kw_only=True, forbid_unknown_fields=True):
    """The operator's account."""

    create: Annotated[bool, Meta(description="Create it; otherwise it must exist.")] = True
    name: Annotated[NameOrNone, Meta(description="Its name; that of the Deployment if empty.")] = ""
    annotations: Annotated[dict[str, str], Meta(description="Its annotations.")] = {}


class Rbac(Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Roles."""

    create: Annotated[bool, Meta(description="Create the operator's roles and bindings.")] = True
    user_roles: Annotated[
        bool, Meta(description="Let those with view, edit or admin in a namespace do the same to InferenceWorkers.")
    ] = True


class DisruptionBudget(Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """PodDisruptionBudget."""

    enabled: Annotated[bool, Meta(description="Create it, where there are several replicas.")] = True
    max_unavailable: Annotated[
        Annotated[int, Meta(ge=1, le=9)], Meta(description="How many may be drained away at once.")
    ] = 1


class Metrics(Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Port 8081 of the operator, port 9101 of each relay."""

    service_annotations: Annotated[
        dict[str, str], Meta(description="Annotations of the operator's metrics Service.")
    ] = {}
    service_monitor: Annotated[
        "Monitor", Meta(description="A ServiceMonitor for the operator; needs the Prometheus operator.")
    ]
    pod_monitor: Annotated["Monitor", Meta(description="A PodMonitor for the relays; needs the Prometheus operator.")]


class Monitor(Struct, kw_only=True, forbid_unknown_fields=True):
    """What the Prometheus operator scrapes."""

    enabled: Annotated[bool, Meta(description="Create it.")] = False
    interval: Annotated[Duration, Meta(description="How often.")] = "30s"
    labels: Annotated[dict[str, str], Meta(description="Labels by which Prometheus selects it.")] = {}


class Alerts(Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Alerts."""

    enabled: Annotated[bool, Meta(description="Create it.")] = False
    labels: Annotated[dict[str, str], Meta(description="Labels by which Prometheus selects it.")] = {}
    alert_labels: Annotated[dict[str, str], Meta(description="Labels of each alert, such as a team to page.")] = {}
    disabled: Annotated[list[str], Meta(description="Alerts to leave out, by name.")] = []
    extra_groups: Annotated[list[Object], Meta(description="Groups of your own rules.")] = []


class Dashboard(Struct, kw_only=True, forbid_unknown_fields=True):
    """Grafana."""

    enabled: Annotated[bool, Meta(description="Create it.")] = False
    labels: Annotated[dict[str, str], Meta(description="Labels by which the sidecar finds it.")]
    annotations: Annotated[dict[str, str], Meta(description="Its annotations, such as grafana_folder.")] = {}
    namespace: Annotated[NameOrNone, Meta(description="Where to; the release's namespace if empty.")] = ""


class NetworkPolicy(Struct, kw_only=True, forbid_unknown_fields=True):
    """NetworkPolicies; they need a network plugin that enforces them."""

    enabled: Annotated[bool, Meta(description="Create them.")] = True
    monitoring: Annotated[
        list[Object],
        Meta(
            description="Peers that may scrape operator and relays. On a relay's port 9101 they could also drain it."
        ),
    ]
    relays: Annotated["RelayPolicy", Meta(description="Of the pods of InferenceWorkers.")]


class RelayPolicy(Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A policy binds pods of its own namespace only, and Helm cannot know yours: name them."""

    enabled: Annotated[
        bool,
        Meta(
            description="Create one in each of watchNamespaces; where those are empty, in each of namespaces below."
        ),
    ] = True
    namespaces: Annotated[
        list[Name],
        Meta(
            description="Used when watchNamespaces is empty; they must exist. Pods elsewhere stay open on port 9101."
        ),
    ] = []
    clients: Annotated[
        list[Object],
        Meta(description="Peers that may call a relay's port 8080; everyone if empty. Relays always may."),
    ] = []
    extra_ingress: Annotated[
        list[Object], Meta(description="More ingress rules, as for sidecars that podTemplate adds.")
    ] = []


DEFAULTS: dict[str, Any] = {
    "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
    "dashboard.labels": {"grafana_dashboard": "1"},
    "networkPolicy.monitoring": [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    ],
}
"""By path: defaults that a type cannot have."""
