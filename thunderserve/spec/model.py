"""A decoder-only transformer as a planner sees it: shapes, and the bytes that follow from them."""

from __future__ import annotations

from pydantic import Field, model_validator

from thunderserve.spec.noun import Noun


class ModelSpec(Noun):
    """Shapes of one model. All byte counts are for the whole model unless said otherwise."""

    name: str
    num_layers: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    """Width of one MLP (of one expert, for a mixture of experts)."""
    num_heads: int = Field(gt=0)
    num_kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    max_context: int = Field(gt=0)
    """Longest prompt plus output the model was made for, in tokens."""
    dtype_bytes: int = Field(default=2, gt=0)
    mlp_matrices: int = Field(default=3, ge=2, le=3)
    """3 for a gated MLP (LLaMA), 2 for a plain one (OPT)."""
    num_experts: int = Field(default=1, gt=0)
    experts_per_token: int = Field(default=1, gt=0)
    tied_embeddings: bool = False
    position_embeddings: int = Field(default=0, ge=0)
    """Rows of a learned position table (OPT); 0 for rotary positions."""
    biases: bool = False
    """Bias vectors on every linear and norm (OPT)."""
    qkv_bias: bool = False
    """Bias vectors on Q, K and V alone (Qwen2)."""
    source: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> ModelSpec:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"{self.num_heads} heads cannot share {self.num_kv_heads} KV heads evenly")
        if self.experts_per_token > self.num_experts:
            raise ValueError(f"a token cannot use {self.experts_per_token} of {self.num_experts} experts")
        return self

    @property
    def attention_parameters(self) -> int:
        """Q, K, V and O of one layer."""
        wide, narrow = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        weights = self.hidden_size * (2 * wide + 2 * narrow)
        bias = wide + 2 * narrow if self.biases or self.qkv_bias else 0
        return weights + bias + (self.hidden_size if self.biases else 0)

    @property
    def expert_parameters(self) -> int:
        """One MLP of one layer (one expert)."""
        weights = self.mlp_matrices * self.hidden_size * self.intermediate_size
        return weights + (self.intermediate_size + self.hidden_size if self.biases else 0)

    @property
    def layer_parameters(self) -> int:
        """One whole layer: attention, all experts and their router, norms."""
        norms = 2 * self.hidden_size * (2 if self.biases else 1)
        router = self.hidden_size * self.num_experts if self.num_experts > 1 else 0
        return self.attention_parameters + self.num_experts * self.expert_parameters + router + norms

    @property
    def embedding_parameters(self) -> int:
        """The input embedding and the learned positions, if any."""
        return (self.vocab_size + self.position_embeddings) * self.hidden_size

    @property
    def head_parameters(self) -> int:
        """The LM head and the last norm; the matrix is counted once, with the embedding, when tied."""
        matrix = 0 if self.tied_embeddings else self.vocab_size * self.hidden_size
        return matrix + self.hidden_size * (2 if self.biases else 1)

    @property
    def num_parameters(self) -> int:
        """All of them."""
        return self.num_layers * self.layer_parameters + self.embedding_parameters + self.head_parameters

    @property
    def weight_bytes(self) -> int:
        """All weights, at ``dtype_bytes``."""
        return self.num_parameters * self.dtype_bytes

    def kv_bytes_per_token(self, bits: float | None = None) -> float:
        """K and V of one token over **all** layers; at ``bits`` a value, or at the model's own width."""
        values = 2 * self.num_layers * self.num_kv_heads * self.head_dim
        return values * (bits / 8 if bits is not None else self.dtype_bytes)
