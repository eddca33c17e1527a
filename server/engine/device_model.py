"""The model's arithmetic on a device: fused kernels over rows of many sequences and adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import embedding, linear, pad

from server.engine.config import ModelConfig
from server.engine.slots import Site
from server.engine.step_kernels import StepKernels
from server.engine.weights import LayerWeights, ModelWeights
from server.kernels.linear import Linear, Unpacking, multiply
from server.kernels.rope import RopeTable
from server.kernels.triton.delta import LoraDelta
from server.kernels.triton.room import ROOM
from server.kernels.triton.site import LoraSite
from server.kernels.triton.tiles import PROMPT_ROWS, LoraTiles

INVARIANT_ROWS = 64  # multiplied at once by the head: libraries sum differently for other counts
Attend = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Attention of queries [rows, heads, head_dim] over one layer's cache → the same shape."""


@dataclass(frozen=True)
class Rows:
    """Tokens that go through the model together.

    token_ids, positions, kv_slots: [rows] int64. tiles: which rows share an adapter; None if no
    row has one. row_slots: [rows] int32, each row's slot or -1, if the kernels that read a product
    are to add what adapters change; None to add it first, which pays for many rows. is_shared:
    whether all rows are in tiles of one slot (or of -1), whose ranks fit into `ROOM`, and so many
    that weights are unpacked for them: what their adapter changes is then a part of the products.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    kv_slots: torch.Tensor
    tiles: LoraTiles | None
    attend: Attend
    row_slots: torch.Tensor | None = None
    is_shared: bool = False

    @property
    def room(self) -> int:
        """Columns that every input of a product has behind it."""
        return ROOM if self.is_shared else 0


@dataclass(frozen=True)
class DeviceModel:
    """MistralForCausalLM over a paged KV cache, each row with its own adapter.

    cache: [layers, 2, blocks, block_size, kv_heads, head_dim], keys before values. invariant:
    whether a row's bits may depend on nothing but the row. Nothing here reads from the device, so a
    forward pass can be captured in a graph.
    """

    config: ModelConfig
    weights: ModelWeights
    kernels: StepKernels
    sites: Mapping[Site, LoraSite]
    rope: RopeTable
    cache: torch.Tensor
    invariant: bool = False

    @property
    def shallow(self) -> DeviceModel:
        """The same with one layer, which launches every kernel that there is."""
        return replace(self, weights=replace(self.weights, layers=self.weights.layers[:1]))

    def unpacks(self, tokens: int) -> bool:
        """Whether every product of so many rows unpacks its weight first."""
        first = self.weights.layers[0]
        linears = (first.qkv, first.o, first.gate_up, first.down)
        return not self.invariant and all(
            isinstance(linear, Unpacking) and linear.unpacks(tokens) for linear in linears
        )

    def forward(self, rows: Rows) -> torch.Tensor:
        """Hidden states [rows, hidden] after the final norm."""
        layers, eps = self.weights.layers, self.config.rms_norm_eps
        next_norms = [layer.input_norm for layer in layers[1:]] + [self.weights.final_norm]
        residual = embedding(rows.token_ids, self.weights.embedding)
        normed = self.kernels.rms_norm(residual, layers[0].input_norm, eps, room=rows.room)
        for index, (layer, next_norm) in enumerate(zip(layers, next_norms, strict=True)):
            attended, delta = self._attention(index, layer, normed, rows)
            normed = self.kernels.add_rms_norm(
                residual, attended, layer.post_attention_norm, eps, delta=delta, room=rows.room
            )
            changed, delta = self._mlp(index, layer, normed, rows)
            normed = self.kernels.add_rms_norm(
                residual, changed, next_norm, eps, delta=delta, room=rows.room
            )
        return normed

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[rows, vocab] of hidden states [rows, hidden]."""
        if not self.invariant:
            return multiply(hidden, self.weights.head)
        missing = -len(hidden) % INVARIANT_ROWS
        tiles = pad(hidden, (0, 0, 0, missing)).view(-1, INVARIANT_ROWS, hidden.shape[1])
        return torch.cat([linear(tile, self.weights.head) for tile in tiles])[: len(hidden)]

    def _attention(
        self, index: int, layer: LayerWeights, normed: torch.Tensor, rows: Rows
    ) -> tuple[torch.Tensor, LoraDelta | None]:
        """The output, and what is still to be added to it."""
        config, cache = self.config, self.cache[index]
        qkv, delta = self._multiply((index, "qkv"), layer.qkv, normed, rows)
        self.kernels.rotate_and_write(
            qkv, self.rope, rows.positions, rows.kv_slots, cache, delta=delta
        )
        query = qkv[:, : config.num_heads * config.head_dim]
        attended = rows.attend(query.view(len(query), -1, config.head_dim), cache).flatten(1)
        return self._multiply((index, "o"), layer.o, attended, rows)

    def _mlp(
        self, index: int, layer: LayerWeights, normed: torch.Tensor, rows: Rows
    ) -> tuple[torch.Tensor, LoraDelta | None]:
        """As `_attention`."""
        activated = self._activate(index, layer, normed, rows)
        return self._multiply((index, "down"), layer.down, activated, rows)

    def _activate(
        self, index: int, layer: LayerWeights, normed: torch.Tensor, rows: Rows
    ) -> torch.Tensor:
        """The gated activation [rows, intermediate]."""
        site, tiles = (index, "gate_up"), rows.tiles
        if tiles is not None and tiles.tile_rows == PROMPT_ROWS and not rows.is_shared:
            gate_up = layer.gate_up(normed)
            return self.kernels.adapted_silu_mul(gate_up, normed, self.sites[site], tiles)
        gate_up, delta = self._multiply(site, layer.gate_up, normed, rows)
        return self.kernels.silu_mul(gate_up, delta=delta, room=rows.room)

    def _multiply(
        self, site: Site, linear: Linear, x: torch.Tensor, rows: Rows
    ) -> tuple[torch.Tensor, LoraDelta | None]:
        """The product with what adapters change in it, or what its reader is to add."""
        if rows.tiles is None:
            return linear(x), None
        if rows.is_shared:
            assert isinstance(linear, Unpacking)
            return self.kernels.adapted_product(x, linear, self.sites[site], rows.tiles), None
        y = linear(x)
        if rows.row_slots is not None:
            return y, self.kernels.shrink_beside(x, self.sites[site], rows.tiles, rows.row_slots)
        self.kernels.add_lora(y, x, self.sites[site], rows.tiles)
        return y, None
