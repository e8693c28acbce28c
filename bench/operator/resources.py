"""What is created and what is seen of it. Called by all of `bench.operator`."""

from typing import Any

import msgspec
from msgspec import Struct

from rhapsode_contract.names import API_VERSION, KIND

RESOURCES = f"/apis/{API_VERSION}/inferenceworkers"
PODS, SERVICES = "/api/v1/pods", "/api/v1/services"
NAMESPACE = "bench"
LOADING = "loading"
"""Pods whose name begins so are kept loading by the nodes."""


class Seen(Struct):
    """What the bench reads of an object. Everything else is not even decoded."""

    metadata: "Metadata"
    spec: "PodSpec | None" = None
    status: "Status | None" = None


class Metadata(Struct, rename="camel"):
    """Who it is."""

    name: str
    uid: str = ""
    generation: int = 0
    deletion_timestamp: str = ""


class PodSpec(Struct, rename="camel"):
    """Where it is."""

    node_name: str = ""


class Load(Struct):
    """How far its load is."""

    stage: str = ""
    percent: int | None = None


class Status(Struct, rename="camel"):
    """How an InferenceWorker is."""

    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    load: Load | None = None


class Change(Struct):
    """One line of a watch."""

    type: str
    object: Seen


class Rest(Struct, rename="camel"):
    """How many more there are."""

    remaining_item_count: int = 0


class Page(Struct):
    """A list, or its beginning."""

    items: list[Seen]
    metadata: Rest


def resource(name: str) -> bytes:
    """Return a manifest with one pod."""
    spec: dict[str, Any] = {"model": {"source": "builtin://simulator"}, "engine": {"name": "Simulator"}}
    metadata = {"name": name, "namespace": NAMESPACE}
    return msgspec.json.encode({"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec})


def names(count: int, prefix: str = "w") -> list[str]:
    """Return so many names."""
    return [f"{prefix}-{number:05d}" for number in range(count)]
