"""Rules that concern more than one field, or a change: in CEL for the API server and in Python for `rhapsode play`.

One table, one message for both. `holds` is None for what only a cluster can judge: a change of what is immutable.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from rhapsode_contract.sources import SOURCE_FORMS, parse_source


class Rule(NamedTuple):
    """`path` must obey `cel`; `holds` says the same of the value there, when it is there."""

    path: str
    cel: str
    message: str
    holds: Callable[[Any], bool] | None = None


def _parses(source: str) -> bool:
    try:
        parse_source(source)
    except ValueError:
        return False
    return True


def _of(part: object, name: str) -> Any:
    return part.get(name) if isinstance(part, dict) else None


def _has_gpus_for_engine(spec: dict[str, Any]) -> bool:
    return _of(spec.get("engine"), "name") != "TensorRTLLM" or spec.get("gpus") != 0


def _names_no_class_of_a_claim(cache: dict[str, Any]) -> bool:
    return _of(cache, "claim") is None or (_of(cache, "storageClass") is None)


RULES: tuple[Rule, ...] = (
    Rule(
        "spec.model.source",
        r"!self.matches(r'://(.*/)?\.\.(/|$)')",
        f"expected {SOURCE_FORMS}, without '..'",
        _parses,
    ),
    Rule(
        "spec",
        "!has(self.engine) || !has(self.engine.name) || self.engine.name != 'TensorRTLLM'"
        " || !has(self.gpus) || self.gpus > 0",
        "engine TensorRTLLM needs gpus of at least 1; leave gpus out, or choose OpenVINO",
        _has_gpus_for_engine,
    ),
    Rule(
        "spec.cache",
        "has(self.claim) != has(self.size)",
        "expected either claim, an existing volume, or size, a new one for each pod",
        lambda cache: (_of(cache, "claim") is None) != (_of(cache, "size") is None),
    ),
    Rule(
        "spec.cache",
        "!has(self.claim) || !has(self.storageClass)",
        "storageClass belongs to size; an existing claim has its own",
        _names_no_class_of_a_claim,
    ),
    Rule(
        "spec.cache",
        "has(self.size) == has(oldSelf.size) && (!has(self.size) || self.size == oldSelf.size)"
        " && has(self.storageClass) == has(oldSelf.storageClass)"
        " && (!has(self.storageClass) || self.storageClass == oldSelf.storageClass)"
        " && self.accessMode == oldSelf.accessMode",
        "size, storageClass and accessMode cannot be changed; delete the worker and create it again",
    ),
)


def value_at(raw: object, path: str) -> Any:
    """Return what a manifest holds at a dotted path, or None."""
    for part in path.split("."):
        raw = _of(raw, part)
    return raw
