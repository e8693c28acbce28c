"""The `InferenceWorker` resource: what a platform team asks for. What it is told back is in `statuses`.

Descriptions, bounds and defaults live here once: the validation words, the CRD (`schemas`) and the reference page
are made from them.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from rhapsode_contract.access import CorsSpec, RelayLimits
from rhapsode_contract.outcomes import Outcome
from rhapsode_contract.placement import (
    AuthSpec,
    CacheSpec,
    ContainerImages,
    ContainerResources,
    DisruptionSpec,
    LoadSpec,
    PodTemplate,
    RolloutSpec,
    SecretKeyRef,
)
from rhapsode_contract.requests import OnDisconnect, Style
from rhapsode_contract.sources import SOURCE_FORMS, SOURCE_PATTERN, parse_source
from rhapsode_contract.statuses import Status

EngineName = Literal["TensorRTLLM", "OpenVINO", "Simulator"]


class ModelSpec(Struct, kw_only=True, rename="camel", frozen=True):
    """Which model to serve."""

    source: Annotated[
        str,
        Meta(
            pattern=SOURCE_PATTERN,
            max_length=512,
            description="Where the model comes from.",
            extra={"rule": SOURCE_FORMS},
        ),
    ]
    served_name: (
        Annotated[
            str,
            Meta(
                pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
                max_length=128,
                description="What clients call it; the last part of the source if absent.",
                extra={"rule": "letters, digits, '.', '_' and '-', at most 128"},
            ),
        ]
        | None
    ) = None
    token_secret_ref: Annotated[
        SecretKeyRef | None,
        Meta(
            description="Token of the hub, for an hf:// model that is private or gated; on a laptop it is HF_TOKEN."
        ),
    ] = None

    @property
    def name(self) -> str:
        """What clients call the model."""
        return self.served_name or parse_source(self.source).default_name()


class EngineSpec(Struct, kw_only=True, rename="camel", frozen=True):
    """What runs the model, and how much of it at once."""

    name: Annotated[
        EngineName | None,
        Meta(description="Absent: TensorRTLLM where there are GPUs (in a cluster: gpus), else OpenVINO."),
    ] = None
    max_sequences: Annotated[
        int, Meta(ge=1, le=1024, description="Requests that run at once; more wait in line.")
    ] = 8
    max_context_tokens: Annotated[
        int, Meta(ge=16, le=1_048_576, description="Longest prompt and answer together, in tokens.")
    ] = 2048
    options: Annotated[
        dict[str, Any],
        Meta(description="Settings of the engine by its own names; an unknown one fails the load."),
    ] = {}


class RelaySpec(Struct, kw_only=True, rename="camel", frozen=True):
    """How clients are served."""

    narration: Annotated[Style, Meta(description="Which words the page and the CLI show first.")] = "human"
    heartbeat_seconds: Annotated[
        int, Meta(ge=1, le=60, description="Silence after which a stream gets a heartbeat, in seconds.")
    ] = 15
    queue_limit: Annotated[
        int, Meta(ge=0, le=10_000, description="Requests that may wait; the next one gets 503.")
    ] = 64
    turn_limit: Annotated[int, Meta(ge=1, le=10_000, description="Turns at once; the next one gets 503.")] = 64
    on_disconnect: Annotated[
        OnDisconnect,
        Meta(
            description="What becomes of a request whose last reader left: cancel it, after graceSeconds, or never."
        ),
    ] = "grace"
    grace_seconds: Annotated[
        int,
        Meta(ge=0, le=3600, description="How long such a reader may stay away under 'grace', in seconds."),
    ] = 15
    drain_seconds: Annotated[
        int,
        Meta(ge=0, le=3600, description="How long running requests may take to finish on shutdown, in seconds."),
    ] = 60
    cors: Annotated[CorsSpec, Meta(description="Pages of other origins that may ask.")] = CorsSpec()
    limits: Annotated[RelayLimits, Meta(description="What clients may take up, and how long a request may take.")] = (
        RelayLimits()
    )


class Spec(Struct, kw_only=True, rename="camel", frozen=True):
    """What is wanted. `rhapsode play` reads model, engine, relay and outcomes; the rest is for a cluster."""

    model: Annotated[ModelSpec, Meta(description="Which model to serve.")]
    engine: Annotated[EngineSpec, Meta(description="What runs the model, and how much of it at once.")] = EngineSpec()
    relay: Annotated[RelaySpec, Meta(description="How clients are served.")] = RelaySpec()
    outcomes: Annotated[
        list[Outcome],
        Meta(
            max_length=16,
            description="Contracts of two-phase turns: what a turn may say, and where it is written.",
        ),
    ] = []
    replicas: Annotated[int, Meta(ge=0, le=256, description="Pods that serve this model.")] = 1
    gpus: Annotated[
        Annotated[int, Meta(ge=0, le=64)] | None,
        Meta(description="GPUs of each pod; 1 for TensorRTLLM and 0 for the others, if absent."),
    ] = None
    gpu_resource: Annotated[
        str,
        Meta(
            pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
            max_length=128,
            description="The cluster's name for a GPU, or for a MIG slice of one.",
            extra={"rule": "a resource name like nvidia.com/gpu"},
        ),
    ] = "nvidia.com/gpu"
    suspend: Annotated[bool, Meta(description="Drain and remove all pods; everything else stays.")] = False
    image: Annotated[ContainerImages, Meta(description="Images; the operator's own, if absent.")] = ContainerImages()
    resources: Annotated[
        ContainerResources, Meta(description="CPU and memory of each container; GPUs are set by gpus.")
    ] = ContainerResources()
    cache: Annotated[
        CacheSpec | None,
        Meta(description="Where fetched models and built engines outlive a pod; a folder of the pod, if absent."),
    ] = None
    rollout: Annotated[RolloutSpec, Meta(description="How pods are replaced when the spec changes.")] = RolloutSpec()
    load: Annotated[LoadSpec, Meta(description="When loading is given up as stuck.")] = LoadSpec()
    disruption: Annotated[DisruptionSpec, Meta(description="What may disturb a pod.")] = DisruptionSpec()
    auth: Annotated[AuthSpec | None, Meta(description="Who may ask; everyone who reaches the relay, if absent.")] = (
        None
    )
    pod_template: Annotated[
        PodTemplate | None, Meta(description="A strategic merge over the pod that the operator builds.")
    ] = None

    @property
    def engine_name(self) -> EngineName:
        """The engine that a cluster runs."""
        return self.engine.name or ("TensorRTLLM" if self.gpus else "OpenVINO")

    @property
    def gpu_count(self) -> int:
        """GPUs of each pod."""
        return self.gpus if self.gpus is not None else int(self.engine_name == "TensorRTLLM")


class Metadata(Struct, kw_only=True, frozen=True):
    """Kubernetes' object metadata, as far as we read it."""

    name: Annotated[
        str,
        Meta(
            pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$",
            max_length=52,
            description="Name of the resource; pods, Services and job ids begin with it.",
            extra={
                "rule": "lower-case letters, digits and '-', at most 52, beginning with a letter, not ending with '-'"
            },
        ),
    ]
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    uid: str = ""
    generation: int = 0
    deletion_timestamp: str | None = field(name="deletionTimestamp", default=None)


class InferenceWorker(Struct, kw_only=True, rename="camel", frozen=True):
    """One model, served by one kind of worker behind one kind of relay."""

    api_version: Annotated[Literal["rhapsode.dev/v1alpha1"], Meta(description="Always rhapsode.dev/v1alpha1.")]
    kind: Annotated[Literal["InferenceWorker"], Meta(description="Always InferenceWorker.")]
    metadata: Metadata
    spec: Annotated[Spec, Meta(description="What is wanted.")]
    status: Annotated[Status | None, Meta(description="What is so, as the operator sees it.")] = None
