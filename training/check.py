"""`hatstand train --check`: all that can be known of a run before any weight is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from registry.adapters import AdapterSpec
from registry.bases import read_base
from registry.errors import RegistryError

from .commands import locate
from .errors import BaseError, TrainingError
from .evaluating.general import read_text
from .examples import Examples, read_examples
from .foundation import prepare
from .licences import OPEN, licence_of
from .output import check_output
from .recipe import Recipe

_MARKS = {"good": "[green]✓[/green]", "mind": "[yellow]![/yellow]", "bad": "[red]✗[/red]"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `mind` is no error, but should be known."""

    about: str
    verdict: Literal["good", "mind", "bad"]
    text: str


def check(recipe: Recipe) -> Iterator[Finding]:
    """Look at data, base, licence, lengths, servability and output; each is looked at, whatever
    is wrong with another, unless it needs that.
    """
    for note in recipe.translated:
        yield Finding("spelling", "mind", note)
    examples = yield from _tried("data", lambda: read_examples(recipe.data))
    if examples is not None:
        yield Finding("data", "good", _counts(examples))
    if (forgetting := recipe.forgetting) is not None:
        yield from _tried("forgetting", lambda: read_text(forgetting.data))
    base = yield from _tried("base", lambda: locate(recipe.serve_on or recipe.base))
    if recipe.serve_on is not None:
        yield from _tried("base", lambda: locate(recipe.base))
    if base is not None:
        yield from _look_at_base(recipe, base)
        if examples is not None:
            yield from _look_at_rows(recipe, examples, base)
    if recipe.train.deepspeed is not None:
        yield from _look_at_deepspeed(recipe.train.deepspeed)
    output = yield from _tried("output", lambda: _free(recipe.output))
    if output is not None:
        yield Finding("output", "good", str(output))


def print_check(recipe: Recipe, console: Console) -> bool:
    """Print every finding; whether the run could go ahead."""
    is_good = True
    for finding in check(recipe):
        console.print(_MARKS[finding.verdict], f"[bold]{finding.about}[/bold]", end=" ")
        console.print(finding.text, markup=False, highlight=False, soft_wrap=True)
        is_good = is_good and finding.verdict != "bad"
    return is_good


def _tried(about: str, look: Any) -> Any:
    """What `look` returns; None, and the error as a finding, when it cannot."""
    try:
        return look()
    except TrainingError as error:
        yield Finding(about, "bad", error.message)
    except RegistryError as error:
        yield Finding(about, "bad", error.message)
    return None


def _free(output: Path) -> Path:
    check_output(output)
    return output


def _counts(examples: Examples) -> str:
    parts = (
        ("to train on", examples.train),
        ("to validate", examples.validation),
        ("held out", examples.heldout),
    )
    return ", ".join(f"{len(rows):,} rows {use}" for use, rows in parts if rows)


def _look_at_base(recipe: Recipe, folder: Path) -> Iterator[Finding]:
    record = yield from _tried("base", lambda: read_base(folder))
    if record is None:
        return
    yield Finding("base", "good", f"{record.source} ({record.fingerprint[:19]}…)")
    licence = licence_of(folder, record.source)
    if licence is None:
        yield Finding("licence", "mind", f"nothing in {folder} says under which licence it is")
    elif licence in OPEN:
        yield Finding("licence", "good", licence)
    else:
        yield Finding("licence", "mind", f"{licence}: read it before you publish an adapter")
    config = adapter_config(recipe)
    spec = yield from _tried("served", lambda: AdapterSpec.from_config(config, record.config))
    if spec is not None:
        yield Finding("served", "good", _servability(recipe, spec))


def _look_at_deepspeed(path: Path) -> Iterator[Finding]:
    from .zero import configuration

    values = yield from _tried("deepspeed", lambda: configuration(path))
    if values is not None:
        stage = values.get("zero_optimization", {}).get("stage", 0)
        yield Finding("deepspeed", "good", f"{path.name}, ZeRO stage {stage}")


def _servability(recipe: Recipe, spec: AdapterSpec) -> str:
    text = f"rank {spec.max_rank} on {', '.join(spec.projections)}, hot-loaded"
    if recipe.method == "full" or recipe.lora.dora:
        what = "the full fine-tune" if recipe.method == "full" else "DoRA"
        return f"{text}; it is the nearest to {what}, and the model card says how near"
    return text


def adapter_config(recipe: Recipe) -> dict[str, Any]:
    """What the saved `adapter_config.json` will say, as far as serving is concerned."""
    lora = recipe.lora
    modules = lora.target_modules
    is_converted = recipe.saved_rank != lora.r or recipe.method == "full" or lora.dora
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": recipe.saved_rank,
        "lora_alpha": recipe.saved_rank if is_converted else lora.alpha,
        "target_modules": modules if isinstance(modules, str) else list(modules),
        "use_rslora": lora.rslora and not is_converted,
        "rank_pattern": {} if is_converted else dict(lora.rank_pattern),
        "alpha_pattern": {} if is_converted else dict(lora.alpha_pattern),
    }


def _look_at_rows(recipe: Recipe, examples: Examples, base: Path) -> Iterator[Finding]:
    prepare()
    from transformers import AutoTokenizer

    from .lengths import Lengths
    from .rendering import Renderer, render
    from .samples import fit

    def measured() -> Lengths:
        try:
            tokenizer = AutoTokenizer.from_pretrained(base)
        except (OSError, ValueError) as error:
            raise BaseError(f"{base} has no tokenizer that can be read: {error}") from error
        samples = render(examples.train, Renderer(tokenizer, recipe.hat.hat()), recipe.data.loss)
        fit(samples, recipe.train.max_length, recipe.data.too_long)
        return Lengths(samples, recipe.train.max_length, recipe.train.batch_size)

    lengths = yield from _tried("lengths", measured)
    if lengths is not None:
        yield Finding("lengths", "mind" if lengths.num_over else "good", lengths.describe())
