"""Which 4-bit weights a base is turned into: the part of a base's identity beside its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# QLoRA's weights: NF4, double quantization, bfloat16 compute.
NF4: Mapping[str, Any] = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
}
# The weights as they are in the checkpoint.
UNQUANTIZED: Mapping[str, Any] = {"load_in_4bit": False}

# transformers' own defaults for keys that a configuration leaves out.
_DEFAULTS: Mapping[str, Any] = {
    "bnb_4bit_quant_type": "fp4",
    "bnb_4bit_use_double_quant": False,
    "bnb_4bit_compute_dtype": "float32",
}


def canonical_quantization(quantization: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a bitsandbytes configuration that decide the weights, spelled one way.

    Storage and 8-bit settings that do not touch 4-bit numbers are left out, so that a
    configuration written by hand and the one transformers saves agree.
    """
    if quantization.get("load_in_8bit"):
        return {
            "load_in_8bit": True,
            "llm_int8_threshold": quantization.get("llm_int8_threshold", 6.0),
        }
    if not quantization.get("load_in_4bit"):
        return dict(UNQUANTIZED)
    chosen: dict[str, Any] = {"load_in_4bit": True}
    for key, default in _DEFAULTS.items():
        value = quantization.get(key)
        chosen[key] = default if value is None else value
    chosen["bnb_4bit_compute_dtype"] = str(chosen["bnb_4bit_compute_dtype"]).removeprefix("torch.")
    # The output layer is never quantized, whether the configuration says so or leaves it unsaid.
    skipped = {*(quantization.get("llm_int8_skip_modules") or ()), "lm_head"}
    chosen["llm_int8_skip_modules"] = sorted(skipped)
    return chosen
