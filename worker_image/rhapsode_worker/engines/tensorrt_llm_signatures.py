"""Compare an installed tensorrt_llm with the signatures that we rely on. Called by `tensorrt_llm`.

The signatures are data, `tensorrt_llm_signatures.yaml`; nothing is imported here but what the file names.
"""

import importlib
import inspect
from importlib.resources import files
from typing import Any

REQUIRED = "required"


def committed() -> dict[str, Any]:
    """Return the file. Its reader comes with the hub's client, and with transformers."""
    import yaml

    text = (files("rhapsode_worker.engines") / "tensorrt_llm_signatures.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def find(name: str) -> Any:
    """Return what a dotted name means; None if there is no such thing."""
    parts = name.split(".")
    for size in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:size]))
        except ImportError:
            continue
        for part in parts[size:]:
            found = getattr(found, part, None)
        return found
    return None


def parameters_of(something: Any) -> dict[str, Any]:
    """Return what may be named in a call, with its default; `self` and open keywords are none."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(something).parameters.items()
    return {
        name: REQUIRED if one.default is inspect.Parameter.empty else one.default
        for name, one in found
        if one.kind in kinds and name != "self"
    }


def is_open(something: Any) -> bool:
    """Return whether a callable takes any keyword."""
    return any(one.kind is inspect.Parameter.VAR_KEYWORD for one in inspect.signature(something).parameters.values())


def differences() -> list[str]:
    """Return what the installed package lacks of what we use, in words."""
    known, found = committed(), []
    for name, wanted in known["callables"].items():
        something = find(name)
        if something is None:
            found.append(f"there is no {name}")
            continue
        has = parameters_of(something)
        missing = [] if is_open(something) else [one for one in wanted.get("used", ()) if one not in has]
        found += [f"{name} has no {one}" for one in missing]
    for name, members in known["members"].items():
        something = find(name)
        if something is None:
            found.append(f"there is no {name}")
        else:
            found += [f"{name} has no {one}" for one in members if not hasattr(something, one)]
    return found
