"""Which files of a folder make an adapter version, and which must never be stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .adapter_config import CONFIG_FILE
from .errors import FileRefused, TooLarge
from .hats import HAT_FILE, TEMPLATE_FILE
from .lint import WEIGHTS_FILE
from .lock import LOCK_FILE
from .receipts import RECEIPT_FILE

# Every layer a manifest may hold, in its order, with its media type.
LAYERS: Mapping[str, str] = {
    WEIGHTS_FILE: "application/vnd.hatstand.adapter.weights.v1+safetensors",
    CONFIG_FILE: "application/vnd.hatstand.adapter.config.v1+json",
    HAT_FILE: "application/vnd.hatstand.hat.v1+json",
    TEMPLATE_FILE: "application/vnd.hatstand.template.v1+jinja",
    "recipe.yaml": "application/yaml",
    RECEIPT_FILE: "application/vnd.hatstand.receipt.v1+json",
    "metrics.json": "application/json",
    "loss.png": "image/png",
    "lengths.png": "image/png",
    "README.md": "text/markdown",
}
REQUIRED = (WEIGHTS_FILE, CONFIG_FILE)

DEFAULT_SIZE_LIMIT = 4 << 30  # bytes, all files together
# Files that are read whole have a limit of their own, in bytes.
SMALL = 16 << 20
WHOLE = frozenset({CONFIG_FILE, HAT_FILE, TEMPLATE_FILE, LOCK_FILE, RECEIPT_FILE})

# Formats that run code when opened.
_UNSAFE = frozenset(
    {".bin", ".ckpt", ".dill", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth"}
)
# What transformers' Trainer leaves beside adapters: never opened, and left out as strangers are.
_TRAINERS_OWN = re.compile(
    r"training_args\.bin|(?:optimizer|scheduler|scaler)\.(?:bin|pt)|rng_state(?:_\d+)?\.pth"
)
_SOUND_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,127}")


@dataclass(frozen=True)
class Bundle:
    """The files to store by name, the lock if there is one, and what is left out."""

    files: Mapping[str, Path]
    lock: Path | None
    left_out: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files to store."""
        return sum(path.stat().st_size for path in self.files.values())


def scan(folder: Path, *, size_limit: int = DEFAULT_SIZE_LIMIT) -> Bundle:
    """Sort the files of `folder`; raises `FileRefused` or `TooLarge` before any is read."""
    if not folder.is_dir():
        raise FileRefused(
            f"{folder} is not a folder: push the folder that holds {WEIGHTS_FILE}",
            param=str(folder),
        )
    names = sorted(entry.name for entry in folder.iterdir())
    for name in names:
        _check_name(name, folder / name)
    for name in REQUIRED:
        if name not in names:
            raise FileRefused(f"{folder} has no {name}: is it a PEFT adapter?", param=name)
    kept = {name: folder / name for name in LAYERS if name in names}
    lock = folder / LOCK_FILE if LOCK_FILE in names else None
    bundle = Bundle(kept, lock, tuple(name for name in names if name not in {*kept, LOCK_FILE}))
    _check_sizes(bundle, size_limit)
    return bundle


def _check_name(name: str, path: Path) -> None:
    if name.startswith(".") and name.isprintable():
        return  # the file manager's and git's own, left out like other strangers
    if not _SOUND_NAME.fullmatch(name):
        raise FileRefused(f"file name {name!a} is not accepted: rename or remove it", param=name)
    if path.suffix.lower() in _UNSAFE and not _TRAINERS_OWN.fullmatch(name):
        raise FileRefused(
            f"{name} is refused: pickled files run code when they are opened. Adapters are "
            f"{WEIGHTS_FILE} only; save with safe_serialization=True, or remove the file.",
            param=name,
        )
    if path.suffix.lower() == ".safetensors" and name != WEIGHTS_FILE:
        raise FileRefused(f"{name} is refused: an adapter is {WEIGHTS_FILE} alone", param=name)
    if (name in LAYERS or name == LOCK_FILE) and not path.is_file():
        raise FileRefused(f"{name} is not a regular file", param=name)


def _check_sizes(bundle: Bundle, size_limit: int) -> None:
    paths = {**bundle.files, **({LOCK_FILE: bundle.lock} if bundle.lock else {})}
    for name in WHOLE & set(paths):
        if paths[name].stat().st_size > SMALL:
            raise TooLarge(f"{name} is over {SMALL >> 20} MiB", param=name)
    if bundle.size > size_limit:
        largest = max(bundle.files, key=lambda name: bundle.files[name].stat().st_size)
        raise TooLarge(
            f"the adapter has {bundle.size} bytes, over the limit of {size_limit}; the largest "
            f"file is {largest}",
            param=largest,
        )
