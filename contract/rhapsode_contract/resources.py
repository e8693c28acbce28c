"""The `InferenceWorker` resource: what a platform team asks for and what it is told back.

Descriptions and bounds live here once: the validation words, the reference page and (later) the CRD are made
from them.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from rhapsode_contract.frames import Phase, VramSource
from rhapsode_contract.requests import OnDisconnect, Style
from rhapsode_contract.sources import SOURCE_FORMS, SOURCE_PATTERN, parse_source

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

    @property
    def name(self) -> str:
        """What clients call the model."""
        return self.served_name or parse_source(self.source).default_name()


class EngineSpec(Struct, kw_only=True, rename="camel", frozen=True):
    """What runs the model, and how much of it at once."""

    name: Annotated[
        EngineName | None,
        Meta(description="TensorRTLLM where there is an NVIDIA GPU and OpenVINO elsewhere, if absent."),
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


class Spec(Struct, kw_only=True, rename="camel", frozen=True):
    """What is wanted."""

    model: ModelSpec
    engine: EngineSpec = EngineSpec()
    relay: RelaySpec = RelaySpec()


class Metadata(Struct, kw_only=True, frozen=True):
    """Kubernetes' object metadata, as far as we read it."""

    name: Annotated[
        str,
        Meta(
            pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            max_length=52,
            description="Name of the resource; pods, Services and job ids begin with it.",
            extra={
                "rule": "lower-case letters, digits and '-', at most 52, beginning and ending with a letter or digit"
            },
        ),
    ]
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Condition(Struct, kw_only=True, rename="camel"):
    """A Kubernetes condition."""

    type: Literal["Ready", "Reconciling", "Stalled", "ModelLoaded", "VRAMPressure"]
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0


class LoadStatus(Struct, kw_only=True, rename="camel", omit_defaults=True):
    """How far loading is."""

    stage: str = ""
    percent: int | None = None
    eta: str = ""
    since: str = ""


class GpuStatus(Struct, kw_only=True, omit_defaults=True):
    """One GPU of the worker, in MiB as NVML reports it."""

    uuid: str
    name: str = ""
    used_mib: int = field(name="usedMiB")
    total_mib: int = field(name="totalMiB")
    reserved_mib: int | None = field(name="reservedMiB", default=None)
    utilization: int | None = None


class VramStatus(Struct, kw_only=True, omit_defaults=True):
    """What the worker's GPUs hold together. `summary` is for the column, `source` says who measured."""

    source: VramSource = "none"
    summary: str = ""
    used_mib: int | None = field(name="usedMiB", default=None)
    total_mib: int | None = field(name="totalMiB", default=None)
    gpus: list[GpuStatus] = []
    observed_at: str = field(name="observedAt", default="")


class NarrationStatus(Struct, kw_only=True):
    """The last sentence of the worker and since when it holds."""

    text: str = ""
    since: str = ""


class LastExit(Struct, kw_only=True):
    """How a replica ended last time."""

    reason: str
    code: int = 0
    message: str = ""


class ReplicaStatus(Struct, kw_only=True, rename="camel", omit_defaults=True):
    """One replica; `pod` is its key."""

    pod: str
    node: str = ""
    ready: bool = False
    restarts: int = 0
    load: LoadStatus | None = None
    last_exit: LastExit | None = None


class Status(Struct, kw_only=True, rename="camel", omit_defaults=True):
    """What is so."""

    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    updated_replicas: int = 0
    selector: str = ""
    phase: Phase | None = None
    conditions: list[Condition] = []
    load: LoadStatus | None = None
    vram: VramStatus | None = None
    narration: NarrationStatus | None = None
    workers: list[ReplicaStatus] = []
    endpoint: str = ""


class InferenceWorker(Struct, kw_only=True, rename="camel", frozen=True):
    """One model, served by one kind of worker behind one kind of relay."""

    api_version: Annotated[Literal["rhapsode.dev/v1alpha1"], Meta(description="Always rhapsode.dev/v1alpha1.")]
    kind: Annotated[Literal["InferenceWorker"], Meta(description="Always InferenceWorker.")]
    metadata: Metadata
    spec: Spec
    status: Status | None = None
