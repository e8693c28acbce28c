"""What the worker is told to generate for a turn. Called by `running`. Pure."""

from typing import Any

import msgspec

from rhapsode_contract import frames, names
from rhapsode_contract.requests import ChatMessage
from rhapsode_contract.turns import TurnRequest
from rhapsode_relay.jobs import Job
from rhapsode_relay.turns.failing import TurnFailed

_SURELY_SHORT = names.MAX_COMMAND_BYTES // 12
"""Characters that fit into a command however they are escaped: JSON needs at most 6 bytes for one."""


def build_command(
    job: Job, wanted: TurnRequest, messages: list[ChatMessage], schema: dict[str, Any] | None = None
) -> frames.Generate:
    """Return the command for a generation. Raises TurnFailed if the worker would not read so much."""
    command = frames.Generate(
        job_id=job.id,
        correlation_id=job.terms.correlation_id,
        max_tokens=job.terms.max_tokens,
        messages=[frames.Message(role=one.role, content=one.text()) for one in messages],
        temperature=wanted.temperature,
        top_p=wanted.top_p,
        seed=wanted.seed,
        json_schema=schema,
        meta=msgspec.to_builtins(job.terms),
    )
    chars = sum(len(one.text()) for one in messages)
    if chars > _SURELY_SHORT and len(frames.encode_frame(command)) > names.MAX_COMMAND_BYTES:
        raise TurnFailed("invalid_inputs", f"the prompt becomes longer than {names.MAX_COMMAND_BYTES} bytes")
    return command
