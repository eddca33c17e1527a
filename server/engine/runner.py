"""The model runner: one forward pass over a batch of many sequences and many adapters."""

from __future__ import annotations

import torch
from torch.nn.functional import embedding

from server.engine.config import ModelConfig
from server.engine.layout import StepInput
from server.engine.weights import LayerWeights, ModelWeights
from server.kernels.activation import silu_mul
from server.kernels.attention import attend, write_kv
from server.kernels.linear import multiply
from server.kernels.norm import rms_norm
from server.kernels.rope import RopeTable, rotate


class MistralRunner:
    """MistralForCausalLM over a paged KV cache, each row with its own adapter.

    cache: [layers, 2, blocks, block_size, kv_heads, head_dim], keys before values.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: ModelWeights,
        *,
        num_blocks: int,
        block_size: int,
        max_context: int,
    ) -> None:
        self.config = config
        self.weights = weights
        dtype, device = weights.embedding.dtype, weights.embedding.device
        self.cache = torch.zeros(
            (config.num_layers, 2, num_blocks, block_size, config.num_kv_heads, config.head_dim),
            dtype=dtype,
            device=device,
        )
        self._hidden = weights.embedding[:0]  # [rows, hidden] of the newest step, before the norm
        self._rope = RopeTable.build(
            head_dim=config.head_dim,
            num_positions=max_context,
            theta=config.rope_theta,
            like=weights.embedding,
        )

    def forward(self, step: StepInput) -> torch.Tensor:
        """Logits [samples, vocab] of the rows that sample, in the compute dtype."""
        hidden = embedding(step.token_ids, self.weights.embedding)
        rotation = self._rope.at(step.positions)
        self._clear(step.begun_blocks)
        for index, layer in enumerate(self.weights.layers):
            hidden = hidden + self._attention(index, layer, hidden, rotation, step)
            hidden = hidden + self._mlp(index, layer, hidden, step)
        self._hidden = hidden
        return multiply(self._normalized(hidden[step.sample_rows]), self.weights.head)

    def final_states(self, start: int, end: int) -> torch.Tensor:
        """[rows, hidden] after the final norm, of the newest step's rows from one to another."""
        return self._normalized(self._hidden[start:end])

    def _normalized(self, hidden: torch.Tensor) -> torch.Tensor:
        return rms_norm(hidden, self.weights.final_norm, self.config.rms_norm_eps)

    def _clear(self, blocks: torch.Tensor) -> None:
        """Wipe what their last users left: masked, it counts nothing unless it is not finite."""
        self.cache.index_fill_(2, blocks, 0)

    def _attention(
        self,
        index: int,
        layer: LayerWeights,
        hidden: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor],
        step: StepInput,
    ) -> torch.Tensor:
        config = self.config
        normed = rms_norm(hidden, layer.input_norm, config.rms_norm_eps)
        qkv = layer.qkv(normed)
        step.lora.add((index, "qkv"), qkv, normed)
        heads = qkv.view(len(qkv), -1, config.head_dim)  # q, then k, then v heads
        rotated = rotate(heads[:, : config.num_heads + config.num_kv_heads], *rotation)
        query, key = rotated[:, : config.num_heads], rotated[:, config.num_heads :]
        cache = self.cache[index]
        write_kv(cache, step.kv_slots, key, heads[:, -config.num_kv_heads :])
        attended = _attend_all(query, cache, step)
        output = layer.o(attended)
        step.lora.add((index, "o"), output, attended)
        return output

    def _mlp(
        self, index: int, layer: LayerWeights, hidden: torch.Tensor, step: StepInput
    ) -> torch.Tensor:
        normed = rms_norm(hidden, layer.post_attention_norm, self.config.rms_norm_eps)
        gate_up = layer.gate_up(normed)
        step.lora.add((index, "gate_up"), gate_up, normed)
        activated = silu_mul(gate_up)
        output = layer.down(activated)
        step.lora.add((index, "down"), output, activated)
        return output


def _attend_all(query: torch.Tensor, cache: torch.Tensor, step: StepInput) -> torch.Tensor:
    """Attention of every group, back in row order: [tokens, heads · head_dim]."""
    if len(step.attention) == 1:
        return attend(query, cache, step.attention[0]).flatten(1)
    attended = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    for group in step.attention:
        attended[group.rows] = attend(query[group.rows], cache, group)
    return attended.flatten(1)
