"""The other side: transformers + peft + bitsandbytes, the way their manuals say."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from server.bases import Base
from server.bench.workload import LONG, SHORT, Case, Measured, decoding_speed


class PeerSide:
    """`generate` on an NF4 base; several adapters in one batch by `adapter_names`."""

    label = "transformers + peft"

    def __init__(self, base: Base, folders: Mapping[str, Path], *, device: str) -> None:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig
        from transformers.utils import logging

        logging.disable_progress_bar()
        config: Any = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            base.folder, quantization_config=config, dtype=torch.bfloat16, device_map=device
        )
        self.weight_bytes = int(self._model.get_memory_footprint())
        for name, folder in folders.items():
            if isinstance(self._model, PeftModel):
                self._model.load_adapter(folder, adapter_name=name)
            else:
                self._model = PeftModel.from_pretrained(self._model, folder, adapter_name=name)
        self._model.eval()
        self._device = device

    def measure(
        self, case: Case, prompts: Sequence[Sequence[int]], again: Sequence[Sequence[int]]
    ) -> Measured:
        first_token = self._run(case, prompts, 1)
        short = self._run(case, prompts, SHORT)
        return Measured(decoding_speed(case, short, self._run(case, again, LONG)), first_token)

    @torch.no_grad()
    def _run(self, case: Case, prompts: Sequence[Sequence[int]], count: int) -> float:
        ids = torch.tensor([list(prompt) for prompt in prompts], device=self._device)
        options: dict[str, Any] = {}
        if case.adapters == 1:
            self._model.set_adapter(case.adapter_of(0))
        elif case.adapters:
            options["adapter_names"] = [case.adapter_of(row) for row in range(case.streams)]
        started = time.perf_counter()
        self._model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            pad_token_id=0,
            **options,
        )
        return time.perf_counter() - started
