"""Prompts are rendered in a sandbox: what a client sends is data, and what goes wrong is named by field and line."""

from typing import Any

import msgspec
import pytest

from rhapsode_contract.outcomes import Prompt
from rhapsode_relay.turns.bounding import MAX_TEXT_CHARS
from rhapsode_relay.turns.rendering import Prompts, RenderError

JSON = dict[str, Any]


def prompts(narrative: str = "{{ inputs.action }}", system: str = "", intents: str = "As JSON.") -> Prompts:
    return Prompts(msgspec.convert({"narrative": narrative, "system": system, "intents": intents}, Prompt))


def said(narrative: str, context: JSON | None = None, **inputs: Any) -> str:
    text = prompts(narrative).narrative(inputs, context or {})[-1].content
    assert isinstance(text, str)
    return text


def test_the_intents_are_asked_for_after_the_narrative() -> None:
    made = prompts(
        "Go {{ inputs.way }}.", "You lead {{ inputs.who }}.", "{{ narrative|length }} for {{ inputs.who }}"
    )
    asked = made.narrative({"way": "north", "who": "Ada"}, {})
    assert [(one.role, one.content) for one in asked] == [("system", "You lead Ada."), ("user", "Go north.")]
    whole = made.intents(asked, "It is dark.", {"who": "Ada"}, {})
    assert whole[:2] == asked
    assert [(one.role, one.content) for one in whole[2:]] == [("assistant", "It is dark."), ("user", "11 for Ada")]


def test_without_words_for_it_there_is_no_system_message() -> None:
    assert [one.role for one in prompts(system=" \n").narrative({"action": "x"}, {})] == ["user"]


def test_context_is_a_list_to_go_through() -> None:
    template = "{% for spark in context.sparks %}\n- {{ spark.name }}\n{% else %}\nnothing\n{% endfor %}"
    assert said(template, {"sparks": [{"name": "Mill"}, {"name": "Fen"}]}) == "- Mill\n- Fen\n"
    assert said(template, {"sparks": []}) == "nothing\n"


@pytest.mark.parametrize("text", ["{{ 7 * 7 }}", "{% for x in y %}", "{# #}", "<b>&amp;</b>", "\x00\u202e"])
def test_what_a_client_sends_is_never_a_template(text: str) -> None:
    assert said("{{ inputs.action }}", action=text) == text


def test_the_narrative_is_no_template_either() -> None:
    asked = prompts(intents="{{ narrative }}").intents([], "{{ inputs }}", {"secret": 1}, {})
    assert [one.content for one in asked] == ["{{ inputs }}", "{{ inputs }}"]


@pytest.mark.parametrize(
    ("template", "line", "why"),
    [
        ("a\n{{ inputs.nothing }}", 2, "nothing is not given"),
        ("{{ inputs.a.b.c }}", 1, "a is not given"),
        ("\n\n{% if inputs.nothing %}{% endif %}", 3, "nothing is not given"),
        ("{{ context.sparks }}", 1, "sparks is not given"),
        ("{{ 1 / inputs.zero }}", 1, "division by zero"),
        ("{{ inputs.zero + 'x' }}", 1, "unsupported operand"),
    ],
)
def test_what_is_not_given_is_named_by_field_and_line(template: str, line: int, why: str) -> None:
    with pytest.raises(RenderError) as caught:
        said(template, zero=0)
    assert (caught.value.field, caught.value.line) == ("prompt.narrative", line)
    assert why in caught.value.why


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__ }}",
        "{{ inputs.__class__.__mro__ }}",
        "{{ inputs.items.__globals__ }}",
        "{{ inputs|attr('__class__') }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ inputs.update({'a': 1}) }}",
        "{{ inputs.clear() }}",
        "{{ inputs.tags.append('x') }}",
        "{{ self._TemplateReference__context }}",
        "{{ '{0.__class__}'.format(inputs) }}",
    ],
)
def test_a_template_can_reach_nothing_and_change_nothing(template: str) -> None:
    given = {"tags": ["a"]}
    with pytest.raises(RenderError):
        prompts(template).narrative(given, {})
    assert given == {"tags": ["a"]}


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'x' * inputs.n }}",
        "{{ inputs.n ** inputs.n }}",
        "{% for x in range(inputs.n) %}{% endfor %}",
        "{% for x in range(99999) %}0123456789{% endfor %}",
        "{{ inputs.text }}{{ inputs.text }}",
        "{{ inputs.deep }}",
        "{{ inputs.text|replace('x', inputs.text) }}",
        "{{ inputs.text|list|join(inputs.text) }}",
        "{{ 'x'|center(inputs.n) }}",
        "{{ inputs.text|indent(inputs.n) }}",
        "{{ inputs.text|indent(width=inputs.text) }}",
        "{{ ['x']|batch(inputs.n, 'x')|list }}",
        "{{ inputs.deep|tojson(indent=inputs.n) }}",
        "{{ ['x', 'y']|map('center', inputs.n)|list }}",
        "{{ 'x'.ljust(inputs.n) }}",
        "{{ inputs.text.replace('x', inputs.text) }}",
        "{{ ('x'|attr('zfill'))(inputs.n) }}",
        "{{ '%*d' % (inputs.n, 1) }}",
        "{{ '%*d'|format(inputs.n, 1) }}",
        "{{ '%9999999999d'|format(1) }}",
        "{{ '%(n)9999999999d'|format(n=1) }}",
        "{{ '{:>{}}'.format('x', inputs.n) }}",
    ],
)
def test_what_a_client_sends_cannot_make_a_prompt_endless(template: str) -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(RenderError):
        said(template, n=10**10, text="x" * (MAX_TEXT_CHARS // 2 + 1), deep=deep)


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("{{ inputs.tags|join(', ') }}", "a, b"),
        ("{{ inputs.people|join(' and ', attribute='name') }}", "Ada and Bo"),
        ("{{ inputs.text|replace('x', 'y') }}", "y\ny"),
        ("{{ inputs.text|replace('x', 'y', 1) }}", "y\nx"),
        ("{{ inputs.text|indent(2) }}", "x\n  x"),
        ("{{ '%.1f of %s, 100%%'|format(1, 'x') }}", "1.0 of x, 100%"),
        ("{{ inputs.tags|tojson(indent=1) }}", '[\n "a",\n "b"\n]'),
        ("{{ 7 % 4 }}{{ 2 * 3 }}", "36"),
        ("{{ inputs.text.split()|length }}", "2"),
    ],
)
def test_what_is_small_is_made(template: str, prompt: str) -> None:
    assert said(template, tags=["a", "b"], text="x\nx", people=[{"name": "Ada"}, {"name": "Bo"}]) == prompt


def test_the_same_inputs_make_the_same_prompt() -> None:
    with pytest.raises(RenderError, match="No filter named 'random'"):
        prompts("{{ inputs.tags|random }}")
    with pytest.raises(RenderError, match="lipsum is not given"):
        said("{{ lipsum() }}")


@pytest.mark.parametrize("template", ["{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}"])
def test_a_template_loads_no_other(template: str) -> None:
    with pytest.raises(RenderError, match=r"prompt\.narrative, line 1: a template can load no other"):
        prompts(template)
