"""What the operator narrates to those who wait at a pod's relay: a part of the catalogue's table, under its rules."""

from rhapsode_contract.entries import tell_of_life as _life

CLUSTER_ENTRIES = (
    _life(
        "pod_scheduled", "operator", "Pod {pod} has a place on node {node}",
        "{node} makes some room 🛏️", "A place was found on {node}.", target="node",
    ),
    _life(
        "image_pull", "operator", "Pulling the worker's image {image:word} to {node}",
        "A big parcel is on its way 📦", "A big parcel set out for {node}.", target="image",
    ),
    _life(
        "image_still_pulling", "operator", "Still pulling {image:word}: {elapsed_s:span}",
        "The parcel is heavy 🐌", "After {elapsed_s:span} the parcel was still on its way.", target="image",
    ),
    _life("image_failed", "operator", "{why:whole}", level="error"),
    _life(
        "container_restart", "operator", "The {container} ended by {how} and is started again, number {count}",
        level="warn", target="container",
    ),
    _life("load_stalled", "operator", "{why:whole}", level="error"),
    _life(
        "rollout", "operator", "{pod} is replaced by a new version; what runs here may finish",
        "A fresh singer waits behind the curtain 🎭", "{pod} sang its last songs for its successor.", target="pod",
    ),
)  # fmt: skip
