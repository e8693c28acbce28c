"""What the simulator says and suffers: its text and its script. Pure.

The text is a function of seed, prompt and max_tokens alone, so that any reader can check what it received.
"""

import hashlib
import random
import zlib
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from rhapsode_contract import frames
from rhapsode_worker.errors import LoadError

_PLAIN = "the a of song stitched together by night and performed live over seven gates while an old harp rang"
_HARD = 'café naïve über 東京 歌 🌅 🎼 "quoted" back\\slash <b> &amp;'
WORDS = (*(f" {word}" for word in f"{_PLAIN} {_HARD}".split()), "\n", ",", ".", ";", "—", "…", "'s", "ing", "ed")
"""Words of one token each: plain ones, and some that are hard on encoders."""


def words_of(seed: int, prompt: str) -> Iterator[str]:
    """Yield the endless text for a seed and a prompt, word by word."""
    digest = hashlib.sha256(f"{seed}\0{prompt}".encode()).digest()
    draw = random.Random(int.from_bytes(digest[:8])).random  # noqa: S311 (reproducible, not secret)
    while True:
        yield WORDS[int(draw() * len(WORDS))]


def simulated_text(seed: int, prompt: str, max_tokens: int) -> str:
    """Return what the simulator answers if no stop string ends it."""
    words = words_of(seed, prompt)
    return "".join(next(words) for _ in range(max_tokens))


def made_up_logprob(token: str) -> float:
    """Return what is told as a token's log probability: made up of its text, as there is no model to ask."""
    return -(zlib.crc32(token.encode()) % 640) / 128


def prompt_of(request: frames.Generate) -> str:
    """Return a request's prompt; tools and messages are one line each."""
    if request.messages is None:
        return request.prompt or ""
    tools = [f"tool: {msgspec.json.encode(tool.function).decode()}" for tool in request.tools]
    return "\n".join([*tools, *(f"{message.role}: {message.content}" for message in request.messages)])


class Stage(Struct, kw_only=True, forbid_unknown_fields=True):
    """A stage of loading and how long it takes."""

    stage: Annotated[str, Meta(min_length=1, max_length=64)]
    seconds: Annotated[float, Meta(ge=0, le=86_400)] = 0


DEFAULT_LOAD = (
    Stage(stage="importing", seconds=0.1),
    Stage(stage="loading weights", seconds=0.3),
    Stage(stage="warming up", seconds=0.1),
)


class Fault(Struct, kw_only=True, forbid_unknown_fields=True):
    """Something that goes wrong: at the beginning of a stage, or after so many tokens of a request.

    `stall` waits `seconds`, or until cancel; `slow` makes everything after it `factor` times slower; `exit`
    ends the process with `code`, or by `signal`; `oom` reports that `asked_gib` were asked and `free_gib` free;
    `garbage` writes lines that are no frames. `times` bounds in how many engine processes it happens.
    """

    kind: Literal["stall", "exit", "oom", "garbage", "slow"]
    at: str | None = None
    after_tokens: Annotated[int, Meta(ge=0)] | None = msgspec.field(name="afterTokens", default=None)
    seconds: Annotated[float, Meta(ge=0, le=86_400)] | None = None
    code: Annotated[int, Meta(ge=0, le=255)] = 1
    signal: Annotated[int, Meta(ge=1, le=64)] | None = None
    factor: Annotated[float, Meta(ge=1, le=10_000)] = 10
    asked_gib: Annotated[float, Meta(gt=0)] = msgspec.field(name="askedGiB", default=8)
    free_gib: Annotated[float, Meta(ge=0)] = msgspec.field(name="freeGiB", default=3.2)
    times: Annotated[int, Meta(ge=1)] | None = None


class Script(Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The simulator's options."""

    load: list[Stage] = msgspec.field(default_factory=lambda: list(DEFAULT_LOAD))
    seed: Annotated[int, Meta(ge=0)] = 0
    tokens_per_second: Annotated[float, Meta(ge=0, le=1_000_000)] = 50
    faults: list[Fault] = []
    split_utf8: bool = msgspec.field(name="splitUtf8", default=False)
    prefix_cache: bool = msgspec.field(name="prefixCache", default=False)
    tools: bool = False

    def faults_at(self, stage: str, attempt: int) -> list[Fault]:
        """Return what goes wrong at a stage of the given attempt to load."""
        return [fault for fault in self.faults if fault.at == stage and _still_due(fault, attempt)]

    def faults_after(self, tokens: int, attempt: int) -> list[Fault]:
        """Return what goes wrong after so many tokens of a request."""
        return [fault for fault in self.faults if fault.after_tokens == tokens and _still_due(fault, attempt)]


def read_script(options: dict[str, object]) -> Script:
    """Return the script that the options describe. Raises LoadError."""
    try:
        script = msgspec.convert(options, Script)
    except msgspec.ValidationError as exc:
        path = str(exc).partition(" - at `$")[2].rstrip("`")
        where = f"spec.engine.options{path}"
        raise LoadError(
            "BadEngineOption", f"{where}: {exc}", f"Correct {where}; docs/engines.md lists the options."
        ) from exc
    stages = {stage.stage for stage in script.load}
    for index, fault in enumerate(script.faults):
        where = f"spec.engine.options.faults[{index}]"
        if (fault.at is None) == (fault.after_tokens is None):
            raise LoadError("BadEngineOption", f"{where} needs either 'at' or 'afterTokens'", f"Correct {where}.")
        if fault.at is not None and fault.at not in stages:
            known = ", ".join(sorted(stages))
            raise LoadError("BadEngineOption", f"{where}.at names no stage of load", f"Use one of: {known}.")
    return script


def _still_due(fault: Fault, attempt: int) -> bool:
    return fault.times is None or attempt <= fault.times
