"""The engine port: what the worker needs from whatever runs the model. Nothing more.

An engine lives in a process of its own, so it may block, crash or take minutes to import. Each has
modules of its own here, the only ones that import its package, and all pass `tests/worker/test_engine_contract.py`.
"""

import importlib
import importlib.util
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from rhapsode_contract import frames
from rhapsode_worker.composing import Piece
from rhapsode_worker.errors import LoadError

CLOSE_S = 10.0
"""How long an engine may take to close."""
Narrate = Callable[..., None]
"""`narrate(action, progress=None, **fields)`: tell a built-in action of the catalogue."""


class LoadPlan(Struct, kw_only=True):
    """What an engine is told to load. `attempt` counts its processes, from 1; a path is "" if it needs none.

    `gpus` are there for an engine that uses any.
    """

    engine: str
    model: str
    path: str = ""
    max_sequences: int = 8
    max_context_tokens: int = 2048
    options: dict[str, Any] = {}
    attempt: int = 1
    gpus: int = 1


class Prefilled(NamedTuple):
    """The engine took the request; its prompt has so many tokens, of which some were in the cache (None: unknown)."""

    prompt_tokens: int
    cached_tokens: int | None = None


class Measured(NamedTuple):
    """What the engine itself measured of a request, told before its end. What it does not tell is None."""

    queue_ms: float | None = None
    first_token_ms: float | None = None
    cached_tokens: int | None = None


class Finished(NamedTuple):
    """The request is complete after `tokens` tokens."""

    reason: frames.StopReason
    tokens: int


@dataclass
class EngineStats:
    """How busy the engine is, in requests, and in blocks of its KV cache where it tells them."""

    active: int = 0
    queued: int = 0
    kv_used: int | None = None
    kv_total: int | None = None


Step = Prefilled | Piece | list[Piece] | Measured | Finished


class Engine(Protocol):
    """Runs requests on one model. All calls come from one event loop."""

    async def load(self, plan: LoadPlan, narrate: Narrate) -> frames.Caps:
        """Load the model and say what the engine can do. Raises LoadError."""

    def generate(self, request: frames.Generate) -> AsyncGenerator[Step, None]:
        """Run one request: `Prefilled`, then texts, perhaps `Measured`, then `Finished`. Raises RequestError.

        More than `max_sequences` at once wait inside. Ends with `Finished("cancelled", …)` after `abort`.
        """

    def abort(self, job_id: str) -> None:
        """Stop a request soon; harmless for one that is over or unknown."""

    def stats(self) -> EngineStats: ...

    async def close(self) -> None:
        """Give everything back within `CLOSE_S`, also after a failed load. Running requests end as cancelled."""


class Home(NamedTuple):
    """Where an engine lives: our module and class, and the package that it needs, if any."""

    module: str
    kind: str
    package: str = ""


ENGINES = {
    "OpenVINO": Home("rhapsode_worker.engines.openvino", "OpenVINOEngine", "openvino_genai"),
    "Simulator": Home("rhapsode_worker.engines.simulator", "SimulatorEngine"),
    "TensorRTLLM": Home("rhapsode_worker.engines.tensorrt_llm", "TensorRTLLMEngine", "tensorrt_llm"),
}


def is_installed(name: str) -> bool:
    """Return whether an engine can be started here. Nothing is imported: that may take minutes."""
    home = ENGINES.get(name)
    return home is not None and (not home.package or importlib.util.find_spec(home.package) is not None)


def find_engine(name: str) -> Home:
    """Return where an engine lives, without importing it. Raises LoadError."""
    if not is_installed(name):
        home = ENGINES.get(name)
        raise LoadError(
            "EngineNotInstalled",
            f"engine {name} needs {home.package}, which is not installed here"
            if home
            else f"engine {name} is not part of this version",
            f"Set spec.engine.name to one of {', '.join(filter(is_installed, ENGINES))}.",
        )
    return ENGINES[name]


def make_engine(name: str) -> Engine:
    """Return an engine that has loaded nothing yet. Importing it may take long. Raises LoadError."""
    module, kind, _ = find_engine(name)
    try:
        engine: Engine = getattr(importlib.import_module(module), kind)()
    except ImportError as exc:
        raise LoadError(
            "EngineNotInstalled",
            f"{name} cannot be imported: {(str(exc).splitlines() or [module])[0][:300]}",
            f"Install what it needs: pip install 'rhapsode[{name.lower()}]'.",
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
