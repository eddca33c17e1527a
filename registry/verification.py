"""Checking what is stored: every byte against its digest, then the lint again."""

from __future__ import annotations

from dataclasses import dataclass

from .blobs import Blobs
from .canonical import Progress, digest_of
from .errors import RegistryError
from .lint import check_lock, lint
from .lock import Lock
from .report import Report
from .versions import Version


@dataclass(frozen=True)
class VersionCheck:
    """What verification found out about one version. `report` is None if it has problems."""

    version: Version
    problems: tuple[str, ...]
    report: Report | None

    @property
    def is_sound(self) -> bool:
        """Whether every byte is as it was pushed and would be accepted again."""
        return not self.problems


def verify_version(
    version: Version, blobs: Blobs, *, progress: Progress | None = None
) -> VersionCheck:
    """Re-hash the manifest and every blob, then lint; problems are collected, not raised."""
    problems: list[str] = []
    manifest = version.manifest.to_bytes()
    if digest_of(manifest) != version.digest:
        problems.append(f"the catalog's manifest hashes to {digest_of(manifest)}")
    expected = {"manifest": (version.digest, len(manifest))}
    for name, blob in version.manifest.files.items():
        expected[name] = (blob.digest, blob.size)
    for name, (digest, size) in expected.items():
        try:
            blobs.check(digest, progress)
            blobs.local(digest, size)
        except RegistryError as problem:
            problems.append(f"{name}: {problem.message}")
    if problems:
        return VersionCheck(version, tuple(problems), None)
    try:
        report = _lint_again(version, blobs, progress)
    except RegistryError as problem:
        return VersionCheck(version, (problem.message,), None)
    return VersionCheck(version, (), report)


def _lint_again(version: Version, blobs: Blobs, progress: Progress | None) -> Report:
    files = {
        name: blobs.local(blob.digest, blob.size) for name, blob in version.manifest.files.items()
    }
    lock = Lock.from_bytes(files["lock.json"].read_bytes())
    report = lint(files, lock.base.config, is_stored=True, progress=progress)
    check_lock(lock, files, report)
    return report
