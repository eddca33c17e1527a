"""Other programs' spellings are read as ours, each with a word; nothing is dropped in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from training.errors import RecipeError
from training.located import parse_yaml
from training.reading import read_recipe
from training.recipe import Recipe
from training.spellings import TABLE
from training.translation import translate

RECIPES = Path("training/recipes")


def translated(text: str) -> dict[str, Any]:
    return translate(parse_yaml(text, "x.yaml")).tree


def notes(text: str) -> tuple[str, ...]:
    return translate(parse_yaml(text, "/some/where/x.yaml")).notes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("base_model: a/b", {"base": "a/b"}),
        ("load_in_4bit: true\nload_in_8bit: false", {"load": {"quantization": "nf4"}}),
        ("load_in_8bit: true\nload_in_4bit: false", {"load": {"quantization": "int8"}}),
        ("load_in_8bit: false\nload_in_4bit: false", {"load": {"quantization": "none"}}),
        ("bnb_4bit_compute_dtype: torch.bfloat16", {"load": {"compute_dtype": "bfloat16"}}),
        ("torch_dtype: float16", {"load": {"compute_dtype": "float16"}}),
        ("evaluation_strategy: epoch", {"train": {"eval_every": "epoch"}}),
        ("evaluation_strategy: steps\neval_steps: 7", {"train": {"eval_every": 7}}),
        ("evaluation_strategy: 'no'", {"train": {"eval_every": "never"}}),
        ("warmup_ratio: 0.05", {"train": {"warmup": 0.05}}),
        ("warmup_steps: 2", {"train": {"warmup": 2}}),
        ("micro_batch_size: 2\nbatch_size: 8",
         {"train": {"batch_size": 2, "gradient_accumulation": 4}}),
        ("per_device_train_batch_size: 1", {"train": {"batch_size": 1}}),
        ("sequence_len: 8192\nsample_packing: true",
         {"train": {"max_length": 8192, "packing": True}}),
        ("fp16: true", {"train": {"precision": "fp16"}}),
        ("wandb_watch: gradients", {"tracking": {"wandb": {"watch": True}}}),
        ("wandb_log_model: checkpoint", {"tracking": {"wandb": {"log_model": True}}}),
        ("bf16: auto", {"train": {"precision": "bf16"}}),
        ("optim: adamw_torch", {"train": {"optimizer": "adamw"}}),
        ("save_strategy: epoch\nload_best_model_at_end: true",
         {"train": {"save_every": "epoch", "best": True}}),
        ("save_interval: 1", {"train": {"save_every": "epoch"}}),
        ("lr_scheduler_type: WarmupDecayLR", {"train": {"scheduler": "warmup_decay"}}),
        ("lora_r: 32\nlora_alpha: 16", {"lora": {"r": 32, "alpha": 16}}),
        ("lora_target_linear: true\nlora_target_modules: [q_proj]",
         {"lora": {"target_modules": "all-linear"}}),
        ("datasets: [{path: a/b, type: alpaca}]",
         {"data": {"train": ["hf://a/b:train"], "format": "alpaca"}}),
        ("datasets: [{path: a.jsonl, type: chat_template}]",
         {"data": {"train": ["a.jsonl"], "format": "messages"}}),
        ("training_args: {num_train_epochs: 3, logging_dir: ./logs}",
         {"train": {"epochs": 3}, "tracking": {"folder": "./logs"}}),
        ("train: {num_train_epochs: 3}", {"train": {"epochs": 3}}),
        ("train_on_inputs: true", {"data": {"loss": "full"}}),
        ("gradient_checkpointing: true", {"train": {"gradient_checkpointing": True}}),
        ("strict: false", {}),
    ],
)  # fmt: skip
def test_a_spelling_is_read_as_ours(text: str, expected: dict[str, Any]) -> None:
    assert translated(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trust_remote_code: true", "never done here"),
        ("use_auth_token: hf_secret", "HF_TOKEN"),
        ("bias: all", "cannot be served"),
        ("model_type: LlamaForCausalLM", "is not served"),
        ("bnb_4bit_quant_type: fp4", "bases are NF4"),
        ("batch_size: 3\nmicro_batch_size: 2", "cannot be made of batches of 2"),
        ("warmup_ratio: 3", "no share"),
        ("save_interval: 4", "steps or epochs"),
        ("lora_r: 3\nlora: {r: 4}", "`lora_r` and `lora.r` (x.yaml:2) say different things"),
        ("datasets: [{path: a/b, type: sharegpt}]", "not one of"),
        ("training_args: {learning_rat: 3}", "unknown key"),
        ("train: hf://a/b\nbatch_size: 3", "`batch_size` belongs in `train`, which has no keys"),
    ],
)
def test_what_cannot_be_taken_over_is_refused(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        translated(text)
    assert message in caught.value.message
    assert "hf_secret" not in caught.value.message


def test_every_translation_is_noted_without_folders() -> None:
    assert notes("lora_r: 8\n") == ("x.yaml:1: `lora_r` is read as `lora.r`",)
    assert notes("tokenizer_type: LlamaTokenizer\n") == (
        "x.yaml:1: `tokenizer_type` changes nothing here (the base's own tokenizer is used)",
    )


def test_every_target_is_a_key_of_ours() -> None:
    for name, spellings in TABLE.items():
        for spelling in spellings:
            model: Any = Recipe
            for part in filter(None, spelling.target.split(".")):
                assert part in model.model_fields, (name, spelling.target)
                model = model.model_fields[part].annotation


def test_the_axolotl_file_is_taken_as_it_stands() -> None:
    path = RECIPES / "seed-4-axolotl.yaml"
    recipe = read_recipe(path)
    assert recipe.base == "mistralai/Mistral-7B-v0.1"
    assert recipe.output.name == "qlora-out"
    assert recipe.method == "lora"
    assert recipe.load.quantization == "nf4"
    assert str(recipe.data.train[0]) == "hf://mhenrichsen/alpaca_2k_test:train"
    assert (recipe.data.format, recipe.data.validation) == ("alpaca", 0.1)
    assert recipe.data.pad_to_max_length
    assert (recipe.lora.r, recipe.lora.alpha, recipe.lora.dropout) == (32, 16, 0.05)
    assert recipe.lora.target_modules == "all-linear"
    train = recipe.train
    assert (train.batch_size, train.gradient_accumulation, train.epochs) == (1, 1, 100)
    assert (train.max_length, train.packing, train.gradient_checkpointing) == (8192, True, True)
    assert (train.optimizer, train.learning_rate) == ("paged_adamw_32bit", 1e-4)
    assert (train.save_every, train.keep_checkpoints, train.max_grad_norm) == ("epoch", 20, 0.3)
    assert recipe.tracking.every == 10
    assert recipe.tracking.wandb.project == "your_project"
    # Each of its keys has left a note; the one written twice, two.
    keys = yaml.safe_load(path.read_text()).keys()
    for key in keys:
        assert any(f"`{key}`" in note for note in recipe.translated), key
    assert any("`val_set_size` is written twice" in note for note in recipe.translated)


def test_set_wins_in_either_spelling(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("base_model: b\noutput_dir: o\ndatasets: [{path: x.jsonl}]\nlora_r: 32\n")
    assert read_recipe(path, ["lora.r=4"]).lora.r == 4
    assert read_recipe(path, ["lora_r=5"]).lora.r == 5
    assert read_recipe(path, ["num_epochs=2"]).train.epochs == 2
