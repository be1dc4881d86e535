"""A part of a Hugging Face model: its own layers, and of their matrices its own share. Nothing else is ever read.

The architecture is built empty (accelerate), what is not of this rank is taken out, and the rest is filled from safetensors.
Which matrices are cut, and which way, is the model's own tensor-parallel plan (``base_model_tp_plan`` of its configuration);
transformers' own loader of such plans needs its distributed tensors, which a paged step over packed rows does not.
"""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thunderserve.engine.ranks.layout import Share, refuse

KEPT_WHOLE = ("replicated_with_grad_allreduce", "replicated", "sequence_parallel")


def load(folder: str, share: Share, dtype: torch.dtype, device: torch.device, attention: str) -> tuple[Any, Any]:
    """The part (a causal model with fewer layers) and the configuration of the whole.

    Raises:
        SpecError: the model cannot be cut this way.
    """
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = _local(folder)
    whole: Any = AutoConfig.from_pretrained(folder)
    config: Any = AutoConfig.from_pretrained(folder)
    refuse(config.model_type, config.num_attention_heads, config.num_key_value_heads, [share.degree])
    with init_empty_weights(include_buffers=False):
        build: Any = AutoModelForCausalLM.from_config
        model: Any = build(config, dtype=dtype, attn_implementation=attention)
    _cut(model, config, share)
    styles = {name: style for name, style in _styles(model) if style in ("colwise", "rowwise") and share.degree > 1}
    _fill(model, Path(folder), share, styles, dtype, device)
    for name in styles:
        _shrink(model.get_submodule(name))
    return model.to(device).eval(), whole


def row_parallel(model: Any) -> list[nn.Module]:
    """Modules whose output is a sum over the ranks of a stage."""
    return [model.get_submodule(name) for name, style in _styles(model) if style == "rowwise"]


def _local(folder: str) -> str:
    if Path(folder).is_dir():
        return folder
    from huggingface_hub import snapshot_download

    return str(snapshot_download(folder, allow_patterns=["*.json", "*.safetensors"]))


def _cut(model: Any, config: Any, share: Share) -> None:
    """Keep the layers of this rank, numbered from 0, and the ends that it has."""
    base, (begin, end) = model.model, share.layers
    base.layers = nn.ModuleList(list(base.layers)[begin:end])
    for number, layer in enumerate(base.layers):
        layer.self_attn.layer_idx = number
    config.num_hidden_layers = end - begin
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = config.layer_types[begin:end]
    if not share.first:
        base.embed_tokens = nn.Identity()
    if not share.last:
        base.norm, model.lm_head = nn.Identity(), nn.Identity()


def _styles(model: Any) -> list[tuple[str, str]]:
    """(module, way to cut it) for every matrix that the model's plan names."""
    plan: dict[str, str] = model.config.base_model_tp_plan or {}
    found = []
    for name, module in model.model.named_modules():
        style = next((style for pattern, style in plan.items() if fnmatch(name, pattern)), None)
        if style is None or style in KEPT_WHOLE:
            continue
        if style not in ("colwise", "rowwise") or not isinstance(module, nn.Linear):
            raise ValueError(f"{name} is to be cut {style!r}, which this engine does not know")
        found.append((f"model.{name}", style))
    return found


def _fill(
    model: Any, folder: Path, share: Share, styles: dict[str, str], dtype: torch.dtype, device: torch.device
) -> None:
    files = _files(folder)
    for name in dict(model.named_parameters()):
        module, _, kind = name.rpartition(".")
        stored = _stored(name, share)
        if stored not in files and name == "lm_head.weight":
            stored = "model.embed_tokens.weight"  # tied
        value = _read(files[stored], stored, styles.get(module), kind, share)
        owner = model.get_submodule(module)
        setattr(owner, kind, nn.Parameter(value.to(device=device, dtype=dtype), requires_grad=False))


def _stored(name: str, share: Share) -> str:
    """What the checkpoint calls it: there layers are numbered from the first of the whole."""
    parts = name.split(".")
    if parts[:2] == ["model", "layers"]:
        parts[2] = str(int(parts[2]) + share.layers[0])
    return ".".join(parts)


def _files(folder: Path) -> dict[str, Path]:
    """Tensor -> the file that has it."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        placed: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {name: folder / file for name, file in placed.items()}
    from safetensors import safe_open

    file = folder / "model.safetensors"
    with safe_open(str(file), "pt") as content:
        return dict.fromkeys(content.keys(), file)


def _read(file: Path, name: str, style: str | None, kind: str, share: Share) -> Tensor:
    """The share of a tensor: rows of a matrix and of its bias (``colwise``), or columns, with the bias at the leader alone."""
    from safetensors import safe_open

    with safe_open(str(file), "pt") as content:
        if style is None:
            whole: Tensor = content.get_tensor(name)
            return whole
        part = content.get_slice(name)
        shape = part.get_shape()
        if style == "rowwise" and kind == "bias":
            bias: Tensor = part[:]
            return bias if share.place == 0 else torch.zeros_like(bias)
        axis = 0 if style == "colwise" else 1
        each = shape[axis] // share.degree
        span = slice(share.place * each, (share.place + 1) * each)
        found: Tensor = part[span] if axis == 0 else part[:, span]
        return found


def _shrink(module: Any) -> None:
    """A linear layer says its true size."""
    module.out_features, module.in_features = module.weight.shape
