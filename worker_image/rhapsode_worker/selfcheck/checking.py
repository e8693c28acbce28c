"""The checks and their order: each one row of the report, whatever happens to it. Called by `selfchecking`."""

import asyncio
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from rhapsode_contract.wording import UNITS
from rhapsode_worker.copying import open_to_engine
from rhapsode_worker.engines import LoadPlan
from rhapsode_worker.errors import LoadError
from rhapsode_worker.preparing import prepare_model
from rhapsode_worker.selfcheck.asking import Questions
from rhapsode_worker.selfcheck.comparing import Comparison
from rhapsode_worker.selfcheck.findings import Finding, Outcome, Row, Trouble, failure, make_row, not_checked
from rhapsode_worker.selfcheck.gpus import Gpus
from rhapsode_worker.selfcheck.running_engine import EngineRun
from rhapsode_worker.selfcheck.subjects import Subject
from rhapsode_worker.selfcheck.surroundings import look_at_machine, look_at_packages, look_at_shared_memory
from rhapsode_worker.selfcheck.telling import Teller
from rhapsode_worker.settings import WorkerSettings
from rhapsode_worker.voice import Voice

LAST_S = 60.0
"""How long what must be looked at in the end may take, also when the time is over."""
_WELL: tuple[Outcome, ...] = ("ok", "warning")


class Check(NamedTuple):
    """One row: its name, what it says before it begins, what it does, and the row that it needs."""

    name: str
    doing: str
    run: Callable[[], Awaitable[Finding]]
    needs: str = ""
    last: bool = False
    """Whether it is made even when the time is over."""


class Course:
    """One run of all checks of one subject."""

    def __init__(self, subject: Subject, gpus: Gpus, voice: Voice, teller: Teller, environ: dict[str, str]) -> None:
        self._subject = subject
        self._gpus = gpus
        self._voice = voice
        self._teller = teller
        self._environ = environ
        self._rows: dict[str, Row] = {}
        self._blame: dict[str, str] = {}
        self._engine: EngineRun | None = None
        self._asker: Questions | None = None
        self._plan = LoadPlan(engine=subject.engine, model=subject.resource.spec.model.name)
        self._folder = Path()

    async def run(self, timeout_s: float) -> list[Row]:
        """Make all checks within a time; return their rows. Nothing is left running."""
        until = time.monotonic() + timeout_s
        with tempfile.TemporaryDirectory(prefix="rhapsode-selfcheck-") as folder:
            self._folder = Path(folder)
            try:
                for check in self._checks():
                    self._rows[check.name] = await self._make(check, until, timeout_s)
            finally:
                if self._engine is not None:
                    await self._engine.kill()
        return list(self._rows.values())

    def _checks(self) -> list[Check]:
        engine = self._subject.engine
        on_gpus = engine == "TensorRTLLM"
        judged = _as_found if on_gpus else _as_no_failure
        comparison = Comparison(self._planned(""), self._teller)
        return [
            Check("machine", "Looking at the machine", _soon(look_at_machine)),
            Check("shared memory", "Looking at /dev/shm", _soon(lambda: judged(look_at_shared_memory(engine)))),
            Check("driver", "Asking NVML", _soon(lambda: judged(self._gpus.driver(needed=on_gpus)))),
            Check("GPUs", "Looking at the GPUs", _soon(lambda: judged(self._gpus.found()))),
            Check("package", f"Looking for {engine}", _soon(lambda: look_at_packages(engine))),
            *(
                [
                    Check("import", f"Importing {engine}, which may take minutes", comparison.imports, "package"),
                    Check("signatures", "Comparing its signatures", comparison.signatures, "import"),
                ]
                if on_gpus
                else []
            ),
            Check("model", "Getting the model", self._prepare, "import" if on_gpus else "package"),
            Check("load", f"Loading {self._subject.words}", self._load, "model"),
            *([Check("VRAM taken", "Asking NVML what it took", self._gpus.taken, "load")] if on_gpus else []),
            *self._questions(),
            Check("end", "Ending the engine", self._end, "load", last=True),
            Check("VRAM returned", "Asking NVML what is free again", self._gpus.returned, "model", last=True),
        ]

    def _questions(self) -> list[Check]:
        return [
            Check("stream", "Asking for a streamed answer", self._ask(Questions.stream), "load"),
            Check("chat", "Asking through the chat template", self._ask(Questions.chat), "load"),
            Check("two at once", "Asking two things at once", self._ask(Questions.pair), "load"),
            Check("abort", "Cancelling an answer", self._ask(Questions.abort), "load"),
            Check("JSON schema", "Asking for JSON", self._ask(Questions.schema), "load"),
            Check("regex", "Asking for what a regular expression allows", self._ask(Questions.regex), "load"),
            Check("grammar", "Asking for what a grammar allows", self._ask(Questions.grammar), "load"),
        ]

    # One row

    async def _make(self, check: Check, until: float, timeout_s: float) -> Row:
        began = time.monotonic()
        if why := self._hindrance(check, until):
            finding = not_checked(why)
        else:
            self._teller.line(check.doing)
            finding = await self._find(check, LAST_S if check.last else until - began, timeout_s)
        if finding.outcome == "failed":
            self._blame[check.name] = f"{check.name!r} failed"
            self._teller.line(f"{check.name}: {finding.measured}", "!")
        elif finding.outcome == "skipped":
            self._blame[check.name] = self._blame.get(check.needs, f"{check.name!r} was skipped")
        return make_row(check.name, finding, time.monotonic() - began)

    def _hindrance(self, check: Check, until: float) -> str:
        """Return why a check cannot be made; nothing if it can."""
        if check.needs and self._rows[check.needs].outcome not in _WELL:
            return self._blame[check.needs]
        if time.monotonic() >= until and not check.last:
            return "the time was over"
        return ""

    async def _find(self, check: Check, seconds: float, timeout_s: float) -> Finding:
        """Return what a check finds; an error of any kind is a finding too."""
        try:
            async with asyncio.timeout(seconds):
                return await check.run()
        except Trouble as exc:
            return exc.finding
        except LoadError as exc:
            return failure(exc.why, exc.remedy, facts={"reason": exc.reason})
        except TimeoutError:
            remedy = "Give it longer with --timeout, if its load is just slow."
            return failure(f"not done when the {UNITS['span'](timeout_s)} of the check were over", remedy)
        except OSError as exc:
            return failure(str(exc), "Make what it names possible: room on the disk, a right, a limit.")
        except Exception as exc:  # a check that breaks is told, and the others go on
            logging.getLogger(__name__).debug("a check broke", exc_info=exc)
            return failure(f"the check itself broke: {type(exc).__name__}: {exc}", "Tell us in an issue.")

    # What a check does, where it is more than a call

    async def _prepare(self) -> Finding:
        subject = self._subject.with_model(self._folder / "dummy")
        settings = WorkerSettings.load(subject.resource, self._environ)
        self._voice.begin_load({})
        if subject.engine == "Simulator":
            self._plan = self._planned("")
            return Finding(measured="none is needed")
        found = await prepare_model(settings, subject.engine, self._voice)
        self._plan = self._planned(str(await open_to_engine(found, subject.engine, settings.cache, self._voice)))
        words = f"{found.files} file{'' if found.files == 1 else 's'}, {UNITS['size'](found.size)}"
        return Finding(measured=f"{subject.words}: {words}", facts={"files": found.files, "bytes": found.size})

    def _planned(self, path: str) -> LoadPlan:
        spec = self._subject.resource.spec
        return LoadPlan(
            engine=self._subject.engine,
            model=spec.model.name,
            path=path,
            max_sequences=spec.engine.max_sequences,
            max_context_tokens=spec.engine.max_context_tokens,
            options=spec.engine.options,
            gpus=spec.gpus or 1,
        )

    async def _load(self) -> Finding:
        settings = WorkerSettings.load(self._subject.resource, self._environ)
        engine = EngineRun(self._plan, self._voice, self._gpus.watch, settings.memory_events)
        self._engine, self._asker = engine, Questions(engine)
        began = time.monotonic()
        try:
            caps = await engine.load()
        except BaseException:
            await engine.kill()
            raise
        seconds = round(time.monotonic() - began, 2)
        words = f"ready after {UNITS['span'](seconds)}: {caps.slots} requests at once,"
        facts = {"seconds": seconds, "slots": caps.slots, "context_tokens": caps.context_tokens}
        return Finding(measured=f"{words} {caps.context_tokens} tokens of context", facts=facts)

    def _ask(self, ask: Callable[[Questions], Awaitable[Finding]]) -> Callable[[], Awaitable[Finding]]:
        """Return a check that asks the engine something, as long as it is there."""

        async def run() -> Finding:
            assert self._engine is not None
            assert self._asker is not None
            return self._engine.missed() if self._engine.gone else await ask(self._asker)

        return run

    async def _end(self) -> Finding:
        assert self._engine is not None
        return self._engine.missed() if self._engine.gone else await self._engine.end()


def _as_found(finding: Finding) -> Finding:
    return finding


def _as_no_failure(finding: Finding) -> Finding:
    """Return the finding of something that the engine does without: it may be broken."""
    if finding.outcome == "failed":
        finding.outcome = "warning"
    return finding


def _soon(look: Callable[[], Finding]) -> Callable[[], Awaitable[Finding]]:
    async def run() -> Finding:
        return look()

    return run
