"""How the simulator calls tools: one of those it was given, with arguments that its schema allows. Pure.

Which one is a function of seed and prompt, as its text is. Arguments are the least that a schema asks for: required
fields only, first choices, lowest numbers.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, TypeGuard

import msgspec

from rhapsode_contract import frames
from rhapsode_contract.tools import CLOSING, OPENING, Tool
from rhapsode_worker.engines.simulating import words_of

ANSWER_TOKENS = 24
_MOST = 64
"""Items of an array and characters of a string, whatever a schema asks."""
_PARTS = 128
"""Values within one value: a schema that holds itself would ask for more without end."""
_TOKEN = re.compile(r"\w+|\s*[^\w\s]|\s+")
"""Tags are several tokens, as they are for models that were not trained on them."""


def say_in_turn(request: frames.Generate, seed: int, prompt: str) -> Iterator[str]:
    """Yield the text of each token of an answer: a call, or after a tool's result a few words, so that agents end."""
    words = words_of(seed, prompt)
    if request.messages and request.messages[-1].role == "tool":
        return islice(words, ANSWER_TOKENS)
    return say_call(request.tools, seed, prompt) if request.tools else words


def say_call(tools: Sequence[Tool], seed: int, prompt: str) -> Iterator[str]:
    """Yield the text of each token of a call."""
    digest = hashlib.sha256(f"{seed}\0{prompt}".encode()).digest()
    function = tools[int.from_bytes(digest[:8]) % len(tools)].function
    call = {"name": function.name, "arguments": least(function.parameters)}
    text = f"{OPENING}\n{msgspec.json.encode(call).decode()}\n{CLOSING}"
    yield from _TOKEN.findall(text)


def least(schema: Any) -> Any:
    """Return a small value that a JSON schema allows, as far as its common words go."""
    return _Maker(schema).value(schema)


class _Maker:
    """Makes one value; `root` is what references are looked up in."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._left = _PARTS

    def value(self, schema: Any) -> Any:
        if not isinstance(schema, dict) or self._left == 0:
            return {}
        self._left -= 1
        for word in ("const", "default"):
            if word in schema:
                return schema[word]
        if _is_list(listed := schema.get("enum")):
            return listed[0]
        for word in ("anyOf", "oneOf", "allOf"):
            if _is_list(choices := schema.get(word)):
                return self.value(choices[0])
        if isinstance(reference := schema.get("$ref"), str):
            return self.value(_find(self._root, reference))
        return self._of_kind(schema)

    def _of_kind(self, schema: dict[str, Any]) -> Any:
        kind = schema.get("type", "object")
        match kind[0] if _is_list(kind) else kind:
            case "string":
                return "x" * _bound(schema.get("minLength"), 1)
            case "integer" | "number":
                return _number(schema)
            case "boolean":
                return True
            case "null":
                return None
            case "array":
                return [self.value(schema.get("items")) for _ in range(_bound(schema.get("minItems"), 0))]
            case _:
                return self._object(schema)

    def _object(self, schema: dict[str, Any]) -> dict[str, Any]:
        required, known = schema.get("required"), schema.get("properties")
        parts = known if isinstance(known, dict) else {}
        names = required[:_MOST] if _is_list(required) else []
        return {name: self.value(parts.get(name)) for name in names if isinstance(name, str)}


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    """Return whether there is something in a list."""
    return isinstance(value, list) and bool(value)


def _number(schema: dict[str, Any]) -> Any:
    for word, step in (("minimum", 0), ("exclusiveMinimum", 1), ("maximum", 0), ("exclusiveMaximum", -1)):
        bound = schema.get(word)
        if isinstance(bound, int | float) and not isinstance(bound, bool):
            return bound + step
    return 1


def _bound(value: Any, lowest: int) -> int:
    return min(max(value, lowest), _MOST) if isinstance(value, int) else lowest


def _find(root: Any, reference: str) -> Any:
    """Return what a reference within a schema names; nothing if there is no such thing."""
    found = root
    for part in filter(None, reference.removeprefix("#").split("/")):
        found = found.get(part) if isinstance(found, dict) else None
    return found
