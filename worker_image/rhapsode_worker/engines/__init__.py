"""The engine port: what the worker needs from whatever runs the model. Nothing more.

An engine lives in a process of its own, so it may block, crash or take minutes to import. Each has one file
here, the only one that imports it, and all pass `tests/worker/test_engine_contract.py`.
"""

import importlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from rhapsode_contract import frames
from rhapsode_worker.composing import Piece
from rhapsode_worker.errors import LoadError

Narrate = Callable[..., None]
"""`narrate(action, progress=None, **fields)`: tell a built-in action of the catalogue."""


class LoadPlan(Struct, kw_only=True):
    """What an engine is told to load. `attempt` counts its processes, from 1; a path is "" if it needs none."""

    engine: str
    model: str
    path: str = ""
    max_sequences: int = 8
    max_context_tokens: int = 2048
    options: dict[str, Any] = {}
    attempt: int = 1


class Prefilled(NamedTuple):
    """The engine took the request; its prompt has so many tokens, of which some were in the cache (None: unknown)."""

    prompt_tokens: int
    cached_tokens: int | None = None


class Finished(NamedTuple):
    """The request is complete after `tokens` tokens."""

    reason: frames.StopReason
    tokens: int


@dataclass
class EngineStats:
    """How busy the engine is, in requests."""

    active: int = 0
    queued: int = 0


Step = Prefilled | Piece | list[Piece] | Finished


class Engine(Protocol):
    """Runs requests on one model. All calls come from one event loop."""

    async def load(self, plan: LoadPlan, narrate: Narrate) -> frames.Caps:
        """Load the model and say what the engine can do. Raises LoadError."""

    def generate(self, request: frames.Generate) -> AsyncGenerator[Step, None]:
        """Run one request: `Prefilled`, then texts, then `Finished`. Raises RequestError.

        More than `max_sequences` at once wait inside. Ends with `Finished("cancelled", …)` after `abort`.
        """

    def abort(self, job_id: str) -> None:
        """Stop a request soon; harmless for one that is over or unknown."""

    def stats(self) -> EngineStats: ...

    async def close(self) -> None:
        """Give everything back. Running requests end as cancelled."""


ENGINES = {
    "OpenVINO": ("rhapsode_worker.engines.openvino", "OpenVINOEngine"),
    "Simulator": ("rhapsode_worker.engines.simulator", "SimulatorEngine"),
}


def find_engine(name: str) -> tuple[str, str]:
    """Return the module and the class of an engine, without importing it. Raises LoadError."""
    if name not in ENGINES:
        raise LoadError(
            "EngineNotInstalled",
            f"engine {name} is not part of this version",
            f"Set spec.engine.name to one of {', '.join(ENGINES)}.",
        )
    return ENGINES[name]


def make_engine(name: str) -> Engine:
    """Return an engine that has loaded nothing yet. Importing it may take long. Raises LoadError."""
    module, kind = find_engine(name)
    try:
        engine: Engine = getattr(importlib.import_module(module), kind)()
    except ImportError as exc:
        raise LoadError(
            "EngineNotInstalled",
            f"{exc.name or module} cannot be imported",
            f"Install it: pip install 'rhapsode[{name.lower()}]'.",
        ) from exc
    return engine


def check_options(options: dict[str, Any], known: dict[str, tuple[type, ...]], engine: str) -> None:
    """Refuse options that the engine does not know, or of the wrong kind. Raises LoadError."""
    for name, value in options.items():
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise LoadError(
                "BadEngineOption",
                f"{engine} has no option {name!r}",
                f"Remove spec.engine.options.{name}; known are {names}.",
            )
        kinds = known[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise LoadError(
                "BadEngineOption",
                f"option {name!r} of {engine} is {value!r}",
                f"Set spec.engine.options.{name} to a value of type {wanted}.",
            )
