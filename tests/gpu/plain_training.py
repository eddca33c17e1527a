"""The script that a user of transformers, PEFT and bitsandbytes writes for a recipe's settings.

Kinder to it than most: labels on answers only, no fp32 copies of embedding and output layer
(`prepare_model_for_kbit_training` makes them), and packed rows where the recipe packs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from transformers import (
    AutoModelForCausalLM,
    GPTQConfig,
    PrinterCallback,
    Trainer,
    TrainerCallback,
)

from training.arguments import training_arguments
from training.model import lora_config, quiet, save_activations
from training.packing import Pack, PackCollator, pack
from training.recipe import Recipe
from training.samples import IGNORED, Sample
from training.train_settings import TrainSettings


class InOrder(Trainer):  # type: ignore[misc]  # transformers is untyped here
    """transformers' Trainer over rows as they come."""

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(train_dataset or self.train_dataset)


def train_plainly(
    model: Any, recipe: Recipe, samples: Sequence[Sample], callbacks: Sequence[TrainerCallback]
) -> None:
    """Train a fresh adapter on `model`, and take it off again."""
    settings = recipe.train
    if settings.gradient_checkpointing:
        save_activations(model)
    with quiet():
        adapted = get_peft_model(model, lora_config(recipe.lora))
    rows = pack(samples, settings.max_length) if settings.packing else tuple(samples)
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(settings, folder, len(rows), validates=False)  # type: ignore[arg-type]
        trainer = InOrder(
            model=adapted.train(),
            args=arguments,
            train_dataset=rows,
            data_collator=PackCollator(0) if settings.packing else padded,
            callbacks=list(callbacks),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    bare(adapted, settings)


def packed_plainly(folder: Path) -> Any:
    """A GPTQ checkpoint as transformers loads it for training, by optimum and gptqmodel."""
    place = "cuda" if torch.cuda.is_available() else "cpu"
    config = GPTQConfig(bits=4, backend="auto_trainable")
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", device_map={"": place}, quantization_config=config
    )


def bare(adapted: Any, settings: TrainSettings) -> None:
    """Take the adapter off, and keep activations again."""
    model = adapted.get_base_model()
    if settings.gradient_checkpointing:
        model.disable_input_require_grads()
        disable = getattr(model, "activation_checkpointing_disable", None)
        (disable or model.gradient_checkpointing_disable)()
    adapted.unload()


def padded(samples: Sequence[Sample | Pack]) -> dict[str, torch.Tensor]:
    """What `DataCollatorForSeq2Seq` makes: rows under one another, padded on the right."""
    longest = max(map(len, samples))
    batch = {
        "input_ids": torch.zeros(len(samples), longest, dtype=torch.long),
        "attention_mask": torch.zeros(len(samples), longest, dtype=torch.long),
        "labels": torch.full((len(samples), longest), IGNORED),
    }
    for row, sample in enumerate(samples):
        assert isinstance(sample, Sample)
        batch["input_ids"][row, : len(sample)] = torch.tensor(sample.input_ids)
        batch["attention_mask"][row, : len(sample)] = 1
        batch["labels"][row, : len(sample)] = torch.tensor(sample.labels)
    return batch
