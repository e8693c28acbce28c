"""All turns of one relay: which contracts there are, and who may begin. Called by `routes` and `__main__`."""

import asyncio
from pathlib import Path

from rhapsode_contract.outcomes import Outcome
from rhapsode_contract.requests import NarrationOptions
from rhapsode_contract.turns import TurnRequest
from rhapsode_relay.conducting import Conductor
from rhapsode_relay.errors import BadRequest, NotFound, Unavailable
from rhapsode_relay.registry import new_job_id
from rhapsode_relay.terms import JobTerms
from rhapsode_relay.turns import slots
from rhapsode_relay.turns.contracts import Contract
from rhapsode_relay.turns.reaching import Outside
from rhapsode_relay.turns.rendering import RenderError
from rhapsode_relay.turns.running import TurnRun
from rhapsode_relay.turns.turn_jobs import TurnJob


class Turns:
    """Begins turns, within the limit."""

    def __init__(self, house: Conductor, contracts: dict[str, Contract], limit: int, secrets: Path | None) -> None:
        self.house = house
        self._contracts = contracts
        self._limit = limit
        self._secrets = secrets
        self._outside = Outside()
        self._runs: dict[asyncio.Task[None], TurnRun] = {}
        house.needs_worker = self._needs_worker

    @property
    def full(self) -> bool:
        return len(self._runs) >= self._limit

    def contract(self, name: str) -> Contract:
        """Return a contract. Raises NotFound."""
        if (found := self._contracts.get(name)) is None:
            message = f"there is no contract {name[:63]!r}; there are {', '.join(sorted(self._contracts)) or 'none'}"
            raise NotFound(message, code="contract_not_found", param="contract")
        return found

    def check(self, wanted: TurnRequest) -> Contract:
        """Refuse what this worker could never do. Raises ApiError."""
        house, contract = self.house, self.contract(wanted.contract)
        model = house.settings.model
        if wanted.model is not None and wanted.model != model:
            message = f"model {wanted.model[:100]!r} is not served here; this worker serves {model!r}"
            raise NotFound(message, code="model_not_found", param="model")
        sources = [source.name for source in contract.outcome.context]
        if unknown := sorted(wanted.context.keys() - set(sources)):
            message = f"unknown context source {unknown[0][:63]!r}; there are {', '.join(sources) or 'none'}"
            raise BadRequest(message, param="context")
        slots.check_engine(house.worker)
        return contract

    def begin(self, wanted: TurnRequest, correlation_id: str, key: str, body_hash: str) -> tuple[TurnJob, bool]:
        """Begin a turn; return its job, and whether it is a new one. Raises ApiError.

        One that failed but may succeed later begins anew under its key: sinks that keep keys know what they have.
        """
        house = self.house
        known = house.find_known(key, body_hash := f"turn:{body_hash}")
        if isinstance(known, TurnJob) and not known.retryable:
            return known, False
        contract = self.check(wanted)
        prompt_chars = _try_prompt(contract, wanted)
        house.check_room()
        if self.full:
            message = f"{len(self._runs)} turns are under way, which is the limit"
            raise Unavailable(message, code="turns_full", retry_after_s=house.line.retry_after_s())
        job = self._make_job(wanted, contract.outcome, correlation_id, key, body_hash)
        run = TurnRun(house, self._outside, self._secrets, job, contract, wanted)
        house.welcome(job, prompt_chars)
        task = run.begin()
        self._runs[task] = run
        task.add_done_callback(self._runs.pop)
        return job, True

    async def close(self) -> None:
        """End what still runs; its jobs are over by now."""
        for task in list(self._runs):
            task.cancel()
        await asyncio.gather(*self._runs, return_exceptions=True)
        await self._outside.close()

    def _make_job(
        self, wanted: TurnRequest, outcome: Outcome, correlation_id: str, key: str, body_hash: str
    ) -> TurnJob:
        house, wishes = self.house, wanted.narration or NarrationOptions()
        terms = JobTerms(
            correlation_id=correlation_id,
            max_tokens=wanted.max_tokens or outcome.generation.narrative_tokens,
            on_disconnect="continue",
            style=wishes.style,
            level=wishes.level,
            max_rate=wishes.max_rate,
            idempotency_key=key,
            body_hash=body_hash,
            part="narrative",
        )
        job_id = new_job_id(house.settings.worker_id)
        return TurnJob(job_id, house.epoch, terms, outcome.name, outcome.limits.narrative_bytes)

    def _needs_worker(self) -> bool:
        return any(run.needs_worker for run in self._runs.values())


def _try_prompt(contract: Contract, wanted: TurnRequest) -> int:
    """Return the length of the prompt, as far as it can be told; refuse inputs that do not fit. Raises BadRequest."""
    if wanted.wanted() and not wanted.dry_run:
        return 0  # templates may rely on what the context is going to be
    try:
        messages = contract.prompts.narrative(wanted.inputs, {one.name: [] for one in contract.outcome.context})
    except RenderError as exc:
        raise BadRequest(
            f"the inputs do not fit the contract: {exc}", code="invalid_inputs", param="inputs"
        ) from None
    return sum(len(message.text()) for message in messages)
