"""Drive an engine the way the child process does: from one event loop, in a thread of its own."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, TypeVar

from rhapsode_contract import frames
from rhapsode_worker.composing import Piece
from rhapsode_worker.engines import Engine, EngineStats, Finished, LoadPlan, Prefilled, Step, make_engine
from support.models import smollm

T = TypeVar("T")
DEADLINE_S = 300.0
"""A real model on a machine that has hardly any time for it loads for minutes."""
TEMPLATE = Path(__file__).parent / "calling.jinja"
"""A chat template in the ways of Hermes and Qwen."""
SLOTS = 2
CONTEXT = 512
LARGE = 2048
ENDLESS = 400
"""Tokens of an answer that is not over before a test has caught it in the middle. The simulator and TensorRT-LLM's
stand-in never come to the last one, OpenVINO takes long for so many."""
SIMULATOR = {
    "load": [], "tokensPerSecond": 200, "splitUtf8": True, "faults": [{"kind": "stall", "afterTokens": ENDLESS - 1}],
}  # fmt: skip


def plan_of(name: str, **changes: Any) -> LoadPlan:
    options: dict[str, Any] = SIMULATOR if name == "Simulator" else {}
    path = str(smollm()) if name == "OpenVINO" else ""
    defaults: dict[str, Any] = {
        "engine": name, "model": "m", "path": path, "max_sequences": SLOTS, "max_context_tokens": CONTEXT, "options": options,
    }  # fmt: skip
    return LoadPlan(**(defaults | changes))


def calling_plan(name: str, folder: Path) -> LoadPlan:
    """Return a plan of an engine whose model's chat template has tools."""
    template = TEMPLATE.read_text()
    match name:
        case "OpenVINO":
            return plan_of(name, max_context_tokens=LARGE, options={"chat_template": template})
        case "TensorRTLLM":
            (folder / "chat_template.jinja").write_text(template)
            return plan_of(name, max_context_tokens=LARGE, path=str(folder))
    plan = plan_of(name)
    return plan_of(name, options=plan.options | {"tools": True})


class Run:
    """One request and its steps."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.future: Future[None] = Future()

    def wait(self) -> "Run":
        """Wait for the end; raise what the engine raised."""
        self.future.result(DEADLINE_S)
        return self

    @property
    def pieces(self) -> list[Piece]:
        found: list[Piece] = []
        for step in self.steps:
            if isinstance(step, Piece):
                found.append(step)
            elif isinstance(step, list):
                found += step
        return found

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def finished(self) -> Finished:
        last = self.steps[-1]
        assert isinstance(last, Finished)
        return last

    @property
    def prefilled(self) -> Prefilled:
        first = self.steps[0]
        assert isinstance(first, Prefilled)
        return first


class Driver:
    """A loaded engine."""

    def __init__(self, plan: LoadPlan) -> None:
        self.narrated: list[tuple[str, dict[str, Any]]] = []
        self.plan = plan
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._futures: list[Future[None]] = []
        try:
            self.engine, self.caps = self._call(self._load())
        except BaseException:
            self._end_loop()
            raise

    def start(self, job_id: str = "", **wishes: Any) -> Run:
        """Start a request; its `job_id` is made up if none is given."""
        asked: dict[str, Any] = {"max_tokens": 16, "correlation_id": "c", "temperature": 0.0} | wishes
        request = frames.Generate(job_id=job_id or f"job-{len(self._futures)}", **asked)
        run = Run()
        run.future = asyncio.run_coroutine_threadsafe(self._follow(request, run), self._loop)
        self._futures.append(run.future)
        self._call(asyncio.sleep(0))  # by then the request has taken its first step
        return run

    def start_endless(self, job_id: str = "", *, prompt: str) -> Run:
        """Start a request that goes on until it is aborted, or the engine closed."""
        told = f"[[endless]] {prompt}" if self.plan.engine == "TensorRTLLM" else prompt
        return self.start(job_id, prompt=told, max_tokens=ENDLESS)

    def run(self, **wishes: Any) -> Run:
        return self.start(**wishes).wait()

    def abort(self, job_id: str) -> None:
        self._loop.call_soon_threadsafe(self.engine.abort, job_id)

    def stats(self) -> EngineStats:
        """Return how busy the engine is; it is asked from its own loop, as the child does."""
        return self._call(self._stats())

    def wait_pieces(self, run: Run, count: int) -> None:
        """Wait until a request has said something."""
        deadline = time.monotonic() + DEADLINE_S
        while len(run.pieces) < count:
            assert time.monotonic() < deadline, f"only {len(run.pieces)} of {count} pieces came"
            time.sleep(0.005)

    def close(self) -> None:
        """Close the engine, if it is open; every request ends by that."""
        if self._thread.is_alive():
            self._call(self.engine.close())
            assert not wait(self._futures, DEADLINE_S).not_done, "a closed engine leaves nobody waiting"
            self._end_loop()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _load(self) -> tuple[Engine, frames.Caps]:
        engine = make_engine(self.plan.engine)
        return engine, await engine.load(self.plan, self._narrate)

    async def _stats(self) -> EngineStats:
        return self.engine.stats()

    def _narrate(self, action: str, progress: float | None = None, **fields: Any) -> None:
        self.narrated.append((action, fields))

    async def _follow(self, request: frames.Generate, run: Run) -> None:
        async for step in self.engine.generate(request):
            run.steps.append(step)

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(DEADLINE_S)
