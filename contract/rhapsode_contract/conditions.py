"""Conditions of an InferenceWorker and their reasons, each with its remedy. One table.

The operator puts the remedy into every message; `docs/inferenceworker.md` is made from it. A reason's name never
changes once released.
"""

from collections.abc import Mapping
from typing import NamedTuple

from rhapsode_contract.statuses import ConditionType


class Reason(NamedTuple):
    """Why a condition is as it is. `stalls`: only a person can help. `remedy` is what that person does."""

    name: str
    what: str
    remedy: str = ""
    stalls: bool = False


CONDITIONS: Mapping[ConditionType, str] = {
    "Ready": "All wanted pods were made from the present spec, have their model loaded and serve.",
    "Reconciling": "The operator still changes something: pods are made, loaded, drained or replaced.",
    "Stalled": "Nothing will change until a person acts. The message says how.",
    "ModelLoaded": "At least one pod has its model in memory, so somebody is served.",
    "VRAMPressure": "A GPU of a pod is nearly full: more than 97 % of its memory is in use.",
}

_USUAL = (
    Reason("AllReplicasReady", "every wanted pod serves"),
    Reason("Creating", "a pod is being made"),
    Reason("Scheduling", "a pod waits for the scheduler"),
    Reason("ImagePulling", "an image is being pulled"),
    Reason("Starting", "a pod's relay is up and its worker starts"),
    Reason("Loading", "a model is being loaded"),
    Reason("RollingOut", "pods are replaced by new ones, one at a time"),
    Reason("Draining", "running requests finish before a pod goes"),
    Reason("Scaling", "pods beyond spec.replicas go"),
    Reason("Suspended", "spec.suspend is true, or spec.replicas is 0", "Set spec.suspend to false."),
    Reason("NoProblem", "nothing is wrong"),
    Reason("Finished", "nothing is left to do"),
    Reason("Loaded", "at least one pod has its model in memory"),
    Reason("NotLoaded", "no pod has its model in memory"),
    Reason("VRAMLow", "enough of every GPU's memory is free"),
    Reason(
        "VRAMHigh", "a GPU is nearly full", "Lower spec.engine.maxSequences or maxContextTokens before requests fail."
    ),
    Reason("VRAMUnknown", "nobody measures: there is no NVIDIA driver, or it cannot tell"),
)
_FAILURES = (
    Reason(
        "ImagePull", "an image cannot be pulled",
        "Check the image's name and tag, and the pull secret of the namespace's service account.", stalls=True,
    ),
    Reason(
        "Unschedulable", "no node takes a pod; the message says what is missing",
        "Free or add what is missing, or lower spec.gpus, spec.replicas or spec.resources.", stalls=True,
    ),
    Reason(
        "ContainerOOM", "the kernel killed a container for using more memory than its limit",
        "Raise the container's memory limit in spec.resources.", stalls=True,
    ),
    Reason(
        "CUDAOutOfMemory", "the GPU has too little free memory for the model or its KV cache",
        "Lower spec.engine.maxSequences, maxContextTokens or the option kvCacheFraction, or ask for more gpus.",
        stalls=True,
    ),
    Reason("ModelNotFound", "there is no such model", "Correct spec.model.source.", stalls=True),
    Reason(
        "SourceNotSupported", "this version cannot read such a source", "Use another form of spec.model.source.",
        stalls=True,
    ),
    Reason("BadEngineOption", "the engine refuses an option", "Correct spec.engine.options.", stalls=True),
    Reason(
        "EngineNotInstalled", "the worker's image does not hold the engine",
        "Set spec.image.worker or spec.engine.name.", stalls=True,
    ),
    Reason("ModelLoadFailed", "the engine cannot load the model", "The message has the engine's words.", stalls=True),
    Reason(
        "ModelNotSupported", "the engine does not know the model's architecture",
        "Choose another model, or another engine in spec.engine.name.", stalls=True,
    ),
    Reason(
        "CheckpointBroken", "the model's files are damaged, or do not belong together",
        "Fetch the model again, and check that it is whole.", stalls=True,
    ),
    Reason(
        "DriverMismatch", "the node's GPU driver and the worker's image do not fit together",
        "Update the node's driver, or set spec.image.worker to an image for it.", stalls=True,
    ),
    Reason(
        "GPUsNotConnected", "the processes of several GPUs cannot talk to each other (NCCL or MPI)",
        "Look at the lines with NCCL or MPI in the worker's log, and at the GPUs' links.",
    ),
    Reason(
        "SharedMemoryMissing", "the worker has no shared memory, or too little",
        "Give the pod a memory volume at /dev/shm of at least 1 GiB.", stalls=True,
    ),
    Reason(
        "ModelGated", "the hub gives the model only to those it knows",
        "Accept the model's terms at the hub, and name the Secret of a token that may read it in"
        " spec.model.tokenSecretRef.", stalls=True,
    ),
    Reason(
        "CacheFull", "the cache has no room for the model",
        "Make room in the cache, or name a larger one in spec.cache.", stalls=True,
    ),
    Reason("FetchFailed", "the model could not be fetched", "Check the network and the room in the cache."),
    Reason("EngineCrash", "the engine ended by itself, again and again", "Look at the worker's log.", stalls=True),
    Reason("WorkerCrash", "the worker's container ended by itself", "Look at the worker's log."),
    Reason("RelayCrash", "the relay's container ended by itself", "Look at the relay's log."),
    Reason(
        "LoadStalled", "loading made no progress for spec.load.stallSeconds",
        "Look at the worker's log; if such a load is usual, raise spec.load.stallSeconds.", stalls=True,
    ),
    Reason(
        "RelayUnreachable", "the operator cannot reach a pod's relay",
        "Check network policies: the operator must reach port 9101 of the pods.",
    ),
    Reason(
        "PodRejected", "the node refused a pod, often because a GPU is gone or its device plugin is not ready",
        "Look at the node's GPUs and its device plugin; the pod is tried again with growing pauses.",
    ),
    Reason("Evicted", "the node put a pod out", "Look at the node's memory and disk; the pod is made again."),
    Reason("PodFailed", "a pod ended", "The pod is made again with growing pauses; look at its message."),
    Reason(
        "NodeLost", "a pod's node does not answer",
        "Repair or delete the node; the pod's name is free only when Kubernetes is sure that the pod is gone.",
    ),
    Reason(
        "ContainerConfig", "a container cannot be made, often because a Secret or a volume is missing",
        "Make what the message names.", stalls=True,
    ),
    Reason("NameTaken", "an object that is not ours has a name that we need", "Rename one of the two.", stalls=True),
    Reason(
        "InvalidSpec", "the API server, or the relay, refuses what the spec asks for",
        "Correct the spec, often podTemplate.", stalls=True,
    ),
    Reason(
        "Forbidden", "the operator or the namespace's quota or policy does not allow it",
        "Compare the operator's role with deploy/role.yaml, and look at quota and Pod Security.", stalls=True,
    ),
)  # fmt: skip

REASONS: Mapping[str, Reason] = {reason.name: reason for reason in (*_USUAL, *_FAILURES)}
FAILURES: Mapping[str, Reason] = {reason.name: reason for reason in _FAILURES}
