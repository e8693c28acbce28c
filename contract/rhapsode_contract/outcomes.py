"""`spec.outcomes`: what a turn may produce and where it goes. The platform team's part of two-phase turns.

Descriptions, bounds and defaults live here once, as in `resources`. What concerns more than one field is in `rules`;
what only a program can judge (schemas, templates) the relay judges when it starts.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from rhapsode_contract.placement import SecretKeyRef

_KEY = r"([^~/*]|~[01])*"
_STEPS = rf"(/(\*|{_KEY}))+"
_URL = r"^https?://([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?([/?][A-Za-z0-9._~:/?@!$&()*+,;=%-]*)?$"
_URL_RULE = "an http:// or https:// URL without user, password or fragment"
_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_LABEL_RULE = "lower-case letters, digits and '-', at most 63, not beginning or ending with '-'"

Pointer = Annotated[
    str,
    Meta(
        pattern=rf"^(/{_KEY})+$",
        max_length=256,
        extra={"rule": "a JSON pointer such as /inputs/campaign, without '*'"},
    ),
]
"""RFC 6901, to one place; it is not the whole document."""
PointerOrAll = Annotated[
    str,
    Meta(
        pattern=rf"^(/{_KEY})*$",
        max_length=256,
        extra={"rule": "a JSON pointer such as /intents, or nothing for all"},
    ),
]
Pointers = Annotated[
    str,
    Meta(
        pattern=rf"^{_STEPS}$",
        max_length=256,
        extra={"rule": "a JSON pointer such as /intents/pois/*/name, where '*' is every item of a list"},
    ),
]
Template = Annotated[str, Meta(max_length=16_384, extra={"rule": "a template of at most 16384 characters"})]
Url = Annotated[str, Meta(pattern=_URL, max_length=1024, extra={"rule": _URL_RULE})]
Label = Annotated[str, Meta(pattern=_LABEL, max_length=63, extra={"rule": _LABEL_RULE})]


class Prompt(Struct, kw_only=True, frozen=True):
    """How the model is asked, in Jinja2 templates over `inputs` and `context`."""

    system: Annotated[Template, Meta(description="What the model is told it is, before both questions.")] = ""
    narrative: Annotated[Template, Meta(description="Asks for the narrative, which is streamed.")]
    intents: Annotated[
        Template,
        Meta(description="Asks for the intents after it, as JSON by the schema; may use narrative, too."),
    ]


class Generation(Struct, kw_only=True, rename="camel", frozen=True):
    """How much the model may write."""

    narrative_tokens: Annotated[int, Meta(ge=1, le=65_536, description="Most tokens of the narrative.")] = 512
    intents_tokens: Annotated[int, Meta(ge=1, le=65_536, description="Most tokens of the intents.")] = 512


class NormalizeRule(Struct, kw_only=True, rename="camel", frozen=True):
    """What becomes of one value that is empty (absent, null or blank) or too long; any other stays as it is."""

    path: Annotated[
        Pointers, Meta(description="Where, below /intents; only where the object or list that holds it is there.")
    ]
    fallback_from: Annotated[
        Pointers | None,
        Meta(description="Place in the outcome whose value is taken instead; a '*' is the same item as in path."),
    ] = None
    fallback: Annotated[
        Any,
        Meta(description="What is taken else, such as a text or an empty list.", extra={"verbatim": True}),
    ] = None
    max_length: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None,
        Meta(description="Most characters of a text; a longer one keeps its first."),
    ] = None


class SecretHeader(Struct, kw_only=True, rename="camel", frozen=True):
    """A header whose value is a secret; it is read anew for each call."""

    header: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9-]+$",
            max_length=64,
            description="Its name.",
            extra={"rule": "a header's name: letters, digits and '-'"},
        ),
    ] = "Authorization"
    prefix: Annotated[
        str,
        Meta(
            pattern=r"^[ -~]*$",
            max_length=64,
            description="What stands before the secret, such as 'Bearer '.",
            extra={"rule": "printable ASCII, at most 64 characters"},
        ),
    ] = ""
    secret_ref: Annotated[SecretKeyRef, Meta(description="Where its value is.")]


class ContextSource(Struct, kw_only=True, rename="camel", frozen=True):
    """A list that is fetched before a turn, if its client asks for it."""

    name: Annotated[
        str,
        Meta(
            pattern=r"^[a-z][a-z0-9_]*$",
            max_length=63,
            description="What templates (context.NAME) and clients call it.",
            extra={"rule": "lower-case letters, digits and '_', beginning with a letter, at most 63"},
        ),
    ]
    url: Annotated[Url, Meta(description="Where it is.")]
    method: Annotated[
        Literal["GET", "POST"], Meta(description="How it is asked; POST sends the count as a JSON object.")
    ] = "GET"
    timeout_seconds: Annotated[int, Meta(ge=1, le=60, description="How long it may take, in seconds.")] = 2
    items: Annotated[PointerOrAll, Meta(description="Where the list is in the answer; the whole, if absent.")] = ""
    count_parameter: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$",
            max_length=64,
            description="Name of the query parameter, or of the JSON field, that says how many items.",
            extra={"rule": "letters, digits, '_', '.' and '-', beginning with a letter"},
        ),
    ] = "count"
    required: Annotated[bool, Meta(description="Whether a turn fails without it; else it goes on with none.")] = False
    secret_header: Annotated[SecretHeader | None, Meta(description="A header with a secret.")] = None


class Gate(Struct, kw_only=True, rename={"from_": "from"}, frozen=True):
    """One condition of a sink."""

    from_: Annotated[
        Literal["request", "outcome"],
        Meta(description="Where path points: into the request's policy and inputs, or into the outcome."),
    ]
    path: Annotated[Pointer, Meta(description="What is looked at; a place that is not there equals nothing.")]
    equals: Annotated[Any, Meta(description="What it must be.", extra={"verbatim": True})]


class Sink(
    Struct,
    kw_only=True,
    rename={"timeout_seconds": "timeoutSeconds", "as_": "as", "secret_header": "secretHeader"},
    frozen=True,
):
    """One place where a valid outcome, or a part of it, is written."""

    name: Annotated[Label, Meta(description="What it is called in events, logs and metrics.")]
    url: Annotated[Url, Meta(description="Where it is.")]
    method: Annotated[Literal["POST", "PUT", "PATCH"], Meta(description="How it is called.")] = "POST"
    timeout_seconds: Annotated[int, Meta(ge=1, le=300, description="How long it may take, in seconds.")] = 5
    part: Annotated[PointerOrAll, Meta(description="The part of the outcome that it gets; all, if absent.")] = ""
    as_: Annotated[
        Annotated[
            str,
            Meta(
                pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$", max_length=64, extra={"rule": "a field name such as narrative"}
            ),
        ]
        | None,
        Meta(description="Field of the body that the part becomes; without it the part is an object, and the body."),
    ] = None
    fields: Annotated[
        dict[str, Pointer],
        Meta(max_length=16, description="More fields of the body, each from a place in the inputs."),
    ] = {}
    when: Annotated[
        list[Gate],
        Meta(max_length=8, description="Conditions that must all hold; else it is skipped, which is said."),
    ] = []
    required: Annotated[
        bool, Meta(description="Whether its failure ends the turn; else the later sinks are called all the same.")
    ] = False
    secret_header: Annotated[SecretHeader | None, Meta(description="A header with a secret.")] = None


class TurnLimits(Struct, kw_only=True, rename="camel", frozen=True):
    """What one turn may take."""

    context_seconds: Annotated[int, Meta(ge=1, le=300, description="Seconds for all context sources.")] = 5
    narrative_seconds: Annotated[
        int, Meta(ge=1, le=3600, description="Seconds for the narrative, from when it starts.")
    ] = 120
    intents_seconds: Annotated[int, Meta(ge=1, le=3600, description="Seconds for the intents.")] = 60
    write_seconds: Annotated[int, Meta(ge=1, le=3600, description="Seconds for all sinks.")] = 30
    turn_seconds: Annotated[
        int, Meta(ge=1, le=86_400, description="Seconds for the whole turn, waiting included.")
    ] = 300
    narrative_bytes: Annotated[int, Meta(ge=1024, le=1_048_576, description="Most bytes of the narrative.")] = 65_536


class Outcome(Struct, kw_only=True, frozen=True):
    """One contract: what a turn asks for, what its outcome must be, and where it is written."""

    name: Annotated[Label, Meta(description="What clients call the contract.")]
    schema: Annotated[
        dict[str, Any],
        Meta(
            description="JSON Schema (2020-12) of the outcome: an object of narrative, a text, and intents.",
            extra={"verbatim": True},
        ),
    ]
    prompt: Annotated[Prompt, Meta(description="How the model is asked.")]
    generation: Annotated[Generation, Meta(description="How much it may write.")] = Generation()
    normalize: Annotated[
        list[NormalizeRule], Meta(max_length=64, description="What is put right before the outcome is judged.")
    ] = []
    context: Annotated[
        list[ContextSource], Meta(max_length=8, description="Lists that a client may have fetched.")
    ] = []
    sinks: Annotated[list[Sink], Meta(max_length=16, description="Where the outcome is written, in this order.")] = []
    limits: Annotated[TurnLimits, Meta(description="What one turn may take.")] = TurnLimits()
