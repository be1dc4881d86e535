"""Tiny random models of real architectures, with a tokenizer of bytes: everything a test needs, in a tenth of a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

Architecture = Literal["llama", "qwen2", "gemma3", "mistral"]

COMMON: dict[str, Any] = {
    "vocab_size": 264, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 2048, "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},  # biases on Q, K and V
    "mistral": {"sliding_window": 24, "head_dim": 16},
    "gemma3": {
        "head_dim": 32, "sliding_window": 16, "query_pre_attn_scalar": 32,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
}  # fmt: skip
CLASSES = {"llama": "Llama", "qwen2": "Qwen2", "mistral": "Mistral", "gemma3": "Gemma3Text"}


def tiny(folder: Path, architecture: Architecture = "llama", seed: int = 0, **changes: Any) -> Path:
    """Write a random model and its tokenizer to ``folder`` and return it. ``changes`` go to its configuration.

    Weights are drawn wider than a fresh model's, so that its greedy answers differ from prompt to prompt.
    """
    import torch
    import transformers

    family = CLASSES[architecture]
    config = getattr(transformers, f"{family}Config")(**COMMON | OWN[architecture] | changes)
    model_class = getattr(transformers, "Gemma3ForCausalLM" if architecture == "gemma3" else f"{family}ForCausalLM")
    generator_state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        model = model_class(config)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.ndim == 2:
                    weight.normal_(0, 0.3 if "embed" in name else 0.18)
                elif name.endswith("bias"):
                    weight.normal_(0, 0.2)
    finally:
        torch.set_rng_state(generator_state)
    model.save_pretrained(folder)
    byte_tokenizer(config.vocab_size).save_pretrained(folder)
    return folder


def byte_tokenizer(vocab_size: int) -> Any:
    """A token for each byte of UTF-8, then begin, end and padding, then fillers up to ``vocab_size``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<s>", "</s>", "<pad>"]
    fillers = [f"<filler{i}>" for i in range(vocab_size - len(letters) - len(special))]
    vocabulary = {token: index for index, token in enumerate([*letters, *special, *fillers])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        model_max_length=2048,
        **dict(zip(("bos_token", "eos_token", "pad_token"), special, strict=True)),
    )
