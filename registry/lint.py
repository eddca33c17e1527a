"""What is checked before an adapter becomes a version: its files, key by key and tensor by tensor.

The checks read content, not names: a version that passed can be loaded into a slot as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .adapter_config import CONFIG_FILE
from .adapters import AdapterSpec, ModuleSpec
from .canonical import Progress
from .errors import ConfigRefused, FileRefused, TemplateMismatch, TensorRefused
from .hats import HAT_FILE, TEMPLATE_FILE, Hat, render_chat
from .lock import Lock
from .receipts import RECEIPT_FILE, Receipt
from .report import ModuleReport, Report, measure
from .safetensors_file import SafetensorsFile
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
    progress: Progress | None = None,
) -> Report:
    """Check an adapter's files against its base's shape fields.

    Raises a `PushRefused` whose `param` is the file, key or tensor at fault, or an `InvalidHat`.
    """
    spec = AdapterSpec.from_config(read_config(files[CONFIG_FILE]), base_config)
    read_hat(files)
    if RECEIPT_FILE in files:
        Receipt.from_bytes(files[RECEIPT_FILE].read_bytes())
    file = SafetensorsFile.open(files[WEIGHTS_FILE], name=WEIGHTS_FILE)
    _check_names(file, spec)
    _check_shapes(file, spec)
    modules = list(_check_values(file, spec, progress))
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
        found = render_chat(
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
) -> Iterable[ModuleReport]:
    """Read the factors pair by pair, so that a large adapter never lies in memory whole."""
    total = sum(tensor.end - tensor.start for tensor in file.tensors.values())
    done = 0
    for (layer, projection), module in spec.modules.items():
        names = [spec.tensor_name(layer, projection, part) for part in ("lora_A", "lora_B")]
        yield _check_module(file, module, *names)
        done += sum(file.tensors[name].end - file.tensors[name].start for name in names)
        if progress is not None:
            progress("checking tensors", done, total)


def _check_module(
    file: SafetensorsFile, module: ModuleSpec, name_a: str, name_b: str
) -> ModuleReport:
    factors = []
    for name in (name_a, name_b):
        values = file.read(name).astype(np.float64)
        # The sum of squares is finite if and only if every value is, and costs less to look at.
        if not np.isfinite(np.vdot(values, values)):
            bad = values.size - int(np.count_nonzero(np.isfinite(values)))
            raise TensorRefused(
                f"tensor {name} is not finite: {bad} of {values.size} values are NaN or infinite",
                param=name,
            )
        factors.append(values)
    return measure(name_b, *factors, scaling=module.scaling)


def _dtype(file: SafetensorsFile) -> str:
    """The adapter's dtype; a mixture counts as the widest, float32."""
    kinds = {tensor.dtype for tensor in file.tensors.values()}
    return DTYPES[kinds.pop()] if len(kinds) == 1 else "float32"
