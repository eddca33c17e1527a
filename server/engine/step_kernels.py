"""The kernels of a device's step: Triton's on CUDA, their plain-torch twins elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import torch

from server.kernels.linear import Unpacking
from server.kernels.rope import RopeTable
from server.kernels.triton.chunks import PromptChunks
from server.kernels.triton.delta import LoraDelta
from server.kernels.triton.pieces import Pieces
from server.kernels.triton.row_sampling import RowSampling
from server.kernels.triton.site import LoraSite
from server.kernels.triton.tiles import LoraTiles

KERNELS, TWINS = "server.kernels.triton", "server.kernels.triton.twins"


class RmsNorm(Protocol):
    def __call__(
        self, x: torch.Tensor, weight: torch.Tensor, eps: float, *, room: int
    ) -> torch.Tensor: ...


class AddRmsNorm(Protocol):
    def __call__(
        self,
        residual: torch.Tensor,
        x: torch.Tensor,
        weight: torch.Tensor,
        eps: float,
        *,
        delta: LoraDelta | None,
        room: int,
    ) -> torch.Tensor: ...


class RotateAndWrite(Protocol):
    def __call__(
        self,
        qkv: torch.Tensor,
        rope: RopeTable,
        positions: torch.Tensor,
        kv_slots: torch.Tensor,
        cache: torch.Tensor,
        *,
        delta: LoraDelta | None,
    ) -> None: ...


class DecodeAttention(Protocol):
    def __call__(
        self,
        query: torch.Tensor,
        cache: torch.Tensor,
        block_tables: torch.Tensor,
        context_lengths: torch.Tensor,
        *,
        splits: int,
        window: int | None,
    ) -> torch.Tensor: ...


class PrefillAttention(Protocol):
    def __call__(
        self,
        query: torch.Tensor,
        cache: torch.Tensor,
        chunks: PromptChunks,
        *,
        window: int | None,
        room: int,
    ) -> torch.Tensor: ...


class SiluMul(Protocol):
    def __call__(
        self, gate_up: torch.Tensor, *, delta: LoraDelta | None, room: int
    ) -> torch.Tensor: ...


class AddLora(Protocol):
    def __call__(
        self, y: torch.Tensor, x: torch.Tensor, site: LoraSite, tiles: LoraTiles
    ) -> None: ...


class AdaptedSiluMul(Protocol):
    def __call__(
        self, gate_up: torch.Tensor, x: torch.Tensor, site: LoraSite, tiles: LoraTiles
    ) -> torch.Tensor: ...


class AdaptedProduct(Protocol):
    def __call__(
        self, x: torch.Tensor, linear: Unpacking, site: LoraSite, tiles: LoraTiles
    ) -> torch.Tensor: ...


class ShrinkBeside(Protocol):
    def __call__(
        self, x: torch.Tensor, site: LoraSite, tiles: LoraTiles, row_slots: torch.Tensor
    ) -> LoraDelta: ...


class KnownTokens(Protocol):
    def __call__(self, token_ids: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor: ...


class Argmax(Protocol):
    def __call__(
        self, logits: torch.Tensor, *, out: torch.Tensor | None = None
    ) -> torch.Tensor: ...


class Sample(Protocol):
    def __call__(
        self, logits: torch.Tensor, parameters: RowSampling, positions: torch.Tensor
    ) -> torch.Tensor: ...


class MaskLogits(Protocol):
    def __call__(self, logits: torch.Tensor, masks: torch.Tensor, rows: torch.Tensor) -> None: ...


class Unpack(Protocol):
    def __call__(self, slot: torch.Tensor, stored: torch.Tensor, pieces: Pieces) -> None: ...


@dataclass(frozen=True)
class StepKernels:
    """One implementation of each kernel of a step."""

    known_tokens: KnownTokens
    rms_norm: RmsNorm
    add_rms_norm: AddRmsNorm
    rotate_and_write: RotateAndWrite
    decode_attention: DecodeAttention
    prefill_attention: PrefillAttention
    silu_mul: SiluMul
    adapted_silu_mul: AdaptedSiluMul
    adapted_product: AdaptedProduct
    add_lora: AddLora
    shrink_beside: ShrinkBeside
    argmax: Argmax
    sample: Sample
    mask_logits: MaskLogits
    unpack: Unpack

    @classmethod
    def of(cls, device: torch.device, *, invariant: bool = False) -> StepKernels:
        """Triton's on a CUDA device, the twins elsewhere.

        invariant: with LoRA's sums in one order whatever the batch.
        """
        package = KERNELS if device.type == "cuda" else TWINS

        def module(name: str) -> Any:
            return import_module(f"{package}.{name}")

        norm, attention, sampling = module("norm"), module("attention"), module("sampling")
        lora = module("lora")
        return cls(
            known_tokens=module("tokens").known_tokens,
            rms_norm=norm.rms_norm,
            add_rms_norm=norm.add_rms_norm,
            rotate_and_write=module("rope").rotate_and_write,
            decode_attention=attention.decode_attention,
            prefill_attention=module("prefill").prefill_attention,
            silu_mul=module("activation").silu_mul,
            adapted_silu_mul=module("adapted_gate").adapted_silu_mul,
            adapted_product=module("adapted_product").adapted_product,
            add_lora=lora.add_lora_invariant if invariant else lora.add_lora,
            shrink_beside=lora.shrink_beside,
            argmax=sampling.argmax,
            sample=sampling.sample,
            mask_logits=module("masking").mask_logits,
            unpack=module("unpack").unpack,
        )
