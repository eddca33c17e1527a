"""A version as an OCI image layout on disk, which `oras copy --from-oci-layout` and skopeo read.

https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry.canonical import canonical_json
from registry.errors import DestinationExists
from registry.manifest import ARTIFACT_TYPE, MANIFEST_TYPE, Manifest
from registry.validation import parse_object

_LAYOUT = {"imageLayoutVersion": "1.0.0"}
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_TAG = "org.opencontainers.image.ref.name"


def write_layout(folder: Path, tag: str, manifest: Manifest, files: Mapping[str, Path]) -> None:
    """Add a version to the layout in `folder` under `tag`, making the layout where needed.

    Blobs that are there already are kept; a tag that is there moves. Raises `DestinationExists`
    when the folder holds something else.
    """
    index = _open(folder)
    for name, blob in manifest.files.items():
        _put(folder, blob.digest, files[name])
    content = manifest.to_bytes()
    _blob(folder, manifest.digest).write_bytes(content)
    entry = {
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "digest": manifest.digest,
        "size": len(content),
        "annotations": {_TAG: tag},
    }
    others = [each for each in index["manifests"] if each.get("annotations", {}).get(_TAG) != tag]
    _replace(folder / "index.json", {**index, "manifests": [*others, entry]})


def _open(folder: Path) -> dict[str, Any]:
    """The layout's index; the files of a new layout are written first."""
    if folder.exists() and not folder.is_dir():
        raise DestinationExists(f"{folder} is a file: name a folder", param=str(folder))
    if (folder / "oci-layout").is_file():
        index = parse_object(
            (folder / "index.json").read_bytes(), source="index.json", error=DestinationExists
        )
        if isinstance(index.get("manifests"), list):
            return index
        raise DestinationExists(f"{folder}/index.json lists no manifests", param=str(folder))
    if folder.is_dir() and any(folder.iterdir()):
        raise DestinationExists(
            f"{folder} is not empty and no OCI layout: name another folder", param=str(folder)
        )
    (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    _replace(folder / "oci-layout", _LAYOUT)
    return {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": []}


def _blob(folder: Path, digest: str) -> Path:
    path = folder / "blobs" / "sha256" / digest.removeprefix("sha256:")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _put(folder: Path, digest: str, source: Path) -> None:
    target = _blob(folder, digest)
    if target.is_file():
        return
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, partial)
    partial.replace(target)


def _replace(path: Path, value: object) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(json.dumps(json.loads(canonical_json(value)), indent=2).encode())
    partial.replace(path)
