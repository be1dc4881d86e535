"""A GGUF file of a tiny Llama, written by the gguf package as llama.cpp's converter would."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
HEADS, KV_HEADS = 4, 2


class Written(NamedTuple):
    """The file, and the folder of the model that is in it."""

    gguf: Path
    source: Path


def permuted(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of Q or K in llama.cpp's order: the two halves of a head's rotation side by side."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def tensors(model: Any) -> dict[str, NDArray[np.float32]]:
    """The model's weights by their names in GGUF."""
    found = {}
    for name, tensor in model.state_dict().items():
        weight = tensor.float().numpy()
        if name.startswith("model.layers."):
            _, _, layer, part = name.removesuffix(".weight").split(".", 3)
            if part.endswith(("q_proj", "k_proj")):
                weight = permuted(weight, HEADS if part.endswith("q_proj") else KV_HEADS)
            found[f"blk.{layer}.{NAMES[part]}.weight"] = weight
        else:
            outer = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
            found[f"{outer[name.removesuffix('.weight')]}.weight"] = weight
    return found


def write(folder: Path) -> Written:
    """Write a tiny Llama to ``folder`` twice: as transformers saves it, and as GGUF."""
    import gguf
    import transformers

    from thunderserve.engine.checkpoint.tiny import tiny

    source = tiny(folder / "source", seed=11)
    model = transformers.AutoModelForCausalLM.from_pretrained(source)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    config = model.config
    path = folder / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(config.hidden_size // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = tokenizer.convert_ids_to_tokens(list(range(config.vocab_size)))
    vocabulary[vocabulary.index("<filler0>")] = "ab"  # a tokenizer of this kind must merge something
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token in ("<s>", "</s>", "<pad>") else 1 for token in vocabulary])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    writer.add_pad_token_id(258)
    for name, weight in tensors(model).items():
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Written(path, source)
