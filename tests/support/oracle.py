"""The oracle: transformers + peft + bitsandbytes, one sequence at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig


class Oracle:
    """A base with adapters, run by the libraries that trained them."""

    def __init__(
        self,
        base: Path,
        adapters: Mapping[str, Path],
        *,
        dtype: torch.dtype,
        nf4: bool,
        device: str = "cpu",
    ) -> None:
        options: dict[str, Any] = {"dtype": dtype, "device_map": device}
        is_ready = "quantization_config" in json.loads((base / "config.json").read_text())
        self._device = device
        self._tokenizer: Any = AutoTokenizer.from_pretrained(base)
        if nf4 and not is_ready:
            options["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            )
        self._model: Any = AutoModelForCausalLM.from_pretrained(base, **options)
        keep_exact_weights(self._model)
        for name, folder in adapters.items():
            if isinstance(self._model, PeftModel):
                self._model.load_adapter(folder, adapter_name=name)
            else:
                self._model = PeftModel.from_pretrained(self._model, folder, adapter_name=name)
        self._model.eval()

    def compute_in_fp32(self) -> None:
        """From here on everything but the 4-bit weights' own rounding to bf16 is in fp32."""
        for module in self._model.modules():
            if isinstance(module, bnb.nn.Linear4bit):
                module.compute_dtype = torch.float32
        for tensor in (*self._model.parameters(), *self._model.buffers()):
            if tensor.dtype == torch.bfloat16:
                tensor.data = tensor.data.float()

    def add_up(self, name: str, scales: Mapping[str, float]) -> None:
        """One more adapter: the exact weighted sum of others."""
        self._model.add_weighted_adapter(
            list(scales), list(scales.values()), name, combination_type="cat"
        )

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    @torch.no_grad()
    def greedy(self, adapter: str | None, prompt: Sequence[int], count: int) -> list[int]:
        """`count` greedy tokens after `prompt`, whatever they are."""
        tokens = list(prompt)
        for _ in range(count):
            tokens.append(int(self.logits(adapter, tokens)[-1].argmax()))
        return tokens[len(prompt) :]

    @torch.no_grad()
    def states(self, adapter: str | None, tokens: Sequence[int]) -> torch.Tensor:
        """Hidden states [tokens, hidden] after the final norm, in fp32."""
        ids = torch.tensor([list(tokens)], device=self._device)
        with self._wearing(adapter):
            output = self._model(ids, output_hidden_states=True)
        states: torch.Tensor = output.hidden_states[-1]
        return states[0].float().cpu()

    @torch.no_grad()
    def logits(self, adapter: str | None, tokens: Sequence[int]) -> torch.Tensor:
        """Logits [tokens, vocab] in fp32."""
        ids = torch.tensor([list(tokens)], device=self._device)
        with self._wearing(adapter):
            logits: torch.Tensor = self._model(ids).logits
        return logits[0].float().cpu()

    def _wearing(self, adapter: str | None) -> AbstractContextManager[None]:
        if adapter is None and isinstance(self._model, PeftModel):
            bare: AbstractContextManager[None] = self._model.disable_adapter()
            return bare
        if adapter is not None:
            self._model.set_adapter(adapter)
        return nullcontext()


def keep_exact_weights(model: torch.nn.Module) -> None:
    """Have bitsandbytes multiply with the weights that QLoRA trains against.

    On CPUs with AVX512-BF16 its inference path rounds every block scale to bf16, in place.
    """
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
