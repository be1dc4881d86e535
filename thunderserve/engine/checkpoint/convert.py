"""GGUF to safetensors: transformers can read the one, slowly; everything else wants the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def convert(gguf: Path, target: Path) -> None:
    """Write the model and tokenizer of ``gguf`` to the new folder ``target``, in bfloat16.

    Quantised weights are dequantised: the result is the quantised model's arithmetic, not the original weights. bfloat16 halves
    the file; what it rounds is far below the quantisation's own error.

    Raises:
        ValueError: transformers cannot read the file.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**source)
        model: Any = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    except (OSError, ImportError, KeyError, NotImplementedError) as error:
        raise ValueError(f"{gguf.name} cannot be read: {error}") from error
    _forget_quantisation(model)
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


def _forget_quantisation(model: object) -> None:
    """What transformers notes on a model that came from GGUF, and that would have the saved one refused later."""
    config = getattr(model, "config")  # noqa: B009 - the class is not known here
    for owner, name in (
        (config, "quantization_config"),
        (model, "hf_quantizer"),
        (model, "is_quantized"),
        (model, "quantization_method"),
    ):
        if name in vars(owner):
            delattr(owner, name)
