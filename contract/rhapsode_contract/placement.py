"""The part of an InferenceWorker's spec that only a cluster needs: images, resources, volumes, rollouts."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from rhapsode_contract.access import KeyLimits

Quantity = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$",
        max_length=32,
        extra={"rule": "a quantity such as 500m or 16Gi"},
    ),
]
"""Kubernetes' quantity: `500m`, `16Gi`; a bare number may also be an integer."""

_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_NAME_RULE = "a Kubernetes name: lower-case letters, digits, '-' and '.'"
_Image = Annotated[
    str, Meta(pattern=r"^[^\s]+$", max_length=512, extra={"rule": "an image reference without spaces"})
]


class ContainerImages(Struct, kw_only=True, frozen=True):
    """Images of the two containers."""

    relay: Annotated[_Image | None, Meta(description="Image of the relay.")] = None
    worker: Annotated[_Image | None, Meta(description="Image of the worker; it must hold the engine.")] = None


class ResourceNeeds(Struct, kw_only=True, frozen=True):
    """Kubernetes' requests and limits."""

    requests: Annotated[
        dict[str, Quantity | int], Meta(description="What is reserved, such as cpu: 500m and memory: 16Gi.")
    ] = {}
    limits: Annotated[dict[str, Quantity | int], Meta(description="What may not be exceeded.")] = {}


class ContainerResources(Struct, kw_only=True, frozen=True):
    """CPU and memory of the containers."""

    relay: Annotated[ResourceNeeds, Meta(description="Of the relay.")] = ResourceNeeds(
        requests={"cpu": "100m", "memory": "96Mi"}, limits={"memory": "512Mi"}
    )
    worker: Annotated[ResourceNeeds, Meta(description="Of the worker.")] = ResourceNeeds()
    model: Annotated[ResourceNeeds, Meta(description="Of the init container that fetches an hf:// model.")] = (
        ResourceNeeds(requests={"cpu": "100m", "memory": "128Mi"}, limits={"memory": "512Mi"})
    )


class CacheSpec(Struct, kw_only=True, rename="camel", frozen=True):
    """A volume for models, built engines and the history of load times: an existing claim, or one for each pod."""

    claim: Annotated[
        Annotated[str, Meta(pattern=_NAME, max_length=253, extra={"rule": _NAME_RULE})] | None,
        Meta(description="An existing PersistentVolumeClaim; with several replicas it must be ReadWriteMany."),
    ] = None
    size: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$",
                max_length=32,
                extra={"rule": "a quantity such as 50Gi"},
            ),
        ]
        | None,
        Meta(description="Size of a claim that the operator makes for each pod; it outlives the pod."),
    ] = None
    storage_class: Annotated[
        Annotated[str, Meta(pattern=_NAME, max_length=253, extra={"rule": _NAME_RULE})] | None,
        Meta(description="Storage class of such a claim; the cluster's default, if absent."),
    ] = None
    access_mode: Annotated[
        Literal["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"],
        Meta(description="Access mode of such a claim."),
    ] = "ReadWriteOnce"


class RolloutSpec(Struct, kw_only=True, rename="camel", frozen=True):
    """How pods are replaced: one at a time, drain → delete → gone → create."""

    wait_for_idle: Annotated[bool, Meta(description="Let running requests of a pod finish before it is deleted.")] = (
        True
    )
    timeout_seconds: Annotated[
        int,
        Meta(ge=0, le=86_400, description="How long that may take, in seconds; then the pod goes all the same."),
    ] = 300
    surge: Annotated[
        int, Meta(ge=0, le=8, description="Pods beyond replicas during a rollout. 0 where no GPU is spare.")
    ] = 0


class LoadSpec(Struct, kw_only=True, rename="camel", frozen=True):
    """When loading counts as stuck."""

    stall_seconds: Annotated[
        int,
        Meta(ge=10, le=86_400, description="Seconds without progress after which a load is reported as LoadStalled."),
    ] = 600


class DisruptionSpec(Struct, kw_only=True, rename="camel", frozen=True):
    """What may disturb a pod."""

    protect_load: Annotated[
        bool, Meta(description="Ask Karpenter and the cluster autoscaler to leave a pod alone while it loads.")
    ] = True


class SecretRef(Struct, kw_only=True, frozen=True):
    """A Secret of the same namespace."""

    name: Annotated[str, Meta(pattern=_NAME, max_length=253, description="Its name.", extra={"rule": _NAME_RULE})]


class SecretKeyRef(Struct, kw_only=True, frozen=True):
    """A value of a Secret of the same namespace."""

    name: Annotated[
        str, Meta(pattern=_NAME, max_length=253, description="Name of the Secret.", extra={"rule": _NAME_RULE})
    ]
    key: Annotated[
        str,
        Meta(
            pattern=r"^[-._a-zA-Z0-9]+$",
            max_length=253,
            description="Which of its values.",
            extra={"rule": "letters, digits, '-', '_' and '.'"},
        ),
    ] = "token"


class AuthSpec(Struct, kw_only=True, rename="camel", frozen=True):
    """API keys of clients."""

    secret_ref: Annotated[
        SecretRef,
        Meta(description="Secret whose every value is an API key; clients send it as Authorization: Bearer KEY."),
    ]
    limits: Annotated[KeyLimits, Meta(description="What the clients of one key may take up together.")] = KeyLimits()


class TemplateMetadata(Struct, kw_only=True, frozen=True):
    """What is added to a pod's metadata."""

    labels: Annotated[dict[str, str], Meta(description="More labels.")] = {}
    annotations: Annotated[dict[str, str], Meta(description="More annotations.")] = {}


class PodTemplate(Struct, kw_only=True, frozen=True):
    """Merged over the pod that the operator builds: lists by their merge keys, such as containers by name."""

    metadata: Annotated[TemplateMetadata, Meta(description="Labels and annotations to add.")] = TemplateMetadata()
    spec: Annotated[
        dict[str, Any], Meta(description="A pod spec in part: tolerations, affinity, volumes, containers by name.")
    ] = {}
