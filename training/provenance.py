"""What an adapter was made from and with: the lock."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from registry.bases import BaseRecord
from registry.canonical import digest_file, digest_of
from registry.lock import GoldenPrompt, Lock
from registry.templates import depends_on_the_day

from .recipe import Recipe
from .rendering import Renderer

_PACKAGES = (
    "hatstand",
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "tokenizers",
)
# Keys that name one file or folder.
_FILES = (("train", "deepspeed"), ("tracking", "folder"), ("forgetting", "data"))


def make_lock(
    recipe: Recipe,
    base: BaseRecord,
    renderer: Renderer,
    *,
    data: Mapping[str, str],
    golden: Sequence[Any],
    tokenizer: Path,
    target_modules: Sequence[str],
    metrics: dict[str, float],
    commit: str | None,
) -> Lock:
    """The `Lock` of one run: no times and no paths in it, so that equal runs lock equally.

    `data` are digests by name; `golden` are conversations as a client would send them;
    `tokenizer` is `tokenizer.json`.
    """
    return Lock(
        base=base,
        adapter_dtype="bfloat16",
        rank=recipe.saved_rank,
        target_modules=tuple(sorted(target_modules)),
        template_sha256=digest_of(renderer.template.encode()),
        golden=_golden(renderer, golden),
        tokenizer_sha256=digest_file(tokenizer) if tokenizer.is_file() else None,
        recipe=portable_recipe(recipe),
        data=dict(data),
        environment=environment(),
        source_commit=commit,
        metrics=metrics,
    )


def _golden(renderer: Renderer, prompts: Sequence[Any]) -> tuple[GoldenPrompt, ...]:
    """What the prompts render to; nothing where that is true of one day only."""
    if depends_on_the_day(renderer.template):
        return ()
    return tuple(
        GoldenPrompt(
            messages=tuple(map(dict, prompt)),
            token_ids=tuple(renderer.prompt_ids(prompt)),
            text=renderer.prompt_text(prompt),
            bos_token=renderer.bos_token,
            eos_token=renderer.eos_token,
        )
        for prompt in prompts
    )


def portable_recipe(recipe: Recipe) -> dict[str, Any]:
    """The recipe without what differs from machine to machine: files by name, no output."""
    values = recipe.model_dump(mode="json", exclude={"output"})
    for key in ("base", "serve_on"):
        values[key] = _by_name(values[key])
    for section, key in _FILES:
        if values[section] is not None:
            values[section][key] = _by_name(values[section][key])
    for key in ("train", "validation", "heldout"):
        if isinstance(sources := values["data"][key], list):
            values["data"][key] = [_by_name(source) for source in sources]
    return values


def _by_name(source: str | None) -> str | None:
    """A file by its name alone; names of bases and datasets of the Hub as they are."""
    if source is None or not Path(source).is_absolute():
        return source
    return Path(source).name


def environment() -> dict[str, str]:
    """Versions of Python and of the packages that decide what is computed."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def source_commit(folder: Path) -> str | None:
    """The git commit of the repository that `folder` (the recipe's) is in, if it is in one."""
    git = shutil.which("git")
    if git is None:
        return None
    try:
        result = subprocess.run(
            [git, "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None
