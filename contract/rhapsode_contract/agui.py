"""AG-UI on the wire: what its clients send to `POST /v1/agui` and what they get. Other fields are ignored."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from rhapsode_contract.wishes import MAX_MESSAGES, Wishes


class Part(Struct, kw_only=True):
    """A part of a message; text is all that a model of text takes."""

    type: str
    text: str = ""


class Message(Struct, kw_only=True):
    """One message of a thread. What an agent thought or did (`reasoning`, `activity`) is not told to the model."""

    role: str
    content: str | list[Part] | dict[str, Any] | None = None


class ContextItem(Struct, kw_only=True):
    """Something that the application wants its agent to know."""

    description: str = ""
    value: str = ""


class RunAgentInput(Struct, kw_only=True, rename="camel"):
    """Body of `POST /v1/agui`: one run of an agent. `state` is the application's own, and ignored."""

    thread_id: Annotated[str, Meta(max_length=1024)]
    run_id: Annotated[str, Meta(max_length=1024)]
    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    context: Annotated[list[ContextItem], Meta(max_length=MAX_MESSAGES)] = []
    forwarded_props: Wishes | None = None
    tools: Any = None
    resume: Any = None


class TokenUsage(Struct, kw_only=True, rename="camel"):
    """Tokens of a run."""

    model: str
    input_tokens: int
    output_tokens: int
    total_tokens: int


class _Event(Struct, kw_only=True, tag_field="type", rename="camel"):
    """What all events have: a type, by the protocol's own names."""


class RunStarted(_Event, tag="RUN_STARTED"):
    """A run began: the job was accepted."""

    thread_id: str
    run_id: str


class StepStarted(_Event, tag="STEP_STARTED"):
    """The job came so far: `queue`, `prefill`, `decode`."""

    step_name: str


class StepFinished(_Event, tag="STEP_FINISHED"):
    """It came further."""

    step_name: str


class TextMessageStart(_Event, tag="TEXT_MESSAGE_START"):
    """The answer begins; its id is the job's."""

    message_id: str
    role: Literal["assistant"] = "assistant"


class TextMessageContent(_Event, tag="TEXT_MESSAGE_CONTENT"):
    """More of the answer. Never empty."""

    message_id: str
    delta: str


class TextMessageEnd(_Event, tag="TEXT_MESSAGE_END"):
    """The answer is whole."""

    message_id: str


class Custom(_Event, tag="CUSTOM"):
    """What the protocol has no word for: `narration`, `job`, `queued`, `started`, `metrics`, `error`, or data by its
    action.
    """

    name: str
    value: Any


class RunFinished(_Event, tag="RUN_FINISHED"):
    """The run is complete; `result` is what our own `end` says."""

    thread_id: str
    run_id: str
    result: dict[str, Any]
    usage: list[TokenUsage]


class RunError(_Event, tag="RUN_ERROR"):
    """The run failed, or was cancelled."""

    message: str
    code: str


RunEvent = (
    RunStarted | StepStarted | StepFinished | TextMessageStart | TextMessageContent | TextMessageEnd | Custom
    | RunFinished | RunError
)  # fmt: skip
