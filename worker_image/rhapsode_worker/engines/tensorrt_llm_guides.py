"""Guides for TensorRT-LLM: which it keeps to, in its terms, and whether its compiler takes them. For `tensorrt_llm`.

It compiles guides where it computes, for all requests together. So each is first compiled by the same library in a
process of its own: this module, run by `guide_checks`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from rhapsode_contract.guides import GUIDE_WORDS, Guide, GuideKind
from rhapsode_worker.engines.guide_checks import GuideChecks
from rhapsode_worker.engines.guide_compiling import Compile, serve
from rhapsode_worker.errors import RequestError

_KEPT: Mapping[str, tuple[GuideKind, ...]] = {
    "xgrammar": ("json_schema", "regex", "grammar"),
    "llguidance": ("json_schema", "regex"),  # its grammars are another language, Lark's
}
_WORDS: Mapping[GuideKind, str] = {"json_schema": "json", "regex": "regex", "grammar": "grammar"}
"""The arguments of GuidedDecodingParams."""


class Guides:
    """What a backend keeps to, and what is tried before it sees it."""

    def __init__(self, backend: str, path: str) -> None:
        self._kept = _KEPT.get(backend, ())
        self._checks = GuideChecks(__name__, path) if backend == "xgrammar" else None  # else its own refusal must do

    def kept(self) -> dict[str, bool]:
        """Return the fields of `Caps` that tell it."""
        return {kind: kind in self._kept for kind in GUIDE_WORDS}

    async def check(self, guide: Guide, over: Callable[[], bool]) -> None:
        """Return if a guide can be used, or its request is `over`. Raises RequestError."""
        if guide.kind not in self._kept:
            why = f"this worker keeps to no {guide.words}"
            raise RequestError("unsupported", why, f"Leave {guide.kind} out.", param=guide.kind)
        if self._checks is not None:
            await self._checks.check(guide, over)

    async def close(self) -> None:
        if self._checks is not None:
            await self._checks.close()


def in_its_words(guide: Guide) -> dict[str, str]:
    """Return the argument of GuidedDecodingParams."""
    return {_WORDS[guide.kind]: guide.text}


def open_compiler(path: str) -> Compile:
    """Return a compiler for the model's vocabulary."""
    try:
        import xgrammar
    except ImportError:  # then TensorRT-LLM's own refusal must do
        return lambda _: ""
    compiler = xgrammar.GrammarCompiler(_vocabulary(xgrammar, path), max_threads=1, cache_enabled=False)
    compile_by: Mapping[GuideKind, Any] = {
        "json_schema": compiler.compile_json_schema,
        "regex": compiler.compile_regex,
        "grammar": compiler.compile_grammar,
    }

    def compile_guide(guide: Guide) -> str:
        try:
            compile_by[guide.kind](guide.text)
        except Exception as exc:  # what it raises differs by version
            return _last_words(exc)
        return ""

    return compile_guide


def _vocabulary(xgrammar: Any, path: str) -> Any:
    """Return the model's vocabulary; a tokenizer that only TensorRT-LLM can read is stood in for by all bytes."""
    try:
        from transformers import AutoTokenizer

        return xgrammar.TokenizerInfo.from_huggingface(AutoTokenizer.from_pretrained(path))
    except Exception:  # what a guide costs is then underestimated; whether it is one is still told
        return xgrammar.TokenizerInfo([bytes([byte]) for byte in range(256)])


def _last_words(exc: Exception) -> str:
    """Return what is wrong, without the place in its source where it was found."""
    line = (str(exc).strip().splitlines() or [type(exc).__name__])[-1]
    return line.rpartition(".cc:")[2].partition(": ")[2][:200] if ".cc:" in line else line[:200]


if __name__ == "__main__":
    serve(open_compiler)
