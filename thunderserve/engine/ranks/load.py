"""One rank's share of a checkpoint: the model built without memory, and its own parameters read into it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thunderserve.engine.options import Rank
from thunderserve.engine.ranks.shard import Cut, cut
from thunderserve.engine.ranks.wires import Wires

PIPELINE = {"embed_tokens", "layers", "norm"}
"""The parts of a decoder that is nothing but these, one after the other."""


class Elsewhere(nn.Module):
    """In the place of a layer that another rank has: hands its first input on."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.attention_type = getattr(layer, "attention_type", None)  # decoders of some transformers ask every layer

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        """As it came."""
        return x


class Checkpoint:
    """The tensors of a folder with safetensors, or of a name of the hub. Raises ValueError if there are none."""

    def __init__(self, name: str) -> None:
        import safetensors

        safe_open: Any = safetensors.safe_open
        folder = Path(name if Path(name).is_dir() else _fetched(name))
        files = [safe_open(str(file), framework="pt") for file in sorted(folder.glob("*.safetensors"))]
        if not files:
            raise ValueError(f"there are no safetensors in {folder}")
        self._files: dict[str, Any] = {key: file for file in files for key in file.keys()}  # noqa: SIM118  # no mapping, it has keys() alone

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def read(self, name: str, part: Cut | None) -> Tensor:
        """A tensor or a part of it; nothing else is read."""
        if part is None:
            return self._files[name].get_tensor(name)  # type: ignore[no-any-return]
        lazy = self._files[name].get_slice(name)
        span = slice(part.start, part.stop)
        return lazy[span] if part.axis == 0 else lazy[:, span]  # type: ignore[no-any-return]


def load(name: str, config: Any, rank: Rank, wires: Wires, dtype: torch.dtype, attention: str) -> Any:
    """A transformers model with the layers and heads of ``rank``; embeddings on the first stage, norm and head on the last.

    Raises:
        ValueError: the model cannot be divided so, or the checkpoint has other names.
    """
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    automatic: Any = AutoModelForCausalLM
    with init_empty_weights():
        model = automatic.from_config(config, dtype=dtype, attn_implementation=attention)
    _keep_stage(model, rank, wires)
    cuts = cut(model, rank, wires)
    _fill(model, Checkpoint(name), cuts, dtype, torch.device(rank.device))
    return model.eval()


def _keep_stage(model: Any, rank: Rank, wires: Wires) -> None:
    """Put ``Elsewhere`` in the place of what is not of this stage: layers keep their numbers."""
    decoder = model.base_model
    if set(getattr(decoder.config, "base_model_pp_plan", None) or ()) != PIPELINE:
        raise ValueError(f"{type(model).__name__} is more than embeddings, layers and a norm in a row: one device only")
    for number, layer in enumerate(decoder.layers):
        if number not in rank.layers:
            decoder.layers[number] = Elsewhere(layer)
    if not wires.first:
        decoder.embed_tokens = Elsewhere(decoder.embed_tokens)
    if not wires.last:
        decoder.norm, model.lm_head = Elsewhere(decoder.norm), Elsewhere(model.lm_head)


def _fill(model: Any, checkpoint: Checkpoint, cuts: dict[str, Cut], dtype: torch.dtype, device: torch.device) -> None:
    tied = dict(model._tied_weights_keys or {}) if model.config.tie_word_embeddings else {}
    for name, _ in list(model.named_parameters(remove_duplicate=False)):
        source = name if name in checkpoint else tied.get(name, name)
        if source not in checkpoint:
            raise ValueError(f"the checkpoint has no {source}: it names its tensors otherwise than the model")
        parent, _, leaf = name.rpartition(".")
        value = checkpoint.read(source, cuts.get(name)).to(device, dtype)
        setattr(model.get_submodule(parent), leaf, nn.Parameter(value, requires_grad=False))
    model.to(device)  # what is no parameter: the angles of rotary embeddings


def _fetched(name: str) -> str:
    from huggingface_hub import snapshot_download

    patterns: Sequence[str] = ("*.safetensors", "*.json")
    return str(snapshot_download(name, allow_patterns=list(patterns)))
