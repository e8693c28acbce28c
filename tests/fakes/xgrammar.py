"""A stand-in for the grammar compiler that TensorRT-LLM brings: it refuses what the real one refuses, in its words.

`[[hang]]` and `[[crash]]` in a guide are guides that it never gets done with, and that end its process; at
`[[print]]` it prints.
"""

import json
import os
import re
import signal
from typing import Any

_KINDS = ("object", "array", "string", "integer", "number", "boolean", "null")


class TokenizerInfo:
    """A vocabulary."""

    def __init__(self, encoded_vocab: list[bytes]) -> None:
        self.vocab_size = len(encoded_vocab)


class GrammarCompiler:
    """What compiles, for one vocabulary."""

    def __init__(
        self,
        tokenizer_info: TokenizerInfo,
        *,
        max_threads: int = 8,
        cache_enabled: bool = True,
        cache_limit_bytes: int = -1,
    ) -> None:
        self.tokenizer_info = tokenizer_info

    def compile_json_schema(self, schema: str) -> None:
        _work(schema)
        read = json.loads(schema)
        if read.get("type", "object") not in _KINDS:
            raise RuntimeError(f"Unsupported type: {read['type']}")
        if "$ref" in read:
            raise RuntimeError(f"Cannot find field in {read['$ref']}")

    def compile_regex(self, regex: str) -> None:
        _work(regex)
        try:
            re.compile(regex)
        except re.error as exc:
            _refuse("regex_converter.cc:75", f"Regex parsing error at position {(exc.pos or 0) + 1}: {exc.msg}")

    def compile_grammar(self, grammar: str, *, root_rule_name: str = "root") -> None:
        _work(grammar)
        rules = dict(re.findall(r"^\s*([A-Za-z_]\w*)\s*::=(.*)$", grammar, re.MULTILINE))
        if root_rule_name not in rules:
            what = f'The root rule with name "{root_rule_name}" is not found'
            _refuse("grammar_parser.cc:560", f"EBNF parser error at line 1, column 1: {what}")
        for name in re.findall(r"[A-Za-z_]\w*", re.sub(r'"[^"]*"|\[[^\]]*\]', "", " ".join(rules.values()))):
            if name not in rules:
                what = f'Rule "{name}" is not defined'
                _refuse("grammar_parser.cc:560", f"EBNF parser error at line 1, column 10: {what}")


def _refuse(where: str, what: str) -> Any:
    raise RuntimeError(f"[14:35:03] /project/cpp/{where}: {what}\n")


def _work(guide: str) -> None:
    print("[[print]]" * ("[[print]]" in guide), flush=True)
    while "[[hang]]" in guide:
        continue
    if "[[crash]]" in guide:
        os.kill(os.getpid(), signal.SIGSEGV)
