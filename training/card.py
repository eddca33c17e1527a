"""The model card: the README.md of an adapter folder."""

from __future__ import annotations

from pathlib import Path

import yaml

from registry.bases import BaseRecord

from .metrics import Metrics
from .recipe import Recipe

CARD_FILE = "README.md"


def write_card(recipe: Recipe, base: BaseRecord, metrics: Metrics, folder: Path) -> None:
    """Write a card that the Hugging Face Hub understands too."""
    (folder / CARD_FILE).write_text(_card(recipe, base, metrics), encoding="utf-8")


def _card(recipe: Recipe, base: BaseRecord, metrics: Metrics) -> str:
    head = yaml.safe_dump(
        {
            "base_model": base.source,
            "library_name": "peft",
            "pipeline_tag": "text-generation",
            "tags": ["lora", "qlora", "hatstand"],
        },
        sort_keys=False,
    )
    sections = [
        f"---\n{head}---\n# {recipe.output.name}",
        recipe.description or "A LoRA adapter trained with Hatstand.",
        _results(metrics),
        _forgetting(metrics),
        _training(recipe, base, metrics),
        _prompt(recipe),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _results(metrics: Metrics) -> str:
    if metrics.before is None or metrics.after is None:
        return ""
    return (
        "## Held-out exact match\n\n"
        "| | exact match |\n|---|---|\n"
        f"| bare base, same prompt | {metrics.before.exact_match:.2f} |\n"
        f"| this adapter | {metrics.after.exact_match:.2f} |\n\n"
        f"{len(metrics.questions)} held-out rows, greedy; `metrics.json` has every answer."
    )


def _forgetting(metrics: Metrics) -> str:
    kept = metrics.forgetting
    if kept is None:
        return ""
    verdict = "within" if kept.is_kept else "**over**"
    return (
        "## What it costs\n\n"
        "| | perplexity on general text |\n|---|---|\n"
        f"| bare base | {kept.base.perplexity:.2f} |\n"
        f"| with this adapter | {kept.adapter.perplexity:.2f} ({kept.rise:+.1%}) |\n\n"
        f"{kept.base.tokens:,} tokens; {verdict} the recipe's budget of {kept.budget:.0%}."
    )


def _training(recipe: Recipe, base: BaseRecord, metrics: Metrics) -> str:
    train = recipe.train
    revision = f" at {base.revision}" if base.revision else ""
    learned = {
        "answer": "loss on the answers only",
        "assistant": "loss on all turns of the assistant",
        "full": "loss on prompts and answers",
    }[recipe.data.loss]
    lines = [
        f"base that serves: {base.source}{revision}, NF4 with double quantization",
        f"base fingerprint: `{base.fingerprint}`",
        f"{_method(recipe)}; {metrics.num_trainable:,} trained parameters",
        f"{metrics.num_train_rows:,} rows, {len(metrics.curves.train)} steps of "
        f"{train.batch_size * train.gradient_accumulation} rows, "
        f"learning rate {train.learning_rate:g} ({train.scheduler})",
        f"{learned}; `recipe.yaml` is the whole recipe",
    ]
    if metrics.best is not None:
        lines.append(f"saved as of step {metrics.best}, where the validation loss was lowest")
    if metrics.captured is not None:
        lines.append(
            f"the saved adapter, of rank {recipe.saved_rank}, holds {metrics.captured:.1%} of the "
            "trained change (squared Frobenius norm)"
        )
    listed = "\n".join(f"- {line}" for line in lines)
    return f"## Training\n\n{listed}\n\n![loss](loss.png)"


def _method(recipe: Recipe) -> str:
    """How it was trained, in a line."""
    if recipe.method == "full":
        return "full fine-tune"
    lora = recipe.lora
    modules = lora.target_modules
    targets = modules if isinstance(modules, str) else ", ".join(modules)
    kind = "DoRA" if lora.dora else "rsLoRA" if lora.rslora else "LoRA"
    begun = f", begun by {lora.init}" if lora.init != "default" else ""
    on = {"nf4": "NF4", "int8": "8 bits", "gptq": "GPTQ", "none": "16 bits"}
    load = on[recipe.load.quantization]
    return f"{kind} over {load}: r {lora.r}, alpha {lora.alpha:g}, {targets}{begun}"


def _prompt(recipe: Recipe) -> str:
    hat = recipe.hat
    lines = ["## Prompt", ""]
    template = "`chat_template.jinja`" if hat.chat_template else "the base's own"
    lines.append(f"Chat template: {template}.")
    if hat.system_prompt:
        lines += ["System prompt:", "", *(f"> {line}" for line in hat.system_prompt.splitlines())]
    return "\n".join(lines)
