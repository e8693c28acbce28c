"""Ask the model: the prompt of a contract, rendered for one turn. Pure; called by the turn.

Templates are compiled once, in Jinja2's sandbox: they see `inputs`, `context` and, for the intents, `narrative`; they
can neither load nor change anything. What a client sends is data and is never read as a template. A name that
is not there is an error, and what they produce is bounded.
"""

import types
from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import Environment, StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rhapsode_contract.outcomes import Prompt
from rhapsode_contract.requests import ChatMessage
from rhapsode_contract.wording import clean
from rhapsode_relay.turns.bounding import GROWING, MAX_TEXT_CHARS, bounded_filters

_LOADING = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


class RenderError(ValueError):
    """A template cannot be rendered with what was given: its field, its line, and why."""

    def __init__(self, field: str, line: int, why: str) -> None:
        super().__init__(f"{field}, line {line}: {why}")
        self.field = field
        self.line = line
        self.why = why


class Prompts:
    """The templates of one contract. Raises RenderError for one that cannot be compiled."""

    def __init__(self, prompt: Prompt) -> None:
        self._system = _compile("prompt.system", prompt.system)
        self._narrative = _compile("prompt.narrative", prompt.narrative)
        self._intents = _compile("prompt.intents", prompt.intents)

    def narrative(self, inputs: Mapping[str, Any], context: Mapping[str, Any]) -> list[ChatMessage]:
        """Return the messages that ask for the narrative. `context` has a list for every declared source."""
        facts = {"inputs": inputs, "context": context}
        system = _render("prompt.system", self._system, facts).strip()
        first = [ChatMessage(role="system", content=system)] if system else []
        return [*first, ChatMessage(role="user", content=_render("prompt.narrative", self._narrative, facts))]

    def intents(
        self, asked: list[ChatMessage], narrative: str, inputs: Mapping[str, Any], context: Mapping[str, Any]
    ) -> list[ChatMessage]:
        """Return the messages that ask for the intents: those of the narrative, the narrative, one question more."""
        facts = {"inputs": inputs, "context": context, "narrative": narrative}
        question = _render("prompt.intents", self._intents, facts)
        said = ChatMessage(role="assistant", content=narrative)
        return [*asked, said, ChatMessage(role="user", content=question)]


def prompt_problems(prompt: Prompt, context: list[str]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the templates of a contract with these context sources: the field, and why."""
    known = {"inputs", "context"}
    for field, source, names in (
        ("prompt.system", prompt.system, known),
        ("prompt.narrative", prompt.narrative, known),
        ("prompt.intents", prompt.intents, known | {"narrative"}),
    ):
        try:
            _compile(field, source)
        except RenderError as exc:
            yield field, f"line {exc.line}: {exc.why}"
        else:
            yield from ((field, why) for why in _strange(_environment.parse(source), names, context))


def _strange(tree: nodes.Template, names: set[str], context: list[str]) -> Iterator[str]:
    """Yield what a template uses that it is never given."""
    for name in sorted(meta.find_undeclared_variables(tree) - names - set(_environment.globals)):
        yield f"{name} is none of {', '.join(sorted(names))}"
    for use in tree.find_all(nodes.Getattr):
        if isinstance(use.node, nodes.Name) and use.node.name == "context" and use.attr not in context:
            yield f"line {use.lineno}: there is no context source {use.attr}"


class _Strict(StrictUndefined):
    """Says what is not there, without words of Python."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        return f"{self._undefined_name} is not given" if self._undefined_name else "something is not given"


class _Sandbox(ImmutableSandboxedEnvironment):
    """Bounds what a client's numbers and texts could blow up, too."""

    intercepted_binops = frozenset(["*", "**", "%"])

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return super().is_safe_attribute(obj, attr, value) and not (isinstance(obj, str) and attr in GROWING)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or not all(isinstance(side, int | float) for side in (left, right)):
            raise TemplateError(f"{operator} {'is not allowed' if operator == '**' else 'is for numbers only'}")
        return super().call_binop(context, operator, left, right)


def _sandbox() -> Environment:
    made = _Sandbox(undefined=_Strict, autoescape=False, trim_blocks=True, lstrip_blocks=True)
    made.filters |= bounded_filters()
    del made.globals["lipsum"], made.filters["random"]  # they do not say the same each time
    return made


_environment = _sandbox()


def _compile(field: str, source: str) -> Template:
    try:
        tree = _environment.parse(source)
        if (loading := next(tree.find_all(_LOADING), None)) is not None:
            raise RenderError(field, loading.lineno, "a template can load no other")
        code: types.CodeType = _environment.compile(source, name=field, filename=field)
    except TemplateSyntaxError as exc:
        raise RenderError(field, exc.lineno, clean(exc.message or "is no template", limit=200)) from None
    except (TemplateError, RecursionError, SyntaxError) as exc:
        raise RenderError(field, 1, clean(str(exc) or "is no template", limit=200)) from None
    return Template.from_code(_environment, code, _environment.make_globals(None))


def _render(field: str, template: Template, facts: Mapping[str, Any]) -> str:
    try:
        return "".join(_bounded(template.generate(facts)))
    except Exception as exc:  # a template can call what a client sent: any error is one of its own
        why = clean(str(exc) or type(exc).__name__, limit=200)
        raise RenderError(field, _line(exc, field), why) from None


def _bounded(parts: Iterator[str]) -> Iterator[str]:
    room = MAX_TEXT_CHARS
    for part in parts:
        room -= len(part)
        if room < 0:
            raise TemplateError(f"the prompt becomes longer than {MAX_TEXT_CHARS} characters")
        yield part


def _line(exc: Exception, field: str) -> int:
    """Return the line of the template where it failed."""
    line, trace = 1, exc.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == field:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
