"""An adapter from the Hub: fetched once at one commit, checked, and from then on a version here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from registry.adapter_config import CONFIG_FILE
from registry.base_sources import hub_record
from registry.bases import BaseRecord, find_base, read_base
from registry.bundle import DEFAULT_SIZE_LIMIT, LAYERS
from registry.candidate import prepare
from registry.canonical import Progress, digest_file
from registry.errors import BaseNotFound, Corrupted, FileRefused, InvalidReference, TooLarge
from registry.homes import adapter_cache
from registry.hub import HubReference, HubSnapshot, look_at
from registry.inspection import InPlace
from registry.lint import WEIGHTS_FILE, read_config
from registry.lock import LOCK_FILE
from registry.opening import AnyRegistry
from registry.staging import StagingArea
from registry.versions import Version

_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class Import:
    """What to import as what. `base` None means the one that the adapter itself names."""

    source: HubReference
    name: str | None = None
    alias: str | None = None
    base: BaseRecord | None = None
    by: str | None = None
    allow_new_base: bool = False
    size_limit: int = DEFAULT_SIZE_LIMIT


def import_from_hub(
    registry: AnyRegistry, wanted: Import, *, progress: Progress | None = None
) -> tuple[Version, HubReference]:
    """Make a Hub adapter the next version of an adapter here; returns it and the pinned commit.

    A repository that was exported from a registry brings its lock along, and so becomes the same
    version, digest and all. Any other gets a lock that names the commit. Raises what the Hub and a
    push may raise.
    """
    snapshot = look_at(wanted.source)
    names = _choose(snapshot, wanted.size_limit)
    with StagingArea(adapter_cache() / "imports").folder() as folder:
        snapshot.download(names, folder)
        _check_digests(snapshot, names, folder)
        base = wanted.base
        if LOCK_FILE not in names:
            base = base or _named_base(folder)
            _write_lock(folder, base, snapshot, wanted.size_limit)
        version = registry.push(
            folder,
            wanted.name or _name_for(snapshot.repository),
            alias=wanted.alias,
            base=base,
            by=wanted.by,
            why=f"imported from {snapshot.reference}",
            progress=progress,
            allow_new_base=wanted.allow_new_base,
            size_limit=wanted.size_limit,
        )
    return version, snapshot.reference


def _choose(snapshot: HubSnapshot, size_limit: int) -> list[str]:
    """The files that make a version; what is too large or pickled is not even downloaded."""
    names = [name for name in (*LAYERS, LOCK_FILE) if name in snapshot.files]
    if WEIGHTS_FILE not in names or CONFIG_FILE not in names:
        missing = WEIGHTS_FILE if WEIGHTS_FILE not in names else CONFIG_FILE
        pickles = [name for name in snapshot.files if name.endswith(_PICKLES)]
        hint = (
            f"; {pickles[0]} is pickled and may run code: ask for a safetensors copy"
            if pickles
            else ": is it a PEFT adapter?"
        )
        raise FileRefused(f"{snapshot.reference} has no {missing}{hint}", param=missing)
    total = sum(snapshot.files[name].size for name in names)
    if total > size_limit:
        raise TooLarge(f"{snapshot.reference} has {total} bytes, over the limit of {size_limit}")
    return names


def _check_digests(snapshot: HubSnapshot, names: list[str], folder: Path) -> None:
    for name in names:
        wanted = snapshot.files[name].sha256
        if wanted is not None and (found := digest_file(folder / name)) != wanted:
            raise Corrupted(
                f"{snapshot.reference}/{name} hashes to {found}, the Hub says {wanted}", param=name
            )


def _named_base(folder: Path) -> BaseRecord:
    """The base that adapter_config.json names: pulled here, or on the Hub by its metadata."""
    config = read_config(folder / CONFIG_FILE)
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    at = f"@{revision}" if isinstance(revision, str) and revision else ""
    try:
        reference = HubReference.parse(f"hf://{name}{at}")
    except InvalidReference:
        raise BaseNotFound(
            f"{CONFIG_FILE} names {str(name)[:80]!r} as its base, which is no Hub repository: say "
            "which base it is with --base",
            param="base",
        ) from None
    try:
        return read_base(find_base(reference.repository))
    except BaseNotFound:
        return hub_record(look_at(reference))


def _write_lock(folder: Path, base: BaseRecord, snapshot: HubSnapshot, size_limit: int) -> None:
    candidate = prepare(folder, InPlace(), base=base, size_limit=size_limit, progress=None)
    lock = candidate.lock.model_copy(update={"imported_from": str(snapshot.reference)})
    lock.write(folder)


def _name_for(repository: str) -> str:
    """`hf://Org/My_Adapter` → `my_adapter`; `check_name` has the last word."""
    name = repository.rpartition("/")[2].lower()
    return re.sub(r"^[^a-z0-9]+", "", re.sub(r"[^a-z0-9._-]", "-", name))[:63]
