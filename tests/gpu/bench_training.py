"""Training at 7B shape beside plain transformers + PEFT + bitsandbytes: tokens a second, memory.

    python3 -m tests.gpu.bench_training 32
    torchrun --nproc-per-node 2 -m tests.gpu.bench_training 32 --recipes qlora --ways ours

Each recipe as it stands but for `FREE`, on random weights and random rows of the lengths that its
data has; both sides train one model on the same rows in the same order. Tokens are those of rows,
padding left out, after warm-up steps that nobody counts. Over a GPTQ base the plain side is
transformers' own integration (optimum and gptqmodel, 7.5 or 7.x: pure Python since 7.0).
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import json
import random
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import AutoConfig, AutoModelForCausalLM, TrainerCallback

from registry.bases import NF4, BaseRecord, shape_fields
from tests.gpu.plain_training import bare, packed_plainly, train_plainly
from training import processes
from training.fitting import Fitting, Session
from training.flat import PASSES, FlatCollator
from training.methods import method_for
from training.model import load_base
from training.packing import pack
from training.planning.counting import count
from training.planning.memory import memory
from training.progress import Progressing
from training.reading import read_recipe
from training.recipe import Recipe
from training.samples import Sample

RECIPES = Path("training/recipes")
WARM_UP = 2  # steps
# What is said otherwise than in a recipe: nothing is written, watched, validated or shuffled.
FREE = (
    "train.best=false", "train.save_every=never", "train.eval_every=never", "data.shuffle=false",
    "tracking.report_to=[]",
)  # fmt: skip
WAYS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "unpadded": ("train.unpadded=true", "train.fused=false"),
    "ours": ("train.unpadded=true", "train.fused=true"),
}


@dataclass(frozen=True)
class Case:
    """A recipe, how many steps of it are timed, and the lengths of its rows: log-normal around
    `median` tokens, cut at the recipe's `max_length`; the last 40% are learned.
    """

    name: str
    file: str
    steps: int
    median: int
    spread: float
    settings: tuple[str, ...] = ()

    def recipe(self, base: Path, way: str) -> Recipe:
        """The recipe as it stands, but for what would write, watch or ask."""
        return read_recipe(
            RECIPES / self.file,
            [
                f"base={base}",
                f"train.max_steps={WARM_UP + self.steps}",
                *FREE,
                *self.settings,
                *WAYS[way],
            ],
        )

    def rows(self, recipe: Recipe, vocabulary: int, per_step: int) -> tuple[Sample, ...]:
        """As many as warm-up and timed steps take."""
        source, limit = random.Random(7), recipe.train.max_length
        count = (WARM_UP + self.steps) * per_step
        tokens, found = 0, []
        while (tokens < count * limit) if recipe.train.packing else (len(found) < count):
            length = min(limit, max(16, round(self.median * source.lognormvariate(0, self.spread))))
            ids = tuple(source.randrange(3, vocabulary) for _ in range(length))
            found.append(Sample(ids, round(0.6 * length), str(len(found))))
            tokens += length
        return tuple(found)


CASES = (
    Case("seed 1: NF4, r 8, 1 row x 4, 512", "seed-1-finance-qlora.yaml", 10, 180, 0.6),
    Case("seed 2: 16 bit, r 8 q v, 8 x 2,048", "seed-2-sql-lora.yaml", 5, 300, 0.6),
    Case("seed 3: GPTQ, r 8 q, 4 rows x 4, 512", "seed-3-shawgpt-gptq.yaml", 4, 220, 0.35),
    Case("seed 4: NF4, r 32, packed 8,192", "seed-4-axolotl.yaml", 4, 130, 0.6),
    Case("seed 5: NF4, r 16, 4 rows x 4, 2,048", "seed-5-five-steps.yaml", 4, 400, 0.7),
    Case("qlora: NF4, r 16, 4 rows x 4, 2,048", "qlora-mistral-7b.yaml", 4, 400, 0.7),
)


@dataclass
class Clock(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """When each step ended, and its loss."""

    ends: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])

    @property
    def seconds(self) -> float:
        """Of the steps that count."""
        return self.ends[-1] - self.ends[WARM_UP - 1]


@dataclass(frozen=True)
class Measured:
    """One way through one case."""

    case: str
    way: str
    tokens_per_second: float
    step: float  # seconds
    gigabytes: float
    loss: float
    planned: float | None = None  # gigabytes, as `--plan` would have it for these rows

    def line(self, plain: float | None) -> str:
        ratio = "" if plain is None else f"{self.tokens_per_second / plain:6.2f}x"
        return (
            f"{self.case:38}{self.way:10}{self.tokens_per_second:9,.0f} tok/s{ratio:>8}"
            f"{1000 * self.step:9.0f} ms/step{self.gigabytes:8.2f} GB   loss {self.loss:.4f}"
            + ("" if self.planned is None else f"   planned {self.planned:.2f} GB")
        )


def measure(model: Any, base: Path, case: Case, way: str, *, idle: int = 0) -> Measured:
    """Train as `way` says, from a fresh adapter; `idle` bytes of the device are not of this run."""
    recipe, clock = case.recipe(base, way), Clock()
    rows = case.rows(recipe, int(model.config.vocab_size), per_step(recipe))
    torch.manual_seed(0)
    start_counting()
    if way == "plain":
        train_plainly(model, recipe, rows, [clock])
    else:
        adapted = method_for(recipe, record_of(base), base).prepare(model)
        fit(adapted, recipe, rows, clock)
        bare(adapted, recipe.train)
    found = summary(case, way, recipe, rows, clock)
    return replace(
        found,
        gigabytes=found.gigabytes - idle / 1e9,
        planned=planned(recipe, rows, base) if way == "ours" else None,
    )


def planned(recipe: Recipe, rows: Sequence[Sample], base: Path) -> float:
    """What `--plan` would say for the largest forward pass of these rows, in GB.

    Paged state is left out: it is not in torch's memory.
    """
    config, rows_a_step = AutoConfig.from_pretrained(base), per_step(recipe)
    packs = pack(rows, recipe.train.max_length) if recipe.train.packing else rows
    steps = [packs[start : start + rows_a_step] for start in range(0, len(packs), rows_a_step)]
    collator = FlatCollator(recipe.train.batch_size * recipe.train.max_length)
    largest = max(sum(each) for step in steps for each in collator(step)[PASSES])
    del config.quantization_config
    counts = count(recipe, config)
    parts = memory(recipe, counts, config, answer_tokens=round(0.4 * largest), tokens=largest)
    paged = recipe.train.optimizer.startswith("paged")
    return (parts.total - (parts.state if paged else 0)) / 1e9


def fit(model: Any, recipe: Recipe, rows: Sequence[Sample], clock: Clock) -> None:
    """The product's own way to train a prepared model."""
    session = Session(callbacks=(clock,))
    Fitting(recipe, 0, Progressing(Console(quiet=True)), session, "bench").fit(model, rows, ())


def summary(case: Case, way: str, recipe: Recipe, rows: Sequence[Sample], clock: Clock) -> Measured:
    """The figures of a run that just ended; memory is this process's peak."""
    return Measured(
        case.name,
        way,
        _tokens(recipe, rows, per_step(recipe)) / clock.seconds,
        clock.seconds / case.steps,
        torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0,
        clock.losses[0],
    )


def per_step(recipe: Recipe) -> int:
    """Rows in an optimizer step of all processes together."""
    settings = recipe.train
    return settings.batch_size * settings.gradient_accumulation * processes.count()


def _tokens(recipe: Recipe, rows: Sequence[Sample], rows_a_step: int) -> int:
    """Of the rows in timed steps."""
    units: Sequence[Any] = pack(rows, recipe.train.max_length) if recipe.train.packing else rows
    steps = recipe.train.max_steps or 0
    return sum(map(len, units[WARM_UP * rows_a_step : steps * rows_a_step]))


def start_counting() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def record_of(base: Path) -> BaseRecord:
    """A record without a fingerprint: nobody reads the shards."""
    config = json.loads((base / "config.json").read_text())
    return BaseRecord(
        name=base.name,
        source=base.name,
        fingerprint="sha256:" + 64 * "0",
        quantization=NF4,
        config=shape_fields(config),
    )


def model_for(recipe: Recipe, base: Path, way: str) -> Any:
    """The base as the recipe loads it; in 16 bits, random again, since the file holds NF4."""
    if recipe.load.quantization == "gptq" and way == "plain":
        return packed_plainly(base)
    if recipe.load.quantization != "none":
        return load_base(base, recipe.load, max_length=recipe.train.max_length)
    config = AutoConfig.from_pretrained(base)
    del config.quantization_config
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        return AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation="sdpa"
        )


@dataclass
class Bases:
    """The checkpoints that cases train on, each written and loaded when first asked for.

    `idle` is what the device held before the model in hand: gptqmodel keeps what it has loaded.
    """

    folder: Path
    layers: int
    tiny: bool
    held: tuple[str, Any] = ("", None)
    idle: int = 0  # bytes

    def path(self, form: str) -> Path:
        """The checkpoint of that quantization; in 16 bits, one that says the shape."""
        path = self.folder / ("gptq" if form == "gptq" else "nf4")
        self.folder.mkdir(exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # others may want it at the same time
            if not path.exists():
                write_base(path, self.layers, tiny=self.tiny)
        return path

    def model(self, recipe: Recipe, way: str) -> Any:
        """The loaded base; the one before stays if it is the same."""
        form = recipe.load.quantization
        wanted = f"{form}, plain" if (form, way) == ("gptq", "plain") else form
        if self.held[0] != wanted:
            self.drop()
            self.held = (wanted, model_for(recipe, self.path(form), way))
        return self.held[1]

    def drop(self) -> None:
        """Give the device's memory back."""
        self.held = ("", None)
        start_counting()
        self.idle = torch.cuda.memory_allocated() if torch.cuda.is_available() else 0


def compare(bases: Bases, case: Case, ways: Sequence[str]) -> list[Measured]:
    """One case in each way that works."""
    found = []
    for way in ways:
        recipe = case.recipe(bases.folder, way)
        try:
            base, model = bases.path(recipe.load.quantization), bases.model(recipe, way)
            found.append(measure(model, base, case, way, idle=bases.idle))
            del model  # or it outlives what is loaded in its place
        except Exception:  # the other ways are still worth the machine's time
            traceback.print_exc()
            bases.drop()
            continue
        if processes.is_first():
            print(found[-1].line(None), flush=True)
    return found


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("layers", type=int)
    words.add_argument("--folder", type=Path, default=Path("/dev/shm/hatstand-training"))
    words.add_argument("--recipes", nargs="+", default=[case.file for case in CASES])
    words.add_argument("--ways", nargs="+", default=list(WAYS))
    words.add_argument("--tiny", action="store_true", help="a small shape, to try the script")
    options = words.parse_args()
    processes.take_device()
    bases = Bases(options.folder, options.layers, options.tiny)
    print("otherwise than the recipes:", *FREE, flush=True)
    chosen = [case for name in options.recipes for case in CASES if name in case.file]
    found = [each for case in chosen for each in compare(bases, case, options.ways)]
    if processes.is_first():
        plain = {each.case: each.tokens_per_second for each in found if each.way == "plain"}
        print(f"\n{processes.count()} process(es), {options.layers} layers")
        for each in found:
            print(each.line(plain.get(each.case)))


def write_base(folder: Path, layers: int, *, tiny: bool) -> None:
    """Random weights in NF4 or GPTQ, as the folder is called, made on the device."""
    from tests.gpu.gptq_base import write_gptq_base
    from tests.gpu.nf4_base import write_nf4_base
    from tests.gpu.shapes import MISTRAL_7B

    shape = {**MISTRAL_7B, "num_hidden_layers": layers}
    if tiny:
        small = {"vocab_size": 640, "hidden_size": 128, "intermediate_size": 256, "head_dim": 32}
        shape |= {**small, "num_attention_heads": 4, "num_key_value_heads": 2}
    write = {"nf4": write_nf4_base, "gptq": write_gptq_base}[folder.name]
    write(folder, shape, device="cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
