"""Guides for OpenVINO: applied, and tried before the pipeline sees them. Called by `openvino` and its steps.

A guide that the compiler refuses makes the pipeline's `step()` throw while other requests are scheduled, and after
that it throws for ever. So each is first kept to by the same library around a model that costs nothing, since its
logits are a constant: this module, run as a process by `guide_checks`.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai
from openvino import opset13 as ops

from rhapsode_contract.guides import Guide
from rhapsode_worker.engines.guide_compiling import Compile, serve

TRIAL_TOKENS = 256
"""Tokens that a guide is kept to for a trial: some compile at once and take longer with every token."""
_INPUTS = {"input_ids": np.int64, "attention_mask": np.int64, "position_ids": np.int64, "beam_idx": np.int32}


def open_compiler(path: str) -> Compile:
    """Return a compiler for the vocabulary of the model at `path`."""
    tokenizer = genai.Tokenizer(path)
    with tempfile.TemporaryDirectory(prefix="rhapsode-") as folder:
        model = _constant_model(len(tokenizer.get_vocab()))
        ov.save_model(model, Path(folder) / "openvino_model.xml")
        pipeline = genai.LLMPipeline(folder, tokenizer, "CPU", ATTENTION_BACKEND="SDPA")

    def compile_guide(guide: Guide) -> str:
        config = genai.GenerationConfig()
        config.max_new_tokens = TRIAL_TOKENS
        constrain(config, guide)
        try:
            pipeline.generate(ov.Tensor(np.array([[0]], dtype=np.int64)), config)
        except (RuntimeError, MemoryError) as exc:
            return last_words(exc)
        return ""

    return compile_guide


def constrain(config: Any, guide: Guide) -> None:
    """Make a generation config say what a guide allows, and nothing else."""
    config.structured_output_config = genai.StructuredOutputConfig(**{guide.kind: guide.text})


def last_words(exc: Exception) -> str:
    """Return the line of an OpenVINO error that says what is wrong; the others name its source files."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()] or [type(exc).__name__]
    telling = [line for line in lines if "/src/" not in line and "/agent/" not in line]
    return (telling or [lines[-1].rpartition(".cc:")[2].partition(" ")[2].strip()])[-1][:200]


def _constant_model(vocabulary: int) -> Any:
    """Return a model of a language model's inputs whose logits do not depend on them."""
    inputs = [_input(name, kind) for name, kind in _INPUTS.items()]
    nothing = _times_zero(inputs[1])
    for one in inputs[2:]:
        nothing = ops.add(nothing, _times_zero(one))
    per_token = ops.unsqueeze(ops.multiply(ops.convert(inputs[0], np.float32), np.float32(0)), np.int64(2))
    logits = ops.result(ops.add(ops.add(per_token, np.zeros((1, 1, vocabulary), np.float32)), nothing))
    logits.output(0).set_names({"logits"})
    return ov.Model([logits], inputs, "constant")


def _input(name: str, kind: Any) -> Any:
    parameter = ops.parameter([-1] if name == "beam_idx" else [-1, -1], kind, name=name)
    parameter.output(0).set_names({name})
    return parameter


def _times_zero(node: Any) -> Any:
    flat = ops.reshape(ops.convert(node, np.float32), np.array([-1], np.int64), special_zero=False)
    return ops.reduce_sum(ops.multiply(flat, np.float32(0)), np.array([0], np.int64), keep_dims=False)


if __name__ == "__main__":
    serve(open_compiler)
