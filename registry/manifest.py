"""A version's manifest: an OCI 1.1 image manifest, whose bytes' sha256 is the version."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NotRequired

from typing_extensions import TypedDict

from .canonical import canonical_json, digest_of
from .errors import Corrupted
from .validation import parse_object

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.hatstand.adapter.v1+json"
LOCK_TYPE = "application/vnd.hatstand.lock.v1+json"
_TITLE = "org.opencontainers.image.title"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class DescriptorDocument(TypedDict):
    """A descriptor as OCI spells it."""

    mediaType: str
    digest: str
    size: int
    annotations: NotRequired[dict[str, str]]


class ManifestDocument(TypedDict):
    """A manifest as OCI spells it."""

    schemaVersion: int
    mediaType: str
    artifactType: str
    config: DescriptorDocument
    layers: list[DescriptorDocument]


@dataclass(frozen=True)
class Descriptor:
    """One blob: its digest and size in bytes, and for layers the file's name."""

    media_type: str
    digest: str
    size: int
    title: str | None = None

    def to_dict(self) -> DescriptorDocument:
        """As OCI spells it."""
        values: DescriptorDocument = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.title is not None:
            values["annotations"] = {_TITLE: self.title}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Descriptor:
        """Read OCI's spelling; raises KeyError, TypeError or ValueError."""
        digest, size = values["digest"], values["size"]
        if not _DIGEST.fullmatch(digest) or not isinstance(size, int) or size < 0:
            raise ValueError(f"no blob is {digest!r} of {size!r} bytes")
        title = values.get("annotations", {}).get(_TITLE)
        return cls(str(values["mediaType"]), digest, size, title)


@dataclass(frozen=True)
class Manifest:
    """The config blob (the lock) and the layers (the files). Nothing in it depends on time."""

    config: Descriptor
    layers: tuple[Descriptor, ...]

    def to_dict(self) -> ManifestDocument:
        """As OCI spells it."""
        return {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": self.config.to_dict(),
            "layers": [layer.to_dict() for layer in self.layers],
        }

    def to_bytes(self) -> bytes:
        """The canonical bytes that are hashed and stored."""
        return canonical_json(self.to_dict())

    @classmethod
    def from_bytes(cls, content: bytes) -> Manifest:
        """Read a stored manifest; raises `Corrupted` if it is none of ours."""
        values = parse_object(content, source="manifest", error=Corrupted)
        try:
            if values["artifactType"] != ARTIFACT_TYPE:
                raise ValueError(f"artifactType is {values['artifactType']!r}")
            layers = tuple(Descriptor.from_dict(layer) for layer in values["layers"])
            return cls(Descriptor.from_dict(values["config"]), layers)
        except (KeyError, TypeError, ValueError, AttributeError) as failure:
            raise Corrupted(f"the manifest is not an adapter's: {failure!r}") from None

    @property
    def digest(self) -> str:
        """The version's identity."""
        return digest_of(self.to_bytes())

    @property
    def size(self) -> int:
        """Bytes of the files and the lock together."""
        return self.config.size + sum(layer.size for layer in self.layers)

    @property
    def files(self) -> dict[str, Descriptor]:
        """File name → blob, the lock included."""
        named = {layer.title: layer for layer in self.layers if layer.title is not None}
        return {**named, "lock.json": self.config}
