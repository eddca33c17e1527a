"""What is checked before an adapter becomes a version: its files, key by key and tensor by tensor.

The checks read content, not names: a version that passed can be loaded into a slot as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .adapter_config import CONFIG_FILE
from .adapters import AdapterSpec
from .canonical import Progress
from .errors import ConfigRefused, FileRefused, TemplateMismatch, TensorRefused
from .hats import HAT_FILE, TEMPLATE_FILE, Hat
from .lock import Lock
from .receipts import RECEIPT_FILE, Receipt
from .report import Gram, ModuleReport, Report, gram, measure
from .safetensors_file import SafetensorsFile
from .scratch import Scratch
from .template_process import template_process
from .validation import first_difference, near, parse_object

WEIGHTS_FILE = "adapter_model.safetensors"

# safetensors' names and torch's.
DTYPES: Mapping[str, str] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

_KNOWN_EXTRAS: Mapping[str, str] = {
    "lora_magnitude_vector": "DoRA cannot be hot-loaded",
    "lora_embedding": "LoRA on embeddings cannot be hot-loaded",
    "embed_tokens": "embeddings are shared by all adapters",
    "lm_head": "the output layer is shared by all adapters",
    "modules_to_save": "whole modules cannot differ per request",
    "lora_B.bias": "the server has no bias beside lora_B yet",
    "lora_diag": "KaSA cannot be hot-loaded",
}


def lint(
    files: Mapping[str, Path],
    base_config: Mapping[str, Any],
    *,
    is_stored: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Check an adapter's files against its base's shape fields.

    What `is_stored` already may have a hat of before hats had limits. Raises a `PushRefused` whose
    `param` is the file, key or tensor at fault, or an `InvalidHat`.
    """
    spec = AdapterSpec.from_config(read_config(files[CONFIG_FILE]), base_config)
    hat = read_hat(files)
    if not is_stored:
        hat.check_limits()
    if RECEIPT_FILE in files:
        Receipt.from_bytes(files[RECEIPT_FILE].read_bytes())
    file = SafetensorsFile.open(files[WEIGHTS_FILE], name=WEIGHTS_FILE)
    _check_names(file, spec)
    _check_shapes(file, spec)
    modules = _check_values(file, spec, progress)
    if not any(module.norm for module in modules):
        name = modules[0].tensor
        raise TensorRefused(
            f"tensor {name} and every other lora_B is zero: the adapter is untrained", param=name
        )
    return Report.of(modules, spec, _dtype(file))


def check_lock(lock: Lock, files: Mapping[str, Path], report: Report) -> None:
    """Refuse files that are not the ones `lock.json` was written for."""
    hat = read_hat(files)
    template = hat.template_sha256
    if lock.template_sha256 and template and template != lock.template_sha256:
        raise FileRefused(
            f"{TEMPLATE_FILE} is not the template the adapter was trained with: lock.json says "
            f"{lock.template_sha256[:19]}…, the file is {template[:19]}…",
            param=TEMPLATE_FILE,
        )
    check_rendering(lock, hat)
    config = read_config(files[CONFIG_FILE])
    if lock.rank not in (config.get("r", 8), report.max_rank):
        raise FileRefused(
            f"lock.json says rank {lock.rank}, {CONFIG_FILE} says {config.get('r', 8)}",
            param="rank",
        )
    if lock.adapter_dtype != report.dtype:
        raise FileRefused(
            f"lock.json says the adapter is {lock.adapter_dtype}, {WEIGHTS_FILE} is {report.dtype}",
            param="adapter_dtype",
        )


def check_rendering(lock: Lock, hat: Hat) -> None:
    """Refuse a hat that renders the lock's golden prompts to another text (`TemplateMismatch`).

    A hat with the base's own template is left to the server, which has it.
    """
    for golden in lock.golden:
        if golden.text is None or hat.chat_template is None:
            continue
        found = template_process().render(
            hat.chat_template,
            hat.apply(golden.messages),
            add_generation_prompt=True,
            bos_token=golden.bos_token,
            eos_token=golden.eos_token,
        )
        if found != golden.text:
            place = first_difference(found, golden.text)
            raise TemplateMismatch(
                f"{HAT_FILE} and {TEMPLATE_FILE} render a prompt otherwise than in training, from "
                f"character {place} on: {found[place : place + 40]!r} instead of "
                f"{golden.text[place : place + 40]!r}. Train with the hat that is to be served.",
                param=HAT_FILE,
            )


def read_config(path: Path) -> dict[str, Any]:
    """`adapter_config.json` as an object; raises `ConfigRefused`."""
    return parse_object(path.read_bytes(), source=CONFIG_FILE, error=ConfigRefused)


def read_hat(files: Mapping[str, Path]) -> Hat:
    """The hat among an adapter's files; raises `InvalidHat`."""
    parts = [
        files[name].read_bytes() if name in files else None for name in (HAT_FILE, TEMPLATE_FILE)
    ]
    return Hat.from_parts(*parts)


def _check_names(file: SafetensorsFile, spec: AdapterSpec) -> None:
    expected = spec.tensors
    for name in file.tensors:
        if name not in expected:
            reason = next((why for part, why in _KNOWN_EXTRAS.items() if part in name), None)
            reason = reason or f"{CONFIG_FILE} implies no such tensor{near(name, expected, many=1)}"
            raise TensorRefused(f"tensor {name[:200]} is not expected: {reason}", param=name[:200])
    for name in expected:
        if name not in file.tensors:
            raise TensorRefused(
                f"tensor {name} is missing, though {CONFIG_FILE} and the base imply it "
                f"({len(expected)} expected, {len(file.tensors)} found)",
                param=name,
            )


def _check_shapes(file: SafetensorsFile, spec: AdapterSpec) -> None:
    for name, shape in spec.tensors.items():
        tensor = file.tensors[name]
        if tensor.shape != shape:
            raise TensorRefused(
                f"tensor {name} has shape {list(tensor.shape)}; {CONFIG_FILE} and the base imply "
                f"{list(shape)}",
                param=name,
            )
        if tensor.dtype not in DTYPES:
            raise TensorRefused(
                f"tensor {name} is {tensor.dtype}; adapters are {', '.join(DTYPES)}", param=name
            )


def _check_values(
    file: SafetensorsFile, spec: AdapterSpec, progress: Progress | None
) -> list[ModuleReport]:
    """Read the factors pair by pair, so that a large adapter never lies in memory whole."""
    scratch = Scratch()
    grams: list[tuple[Gram, Gram]] = []
    names: list[str] = []
    for site in spec.modules:
        name_a, name_b = (spec.tensor_name(*site, part) for part in ("lora_A", "lora_B"))
        names.append(name_b)
        grams.append(_grams(file, name_a, name_b, scratch))
        if progress is not None:
            progress("checking tensors", len(grams), len(spec.modules))
    return measure(names, grams, [module.scaling for module in spec.modules.values()])


def _grams(file: SafetensorsFile, name_a: str, name_b: str, scratch: Scratch) -> tuple[Gram, Gram]:
    """The Gram matrices of lora_A and of the transposed lora_B; raises `TensorRefused`."""
    gram_a = gram(file.read(name_a, scratch))
    gram_b = gram(file.read(name_b, scratch).T)
    for name, found in ((name_a, gram_a), (name_b, gram_b)):
        # A Gram matrix sums up every value's square, so it is finite only if every value is.
        if not np.isfinite(np.trace(found)):
            values = file.read(name, scratch)
            bad = values.size - int(np.count_nonzero(np.isfinite(values)))
            raise TensorRefused(
                f"tensor {name} is not finite: {bad} of {values.size} values are NaN or infinite",
                param=name,
            )
    return gram_a, gram_b


def _dtype(file: SafetensorsFile) -> str:
    """The adapter's dtype; a mixture counts as the widest, float32."""
    kinds = {tensor.dtype for tensor in file.tensors.values()}
    return DTYPES[kinds.pop()] if len(kinds) == 1 else "float32"
