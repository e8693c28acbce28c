"""Rules that concern more than one field, or a change: in CEL for the API server and in Python for `rhapsode play`.

One table, one message for both. `holds` is None for what only a cluster can judge: a change of what is immutable.
In a path, `[]` stands for every item of a list.
"""

from collections.abc import Callable, Iterator
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


def _have_different_names(items: list[Any]) -> bool:
    found = [_of(item, "name") for item in items]
    return all(found.count(name) == 1 for name in found)


def _stars_are_those_of_path(rule: dict[str, Any]) -> bool:
    """Whether each `*` of fallbackFrom means the item that path means there."""
    source, path = str(rule.get("fallbackFrom") or ""), str(rule.get("path"))
    return "/*" not in source or path.startswith(source[: source.rindex("/*") + 2])


def _points_into_request(gate: dict[str, Any]) -> bool:
    return gate.get("from") != "request" or str(gate.get("path")).startswith(("/policy/", "/inputs/"))


_OURS = (
    "connection", "content-length", "content-type", "host", "idempotency-key", "transfer-encoding",
    "x-correlation-id", "x-rhapsode-turn",
)  # fmt: skip
"""Headers that the relay sets itself."""


def _header_rule(path: str) -> Rule:
    return Rule(
        path,
        f"!(self.lowerAscii() in {list(_OURS)})",
        "the relay sets this header itself; choose another, such as Authorization",
        lambda header: header.lower() not in _OURS,
    )


def _names_rule(path: str, what: str) -> Rule:
    cel = "self.all(one, self.exists_one(other, other.name == one.name))"
    return Rule(path, cel, f"expected {what} with different names", _have_different_names)


_TURNS = (
    _names_rule("spec.outcomes", "contracts"),
    _names_rule("spec.outcomes[].context", "context sources"),
    _names_rule("spec.outcomes[].sinks", "sinks"),
    Rule(
        "spec.outcomes[].normalize[].path",
        "self.startsWith('/intents/')",
        "expected a place below /intents; the narrative is stored as it was streamed",
        lambda path: path.startswith("/intents/"),
    ),
    Rule(
        "spec.outcomes[].normalize[]",
        "!has(self.fallbackFrom) || !self.fallbackFrom.contains('/*')"
        " || self.path.startsWith(self.fallbackFrom.substring(0, self.fallbackFrom.lastIndexOf('/*') + 2))",
        "a '*' in fallbackFrom is the item that path means: both must be the same up to it",
        _stars_are_those_of_path,
    ),
    Rule(
        "spec.outcomes[].sinks[].when[]",
        "self.from != 'request' || self.path.startsWith('/policy/') || self.path.startsWith('/inputs/')",
        "a path into the request begins with /policy/ or /inputs/",
        _points_into_request,
    ),
    Rule(
        "spec.outcomes[].sinks[]",
        "!has(self.__as__) || !has(self.fields) || !(self.__as__ in self.fields)",
        "as and fields name the same field",
        lambda sink: not isinstance(sink.get("fields"), dict) or sink.get("as") not in sink["fields"],
    ),
    _header_rule("spec.outcomes[].context[].secretHeader.header"),
    _header_rule("spec.outcomes[].sinks[].secretHeader.header"),
)

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
        "spec.relay.cors.allowedOrigins",
        "!('*' in self) || self.size() == 1",
        "'*' allows every origin; leave the others out",
        lambda origins: "*" not in origins or len(origins) == 1,
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
    *_TURNS,
)


def values_at(raw: object, path: str, where: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what a manifest holds at a path of a rule, each with where that is; nothing for what is absent."""
    step, _, rest = path.partition(".")
    name = step.removesuffix("[]")
    value, here = _of(raw, name), f"{where}.{name}" if where else name
    found = [(here, value)]
    if step != name:
        found = [(f"{here}[{index}]", item) for index, item in enumerate(value if isinstance(value, list) else [])]
    for place, item in found:
        if item is not None and rest:
            yield from values_at(item, rest, place)
        elif item is not None:
            yield place, item
