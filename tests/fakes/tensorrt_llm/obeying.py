"""Texts that keep to a guide, as far as the tests need them."""

import importlib
import json
import re
from typing import Any

from .sampling_params import GuidedDecodingParams

patterns: Any = importlib.import_module("re._parser")


def obedient(guide: GuidedDecodingParams) -> str:
    """Return some text that keeps to a guide."""
    if guide.regex is not None:
        return "".join(_match(*part) for part in patterns.parse(guide.regex))
    if guide.grammar is not None:
        return "".join(re.findall(r'"([^"]*)"', re.split(r"\||\n", guide.grammar)[0]))
    schema = json.loads(guide.json) if isinstance(guide.json, str) else guide.json
    return json.dumps(_value(schema), ensure_ascii=False)


def _match(kind: Any, what: Any) -> Any:
    match str(kind):
        case "LITERAL":
            return chr(what)
        case "IN":
            first, value = what[0]
            return "7" if str(first) == "CATEGORY" else chr(value[0] if str(first) == "RANGE" else value)
        case "MAX_REPEAT":
            return "".join(_match(*part) for part in what[2]) * what[0]
        case "SUBPATTERN":
            return "".join(_match(*part) for part in what[3])
        case "BRANCH":
            return "".join(_match(*part) for part in what[1][0])
    raise NotImplementedError(kind)


def _value(schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: _value(part) for name, part in schema.get("properties", {}).items()}
        case "integer":
            return 7
        case _:
            return "seven"
