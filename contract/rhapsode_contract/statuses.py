"""What an `InferenceWorker` is told back: its status, as the operator writes it. Times are RFC 3339 in UTC.

Programs read `conditions`; `phase`, `narration` and the summaries are for people and may change their words.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from rhapsode_contract.frames import VramSource

ConditionType = Literal["Ready", "Reconciling", "Stalled", "ModelLoaded", "VRAMPressure"]
WorkerPhase = Literal[
    "Pending", "Starting", "Loading", "Ready", "Updating", "Degraded", "Draining", "Suspended", "Failed"
]


class Condition(Struct, kw_only=True, rename="camel"):
    """A Kubernetes condition."""

    type: Annotated[ConditionType, Meta(description="Which condition.")]
    status: Annotated[Literal["True", "False", "Unknown"], Meta(description="Whether it holds.")]
    reason: Annotated[str, Meta(description="Why, in one stable word; docs/inferenceworker.md has the remedies.")]
    message: Annotated[str, Meta(description="Why, in a sentence, with what to do.")] = ""
    last_transition_time: Annotated[str, Meta(description="When status last changed.")] = ""
    observed_generation: Annotated[int, Meta(description="The generation of the spec that was judged.")] = 0


class LoadStatus(Struct, kw_only=True, rename="camel", omit_defaults=True):
    """How far loading is."""

    stage: Annotated[str, Meta(description="What is being done, such as loading weights.")] = ""
    percent: Annotated[int | None, Meta(description="How much of the stage is done, if it can be measured.")] = None
    eta: Annotated[str, Meta(description="When the stage should be done, if that is known.")] = ""
    since: Annotated[str, Meta(description="When the stage began.")] = ""
    summary: Annotated[str, Meta(description="The column: stage and percent, or loaded.")] = ""


class GpuStatus(Struct, kw_only=True, omit_defaults=True):
    """One GPU of the worker, in MiB as NVML reports it."""

    uuid: Annotated[str, Meta(description="NVML's UUID of the GPU or MIG instance.")]
    pod: Annotated[str, Meta(description="The pod that holds it.")] = ""
    name: Annotated[str, Meta(description="Its product name.")] = ""
    used_mib: Annotated[int, Meta(description="MiB in use.")] = field(name="usedMiB")
    total_mib: Annotated[int, Meta(description="MiB there are.")] = field(name="totalMiB")
    reserved_mib: Annotated[int | None, Meta(description="MiB that the driver keeps for itself.")] = field(
        name="reservedMiB", default=None
    )
    utilization: Annotated[int | None, Meta(description="Percent of time that it was busy.")] = None
    healthy: Annotated[bool, Meta(description="False if it cannot be asked: its sizes are then the last known.")] = (
        True
    )
    trouble: Annotated[str, Meta(description="Why it cannot be asked.")] = ""


class VramStatus(Struct, kw_only=True, omit_defaults=True):
    """What the worker's GPUs hold together. `summary` is for the column, `source` says who measured."""

    source: Annotated[
        VramSource,
        Meta(description="nvml, none (no driver) or unsupported (the driver cannot tell): never a guess."),
    ]
    summary: Annotated[str, Meta(description="The column, such as 71.3/80 GiB.")] = ""
    used_mib: Annotated[int | None, Meta(description="MiB in use on all GPUs.")] = field(name="usedMiB", default=None)
    total_mib: Annotated[int | None, Meta(description="MiB of all GPUs.")] = field(name="totalMiB", default=None)
    gpus: Annotated[list[GpuStatus], Meta(description="Each GPU.")] = []
    observed_at: Annotated[str, Meta(description="When NVML was asked.")] = field(name="observedAt", default="")


class NarrationStatus(Struct, kw_only=True):
    """The last sentence of the worker and since when it holds."""

    text: Annotated[str, Meta(description="The sentence.")] = ""
    since: Annotated[str, Meta(description="When it was said.")] = ""


class LastExit(Struct, kw_only=True):
    """How a replica's container ended last time."""

    reason: Annotated[str, Meta(description="Why, in one stable word.")]
    code: Annotated[int, Meta(description="Exit code of the container; 128 + signal if one killed it.")] = 0
    message: Annotated[str, Meta(description="Its last words.")] = ""


class ReplicaStatus(Struct, kw_only=True, rename="camel", omit_defaults=True):
    """One replica; `pod` is its key."""

    pod: Annotated[str, Meta(description="Name of the pod.")]
    node: Annotated[str, Meta(description="Name of its node.")] = ""
    ready: Annotated[bool, Meta(description="Whether its model is loaded and it serves.")] = False
    restarts: Annotated[int, Meta(description="How often its containers were restarted.")] = 0
    replaced: Annotated[int, Meta(description="How often it failed and was replaced, since it was last ready.")] = 0
    load: Annotated[LoadStatus | None, Meta(description="How far it is with loading.")] = None
    last_exit: Annotated[LastExit | None, Meta(description="How it ended last time.")] = None


class Status(Struct, kw_only=True, rename="camel", omit_defaults=True):
    """What is so."""

    observed_generation: Annotated[int, Meta(description="The generation of the spec that this status is about.")] = 0
    replicas: Annotated[int, Meta(description="Pods that there are.")] = 0
    ready_replicas: Annotated[int, Meta(description="Pods whose model is loaded and that serve.")] = 0
    updated_replicas: Annotated[int, Meta(description="Pods that were made from the present spec.")] = 0
    selector: Annotated[str, Meta(description="Label selector of the pods, for scaling.")] = ""
    phase: Annotated[WorkerPhase | None, Meta(description="One word for people; programs read conditions.")] = None
    engine: Annotated[str, Meta(description="The engine that runs the model.")] = ""
    conditions: Annotated[list[Condition], Meta(description="What holds, and why.")] = []
    load: Annotated[LoadStatus | None, Meta(description="The least advanced load of all pods.")] = None
    vram: Annotated[VramStatus | None, Meta(description="What the GPUs of all pods hold.")] = None
    narration: Annotated[NarrationStatus | None, Meta(description="The last sentence of a worker.")] = None
    nodes: Annotated[str, Meta(description="The column: names of the nodes of all pods.")] = ""
    workers: Annotated[list[ReplicaStatus], Meta(description="Each pod.")] = []
    endpoint: Annotated[str, Meta(description="Where clients stream from, inside the cluster.")] = ""
