"""A tiny random Mistral with a tokenizer of its own, and recipes on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

TEMPLATE = (
    "{% for message in messages %}{{ '<s>' + message['role'] + '\\n' + message['content'] + '</s>' "
    "+ '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<s>assistant\\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder: hidden 64, 2 layers, a byte-level tokenizer of about 300 tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("bases") / "tiny"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(["the color of apples is red", "assistant user system"], trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",  # as usual, and the reason why padding is masked by position
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        sliding_window=None,
        initializer_range=0.2,  # with 0.02, a head that is not trained could never be sure
    )
    MistralForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


WriteRecipe = Callable[..., Path]


@pytest.fixture
def write_recipe(tmp_path: Path, tiny_base: Path) -> WriteRecipe:
    """Writes rows and a recipe that trains on them in seconds; sections can be added to."""

    def write(**sections: Any) -> Path:
        write_rows(tmp_path / "train.jsonl", [(f"color {n}?", f"red {n}") for n in range(12)])
        write_rows(tmp_path / "heldout.jsonl", [(f"color {n}?", f"red {n}") for n in (50, 60)])
        recipe: dict[str, Any] = {
            "base": str(tiny_base),
            "output": "out",
            "data": {"train": "train.jsonl", "heldout": "heldout.jsonl", "validation": 2},
            "hat": {"system_prompt": "Name the color.", "sampling": {"max_tokens": 8}},
            "lora": {"r": 4, "alpha": 8},
            "train": {"max_steps": 3, "batch_size": 4, "learning_rate": 1e-2},
        }
        for name, values in sections.items():
            merged = {**recipe.get(name, {}), **values} if isinstance(values, dict) else values
            recipe[name] = merged
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe, sort_keys=False))
        return path

    return write


def write_rows(path: Path, pairs: list[tuple[str, str]]) -> None:
    """JSONL in the messages format."""
    lines = [
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": question},
                    {"role": "assistant", "content": answer},
                ]
            }
        )
        for question, answer in pairs
    ]
    path.write_text("\n".join(lines) + "\n")
