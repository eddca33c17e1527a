"""The record of a base by whichever route it is named: pulled, a folder, the Hub, a registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .bases import BaseRecord, find_base, fingerprint_of, read_base, shape_fields
from .canonical import Progress
from .errors import InvalidBase
from .homes import adapter_cache
from .hub import SCHEME, HubReference, HubSnapshot, look_at
from .opening import AnyRegistry
from .quantization import NF4, canonical_quantization
from .shards import INDEX_FILE, SINGLE_FILE, names_in_index
from .staging import StagingArea
from .validation import parse_object


def find_record(text: str, *, progress: Progress | None = None) -> BaseRecord:
    """A base by pulled name, by folder, or by `hf://org/name[@rev]`.

    Raises `BaseNotFound`, `InvalidBase`, or what the Hub says.
    """
    if text.startswith(SCHEME):
        return hub_record(look_at(HubReference.parse(text)))
    return read_base(find_base(text), progress=progress)


def bases_in(registry: AnyRegistry) -> list[BaseRecord]:
    """The bases of adapters' newest versions, by name: what their locks say of them."""
    newest = {adapter.newest.base_fingerprint: adapter.newest for adapter in registry.adapters()}
    found = [registry.lock(version).base for version in newest.values()]
    return sorted(found, key=lambda record: record.name)


def hub_record(
    snapshot: HubSnapshot, *, quantization: Mapping[str, Any] | None = None
) -> BaseRecord:
    """The record of a base on the Hub, from metadata: no shard is downloaded.

    It has the fingerprint that the same files have in a folder. `quantization` None means what
    the checkpoint itself says, else NF4. Raises `InvalidBase` where the Hub lacks a digest.
    """
    with StagingArea(adapter_cache() / "imports").folder() as folder:
        small = [name for name in ("config.json", INDEX_FILE) if name in snapshot.files]
        if "config.json" not in small:
            raise InvalidBase(f"{snapshot.reference} has no config.json: is it a base?")
        snapshot.download(small, folder)
        texts = {name: (folder / name).read_bytes() for name in small}
    config = parse_object(texts["config.json"], source="config.json", error=InvalidBase)
    names = names_in_index(texts[INDEX_FILE]) if INDEX_FILE in texts else [SINGLE_FILE]
    if quantization is None:
        quantization = config.get("quantization_config") or NF4
    try:
        shapes = shape_fields(config)
    except ValueError as failure:
        raise InvalidBase(f"{snapshot.reference}: config.json: {failure}") from None
    return BaseRecord(
        name=snapshot.repository.replace("/", "--"),  # as `hatstand base pull` would call it
        source=snapshot.repository,
        revision=snapshot.commit,
        fingerprint=fingerprint_of(_digests(snapshot, names), quantization),
        quantization=canonical_quantization(quantization),
        config=shapes,
    )


def _digests(snapshot: HubSnapshot, names: list[str]) -> dict[str, str]:
    digests: dict[str, str] = {}
    for name in names:
        file = snapshot.files.get(name)
        if file is None or file.sha256 is None:
            reason = "is missing" if file is None else "has no sha256 on the Hub"
            raise InvalidBase(
                f"{snapshot.reference}: {name} {reason}; pull the base and name it by folder",
                param=name,
            )
        digests[name] = file.sha256
    return digests
