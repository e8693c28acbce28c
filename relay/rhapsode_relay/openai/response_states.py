"""A response of OpenAI's Responses API as far as its job's events tell. Called by `responses` and their routes. Pure.

The job's id is in all ids, so that a second reading says the same and any replica knows whose a response is.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from rhapsode_contract import events
from rhapsode_contract.openai_responses import (
    ErrorCode,
    IncompleteDetails,
    InputTokensDetails,
    ItemStatus,
    OutputMessage,
    OutputText,
    OutputTokensDetails,
    Response,
    ResponseError,
    ResponseRequest,
    ResponseStatus,
    ResponseUsage,
    TextFormat,
    TextOptions,
)
from rhapsode_contract.openai_tools import FunctionCallItem
from rhapsode_relay.openai.tool_calls import NEVER, Call, Calling, read_parts
from rhapsode_relay.terms import JobTerms

PREFIX = "resp_"
_KEY = "response"
_CHOICES: Mapping[str, Literal["none", "auto", "required"]] = {"never": "none", "tags": "auto", "whole": "required"}
_NAMES = {"json_schema": "text.format", "messages": "input"}
"""What has another name here than in a request of ours."""


class Note(Struct, kw_only=True, omit_defaults=True):
    """What a response repeats of its request. It is part of the job's terms, so it outlives this relay."""

    created_at: int
    background: bool = False
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    format: TextFormat = msgspec.field(default_factory=TextFormat)
    metadata: dict[str, str] = {}
    calling: Calling = NEVER

    @classmethod
    def of(cls, wanted: ResponseRequest, now: float, calling: Calling = NEVER) -> "Note":
        form = (wanted.text.format if wanted.text else None) or TextFormat()
        return cls(
            created_at=int(now),
            background=bool(wanted.background),
            max_output_tokens=wanted.max_output_tokens,
            temperature=wanted.temperature,
            top_p=wanted.top_p,
            format=TextFormat(type=form.type, name=form.name, schema={}) if form.type == "json_schema" else form,
            metadata=wanted.metadata or {},
            calling=calling,
        )

    def written(self) -> dict[str, object]:
        """Return it as the job's terms keep it."""
        return {_KEY: msgspec.to_builtins(self)}


def read_note(terms: JobTerms) -> Note | None:
    """Return the note of a job; None if it was not asked for as a response."""
    return msgspec.convert(terms.note[_KEY], Note) if _KEY in terms.note else None


def named_here(param: str | None, calling: Calling = NEVER) -> str | None:
    """Return what this API calls the field that an error names."""
    found = _NAMES.get(param or "", param)
    return "tool_choice" if calling.way == "whole" and found == _NAMES["json_schema"] else found


class ResponseState:
    """What is known of one response."""

    def __init__(self, job_id: str, model: str, note: Note) -> None:
        self.id = f"{PREFIX}{job_id}"
        self.item_id = f"msg_{job_id}"
        self.status: ResponseStatus = "queued"
        self.failure: events.Error | None = None
        self.calling = note.calling
        self._job_id = job_id
        self._model = model
        self._note = note
        self._cached = 0
        self._usage: events.Usage | None = None

    def hear(self, event: events.StreamEvent) -> None:
        """Learn from an event of the job."""
        if isinstance(event, events.Started):
            self.status, self._cached = "in_progress", event.cached_tokens or 0
        elif isinstance(event, events.End):
            self.status = "completed" if event.stop_reason == "stop" else "incomplete"
            self._usage = event.usage
        elif isinstance(event, events.Error):
            self.status = "cancelled" if event.error.code == "cancelled" else "failed"
            self.failure = event

    def message(self, text: str | None) -> OutputMessage:
        """Return the message with its text so far; None for one whose text has not begun."""
        over: ItemStatus = "completed" if self.status == "completed" else "incomplete"
        return OutputMessage(
            id=self.item_id,
            status="in_progress" if self.status in ("queued", "in_progress") else over,
            content=[] if text is None else [OutputText(text=text)],
        )

    def show(self, text: str = "") -> Response:
        """Return the response, with the text that there is by now; at its end it has a message in any case."""
        note = self._note
        return Response(
            id=self.id,
            created_at=note.created_at,
            status=self.status,
            background=note.background,
            model=self._model,
            output=self._output(text),
            usage=_counted(self._usage, self._cached) if self._usage else None,
            error=self._explain(self.failure.error) if self.failure else None,
            incomplete_details=IncompleteDetails(reason="max_output_tokens") if self.status == "incomplete" else None,
            max_output_tokens=note.max_output_tokens,
            temperature=note.temperature,
            top_p=note.top_p,
            text=TextOptions(format=note.format),
            metadata=note.metadata,
            parallel_tool_calls=self.calling != NEVER and self.calling.parallel,
            tool_choice=_CHOICES[self.calling.way],
        )

    def call(self, at: int, call: Call) -> FunctionCallItem:
        """Return a call as an item, by ids that are the same however often it is told."""
        place = f"{self._job_id}_{at}"
        return FunctionCallItem(id=f"fc_{place}", call_id=f"call_{place}", name=call.name, arguments=call.arguments)

    def _output(self, text: str) -> list[OutputMessage | FunctionCallItem]:
        """Return the message and the calls that a text is, the message where its first word stands."""
        if self.calling == NEVER:
            return [self.message(text)] if text or self._usage else []
        parts = read_parts(self.calling, text, over=self._usage is not None or self.failure is not None)
        content = "".join(part for part in parts if isinstance(part, str))
        items: list[OutputMessage | FunctionCallItem] = []
        calls = 0
        for part in parts:
            if isinstance(part, Call):
                items.append(self.call(calls, part))
                calls += 1
            elif len(items) == calls:
                items.append(self.message(content))
        return items or ([self.message("")] if self._usage else [])

    def _explain(self, error: events.ErrorBody) -> ResponseError:
        is_theirs = error.param is not None or error.type == "invalid_request_error"
        code: ErrorCode = "invalid_prompt" if is_theirs else "server_error"
        param = named_here(error.param, self.calling)
        return ResponseError(code=code, message=error.message, type=error.code, param=param)


def _counted(usage: events.Usage, cached: int) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokensDetails(cached_tokens=cached),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputTokensDetails(),
        total_tokens=usage.total_tokens,
    )
