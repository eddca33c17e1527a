"""What a signature covers: a version's files by their digests, as model-signing writes them down.

The names and digests of all files are what makes a version's digest, so nothing of it is left out.
Verified bytes are the registry's business; here nothing is hashed again.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from model_signing import hashing, manifest
from model_signing._hashing.hashing import Digest  # the only kind that its manifests compare

from registry.versions import Version

_SERIALIZATION = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}


class CoveredFiles(hashing.Config):
    """Stands in for hashing a folder: the files that `registry pull` would put there."""

    def __init__(self, version: Version) -> None:
        super().__init__()
        self._version = version

    def hash(self, model_path: Any, *, files_to_hash: Any = None) -> manifest.Manifest:  # noqa: ARG002
        """The version's files, whatever the path."""
        return manifest.Manifest(
            self._version.name,
            [
                manifest.FileManifestItem(path=PurePosixPath(name), digest=_digest(blob.digest))
                for name, blob in self._version.manifest.files.items()
            ],
            manifest.SerializationType.from_args(dict(_SERIALIZATION)),
        )


def _digest(text: str) -> Digest:
    return Digest("sha256", bytes.fromhex(text.removeprefix("sha256:")))
