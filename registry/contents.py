"""What a version holds, wherever its bytes are."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path

from .blobs import Blobs
from .canonical import Progress
from .hats import HAT_FILE, TEMPLATE_FILE, Hat
from .lint import read_hat
from .lock import LOCK_FILE, Lock
from .pull import copy_out
from .references import Reference
from .versions import Version


class Contents(ABC):
    """The files of versions, read through a store of blobs that holds or fetches them."""

    blobs: Blobs

    @abstractmethod
    def resolve(self, reference: str | Reference) -> Version:
        """The version a reference means now: a bare name is alias `prod`, else the newest."""

    def files(self, version: Version) -> dict[str, Path]:
        """File name → path of its bytes, the lock included; raises `Corrupted`.

        Bytes are hashed on first use in this process, sizes compared every time. The paths are
        the registry's own: read them, never write.
        """
        return {
            name: self.blobs.local(blob.digest, blob.size)
            for name, blob in version.manifest.files.items()
        }

    def hat(self, version: Version) -> Hat:
        """The hat that travels with a version."""
        names = (HAT_FILE, TEMPLATE_FILE)
        blobs = {name: version.manifest.files.get(name) for name in names}
        return read_hat(
            {
                name: self.blobs.local(blob.digest, blob.size)
                for name, blob in blobs.items()
                if blob is not None
            }
        )

    def lock(self, version: Version) -> Lock:
        """What a version's behaviour depends on."""
        blob = version.manifest.files[LOCK_FILE]
        return Lock.from_bytes(self.blobs.local(blob.digest, blob.size).read_bytes())

    def pull(
        self,
        reference: str | Reference,
        folder: str | os.PathLike[str],
        *,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Version:
        """Copy a version's files into `folder`, verified; pushing it again gives this version.

        Raises `DestinationExists` when the folder is not empty, unless `force`.
        """
        version = self.resolve(reference)
        copy_out(self.blobs, version.manifest.files, Path(folder), force=force, progress=progress)
        return version
