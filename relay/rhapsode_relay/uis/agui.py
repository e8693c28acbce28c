"""AG-UI: a job told as a run of an agent. Made by `formats` for each stream. Pure.

Its client refuses events out of order: a run begins first and ends last, nothing is open when it ends, and what has
begun is ended once. The protocol has no resumption, so a run is always told from its beginning.
"""

from collections.abc import Mapping
from types import MappingProxyType

from rhapsode_contract import agui, events
from rhapsode_relay.quoting import quote
from rhapsode_relay.uis.telling import Telling, contents, name_of, recalled, say

_STEPS = {"queued": "queue", "running": "prefill"}


class AguiDialect(Telling):
    """One run. Its message has the id of its job."""

    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, job_id: str, thread_id: str, run_id: str) -> None:
        super().__init__(
            {
                events.Snapshot: self._catch_up,
                events.Queued: self._pass_on,
                events.Started: self._start,
                events.Narration: self._pass_on,
                events.Token: self._speak,
                events.Data: self._give,
                events.Metrics: self._pass_on,
                events.End: self._finish,
                events.Error: self._fail,
            }
        )
        self._job_id = job_id
        self._run = {"thread_id": thread_id, "run_id": run_id}
        self._before_text = b'data: {"type":"TEXT_MESSAGE_CONTENT","messageId":%b,"delta":' % quote(job_id)
        self._step = ""
        self._model = ""

    def _begin(self, event: events.StreamEvent) -> bytes:
        job = {"job_id": self._job_id, "correlation_id": event.correlation_id}
        begun = say(agui.RunStarted(**self._run), agui.Custom(name="job", value=job))
        return begun if isinstance(event, events.Snapshot) else begun + self._enter("queue")

    def _catch_up(self, event: events.Snapshot) -> bytes:
        step = "decode" if event.text else _STEPS.get(event.status, "")
        said = self._enter(step) + say(*(agui.Custom(name="narration", value=one) for one in recalled(event)))
        return said + self._open() + self._text(event.text) if event.text else said

    def _start(self, event: events.Started) -> bytes:
        self._model = event.model
        return self._enter("prefill") + self._pass_on(event)

    def _pass_on(self, event: events.StreamEvent) -> bytes:
        return say(agui.Custom(name=name_of(event), value=contents(event)))

    def _speak(self, event: events.Token) -> bytes:
        return self._enter("decode") + self._open() + self._text(event.t)

    def _text(self, text: str) -> bytes:
        return b"%b%b}\n\n" % (self._before_text, quote(text))

    def _give(self, event: events.Data) -> bytes:
        return say(agui.Custom(name=event.action, value=event.payload))

    def _finish(self, event: events.End) -> bytes:
        usage = agui.TokenUsage(
            model=self._model,
            input_tokens=event.usage.prompt_tokens,
            output_tokens=event.usage.completion_tokens,
            total_tokens=event.usage.total_tokens,
        )
        return self._close() + say(agui.RunFinished(**self._run, result=contents(event), usage=[usage]))

    def _fail(self, event: events.Error) -> bytes:
        return self._pass_on(event) + self._break_off(event.error)

    def _break_off(self, error: events.ErrorBody) -> bytes:
        return self._close() + say(agui.RunError(message=error.message, code=error.code))

    def _open(self) -> bytes:
        self._speaking = True
        return say(agui.TextMessageStart(message_id=self._job_id))

    def _enter(self, step: str) -> bytes:
        """Leave the step that this is, if any, for another, if any."""
        if step == self._step:
            return b""
        left = say(agui.StepFinished(step_name=self._step)) if self._step else b""
        self._step = step
        return left + say(agui.StepStarted(step_name=step)) if step else left

    def _close(self) -> bytes:
        """End all that has begun; nothing but the run's own end may follow."""
        ended = say(agui.TextMessageEnd(message_id=self._job_id)) if self._speaking else b""
        self._speaking, self._state = False, "over"
        return ended + self._enter("")
