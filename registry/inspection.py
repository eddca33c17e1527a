"""What a push would say about a folder, without pushing it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .bases import BaseRecord
from .bundle import DEFAULT_SIZE_LIMIT
from .candidate import prepare
from .canonical import Progress, digest_file, digest_of
from .errors import ConfigRefused, RegistryError
from .report import Report
from .staging import Staged, Staging
from .verdicts import Verdict


@dataclass(frozen=True)
class Inspection:
    """The lint's findings: a report and the digest that a push would give, or a refusal."""

    verdicts: tuple[Verdict, ...]
    report: Report | None = None
    digest: str | None = None
    refusal: RegistryError | None = None


def inspect(
    folder: Path,
    *,
    base: BaseRecord | None = None,
    size_limit: int = DEFAULT_SIZE_LIMIT,
    progress: Progress | None = None,
) -> Inspection:
    """Check a folder exactly as a push does. What is refused is returned, not raised."""
    try:
        candidate = prepare(folder, InPlace(), base=base, size_limit=size_limit, progress=progress)
    except ConfigRefused as refusal:
        return Inspection(refusal.verdicts, refusal=refusal)
    except RegistryError as refusal:
        return Inspection((), refusal=refusal)
    report = candidate.report
    return Inspection(report.verdicts, report=report, digest=candidate.manifest.digest)


class InPlace(Staging):
    """Hashes files where they are: nothing is copied, since nothing will be stored."""

    def __init__(self) -> None:
        """No folder, and nobody to seal what is not copied."""

    def add_file(self, source: Path, progress: Progress | None = None) -> Staged:
        return Staged.known(digest_file(source, progress), source.stat().st_size, source)

    def add_bytes(self, content: bytes) -> Staged:
        return Staged.known(digest_of(content), len(content), Path())
