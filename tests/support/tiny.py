"""A tiny random Mistral with a byte-level tokenizer, and random adapters for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from tests.support.bytes import byte_tokenizer

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def write_tiny_base(
    folder: Path, *, dtype: torch.dtype = torch.float32, device: str = "cpu", **shape: Any
) -> Path:
    """Write a random MistralForCausalLM with its tokenizer; `shape` overrides its config."""
    folder.mkdir(parents=True, exist_ok=True)
    config = MistralConfig(
        **{
            "vocab_size": 320,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": 512,
            "sliding_window": None,
            "eos_token_id": 257,
            "bos_token_id": 256,
            "pad_token_id": 257,
            "initializer_range": 0.3,  # far apart logits: no near ties
            **shape,
        }
    )
    torch.manual_seed(1234)
    with torch.device(device):
        MistralForCausalLM._from_config(config, dtype=dtype).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path, *, num_words: int = 0) -> None:
    """Save the byte-level tokenizer: 256 bytes, then `<s>` and `</s>`; it adds neither.

    num_words: tokens between them, so that each of a larger vocabulary has a text.
    """
    fast = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(num_words),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)


@dataclass(frozen=True)
class TinyAdapter:
    """How to make one random adapter."""

    name: str
    rank: int = 4
    alpha: int = 8
    targets: tuple[str, ...] = ALL_LINEAR
    seed: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def write(self, base: Path, folder: Path, *, std: float = 0.15) -> Path:
        """Save it in PEFT's own format, its factors normal with that deviation."""
        torch.manual_seed(self.seed + 17)
        model = MistralForCausalLM.from_pretrained(base)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=list(self.targets),
            task_type="CAUSAL_LM",
            **self.extra,
        )
        adapted = get_peft_model(model, config)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=std)
        adapted.save_pretrained(folder)
        return folder
