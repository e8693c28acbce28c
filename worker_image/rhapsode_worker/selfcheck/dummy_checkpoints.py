"""Write a tiny checkpoint without weights, for an engine that makes random ones (`loadFormat: dummy`).

The architecture is one that every version knows, the tokenizer has all bytes and some hundred short words: whatever
random weights say is text. Nothing is fetched. Called by `subjects`.
"""

import itertools
import json
import string
from pathlib import Path
from typing import Any

VOCABULARY = 1024
CONTEXT = 2048
SPECIAL = ("<pad>", "<s>", "</s>")
_TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}\n{{ message['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def write_dummy_checkpoint(folder: Path) -> None:
    """Write `config.json` and a tokenizer into a folder."""
    files = {
        "config.json": _config(),
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": _tokenizer_config(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def _config() -> dict[str, Any]:
    """Return a Llama of two layers; its heads have a size that every attention kernel takes."""
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "vocab_size": VOCABULARY, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64, "hidden_act": "silu",
        "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": None,
        "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False, "initializer_range": 0.02,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "use_cache": True,
    }  # fmt: skip


def _tokenizer() -> dict[str, Any]:
    """Return a byte-level tokenizer that joins nothing: a prompt is its bytes, the words are for answers."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    words = [*SPECIAL, *_bytes(), *_words()][:VOCABULARY]
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [_added(at, word) for at, word in enumerate(SPECIAL)],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {word: at for at, word in enumerate(words)}, "merges": [],
        },
    }  # fmt: skip


def _tokenizer_config() -> dict[str, Any]:
    pad, begin, end = SPECIAL
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": pad, "bos_token": begin, "eos_token": end,
        "add_bos_token": False, "clean_up_tokenization_spaces": False, "model_max_length": CONTEXT,
        "chat_template": _TEMPLATE,
    }  # fmt: skip


def _added(at: int, word: str) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": at, "content": word, "special": True, **plain}


def _bytes() -> list[str]:
    """Return the character that stands for each byte in a byte-level vocabulary (GPT-2's table)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [*map(chr, shown), *(chr(256 + at) for at in range(len(hidden)))]


def _words() -> list[str]:
    """Return words of two and of three letters, each with the space before it."""
    letters = string.ascii_lowercase
    pairs = ("".join(pair) for pair in itertools.product(letters, repeat=2))
    more = ("".join(three) for three in itertools.product(letters, repeat=3))
    return [f"Ġ{word}" for word in itertools.islice(itertools.chain(pairs, more), VOCABULARY)]
