"""A tokenizer of bytes and a few words, with the two layers of the real one."""

import codecs
import json
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

END, PAD, BEGIN = 0, 1, 2
FIRST_BYTE = 3
WORDS = tuple(f" {word}" for word in ("the", "singer", "walked", "to", "a", "city", "and", "sang", "of", "rivers"))
FIRST_WORD = FIRST_BYTE + 256
_ROLES = """{% for message in messages %}
{% if message.role == "tool" %}{{ raise_exception("Conversation roles must alternate") }}{% endif %}
<{{ message.role }}>{{ message.content }}</>{% endfor %}
{% if add_generation_prompt %}<assistant>{% endif %}"""
"""The template of a folder that has none."""


def bytes_of(token: int) -> bytes:
    if token >= FIRST_WORD:
        return WORDS[token - FIRST_WORD].encode()
    return bytes([token - FIRST_BYTE]) if token >= FIRST_BYTE else b""


class ByteTokenizer:
    """What Hugging Face's object is in the real one."""

    def __init__(self, folder: str = "") -> None:
        path = Path(folder) / "chat_template.jinja"
        self.chat_template: str | None = path.read_text() if folder and path.is_file() else _ROLES

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        ids = [FIRST_BYTE + byte for byte in text.encode()]
        return [BEGIN, *ids] if add_special_tokens and ids else ids

    def apply_chat_template(
        self,
        conversation: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        *,
        tokenize: bool = True,
        add_generation_prompt: bool = False,
    ) -> Any:
        if self.chat_template is None:
            raise ValueError("Cannot use chat template functions because tokenizer.chat_template is not set")
        template = _environment().from_string(self.chat_template)
        text = template.render(messages=conversation, tools=tools, add_generation_prompt=add_generation_prompt)
        return self.encode(text, add_special_tokens=False) if tokenize else text


def _environment() -> ImmutableSandboxedEnvironment:
    """What the real one gives to templates."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = _refuse
    return environment


def _refuse(message: str) -> None:
    raise ValueError(message)


class TransformersTokenizer:
    """The package's own layer around it."""

    def __init__(self, tokenizer: ByteTokenizer) -> None:
        self.tokenizer = tokenizer


class Detokenizer:
    """Whole characters only: half of one waits for the next token."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, tokens: list[int]) -> str:
        return self._decoder.decode(b"".join(map(bytes_of, tokens)))
