"""From a folder to a checked candidate: everything a push does before the catalog hears of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .adapter_config import CONFIG_FILE
from .adapters import AdapterSpec
from .bases import BaseRecord
from .bundle import LAYERS, Bundle, scan
from .canonical import Progress
from .errors import BaseMismatch, FileRefused, InvalidLock
from .lint import check_lock, lint, read_config
from .lock import LOCK_FILE, Lock
from .manifest import LOCK_TYPE, Descriptor, Manifest
from .report import Report
from .staging import Staged, Staging


@dataclass(frozen=True)
class Candidate:
    """A manifest whose blobs are staged and whose content has passed the lint."""

    manifest: Manifest
    lock: Lock
    report: Report

    @property
    def base_fingerprint(self) -> str:
        """The base that it was trained on."""
        return self.lock.base.fingerprint


def prepare(
    folder: Path,
    staging: Staging,
    *,
    base: BaseRecord | None,
    size_limit: int,
    progress: Progress | None,
) -> Candidate:
    """Copy the folder's files into `staging` and check the copies.

    Raises a `PushRefused`, `InvalidHat` or `InvalidLock` naming what is wrong.
    """
    bundle = scan(folder, size_limit=size_limit)
    lock = _read_lock(bundle)
    known_base = _agree_on_base(bundle, lock, base)
    staged = _stage(bundle, staging, progress)
    files = {name: item.path for name, item in staged.items()}
    report = lint(files, known_base.config, progress=progress)
    if lock is None:
        lock = _make_lock(known_base, files, report)
        report = _with_named_base(report, read_config(files[CONFIG_FILE]), known_base)
    else:
        check_lock(lock, files, report)
    stored_lock = staging.add_bytes(lock.to_bytes())
    manifest = Manifest(
        config=Descriptor(LOCK_TYPE, stored_lock.digest, stored_lock.size),
        layers=tuple(_layer(name, item) for name, item in staged.items()),
    )
    staging.add_bytes(manifest.to_bytes())
    return Candidate(manifest, lock, _with_left_out(report, bundle))


def _stage(bundle: Bundle, staging: Staging, progress: Progress | None) -> dict[str, Staged]:
    """Copy the files in, the large last: what is small is safe on the disk meanwhile."""
    by_size = sorted(bundle.files.items(), key=lambda item: item[1].stat().st_size)
    staged = {name: staging.add_file(path, progress) for name, path in by_size}
    return {name: staged[name] for name in bundle.files}


def _read_lock(bundle: Bundle) -> Lock | None:
    if bundle.lock is None:
        return None
    try:
        return Lock.from_bytes(bundle.lock.read_bytes())
    except InvalidLock:
        raise
    except OSError as failure:
        raise FileRefused(
            f"{LOCK_FILE} cannot be read: {failure.strerror}", param=LOCK_FILE
        ) from None


def _agree_on_base(bundle: Bundle, lock: Lock | None, base: BaseRecord | None) -> BaseRecord:
    """The base the adapter belongs to, by the lock, the caller, or both in agreement."""
    if lock is None:
        if base is None:
            raise FileRefused(
                f"there is no {LOCK_FILE} to say which base the adapter was trained on: name it "
                f"with --base, so that its shapes can be checked{_named_base(bundle)}",
                param="base",
            )
        return base
    if base is not None and base.fingerprint != lock.base.fingerprint:
        how = "other weights"
        if base.quantization != lock.base.quantization:
            how = f"quantization {lock.base.quantization}, not {base.quantization}"
        raise BaseMismatch(
            f"{LOCK_FILE} says the adapter was trained on {lock.base.name} "
            f"({lock.base.fingerprint[:19]}…, {how}), which is not {base.name} "
            f"({base.fingerprint[:19]}…)",
            param="base",
        )
    return lock.base


def _named_base(bundle: Bundle) -> str:
    """What the adapter's configuration calls its base, as the end of a sentence; or nothing."""
    named = read_config(bundle.files[CONFIG_FILE]).get("base_model_name_or_path")
    return f" ({CONFIG_FILE} names {named[:200]!r})" if isinstance(named, str) and named else ""


def _make_lock(base: BaseRecord, files: dict[str, Path], report: Report) -> Lock:
    """The lock of an adapter that came without one: what its files themselves say."""
    config = read_config(files[CONFIG_FILE])
    spec = AdapterSpec.from_config(config, base.config)
    return Lock(
        base=base,
        adapter_dtype=report.dtype,
        rank=config.get("r", 8),
        target_modules=spec.projections,
    )


def _with_named_base(report: Report, config: dict[str, Any], base: BaseRecord) -> Report:
    """Warn where the configuration names another base than whoever pushes: shapes do not tell."""
    named = config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        return report
    if _last_part(named) in (_last_part(base.name), _last_part(base.source)):
        return report
    warning = (
        f"{CONFIG_FILE} says that it was trained on {named[:200]!r}; it is kept as {base.name}'s, "
        "whose shapes it has"
    )
    return replace(report, warnings=(*report.warnings, warning))


def _last_part(name: str) -> str:
    """What a base is called, wherever it lies: the same for a folder and a Hub id."""
    return name.rstrip("/").rpartition("/")[2].lower()


def _layer(name: str, staged: Staged) -> Descriptor:
    return Descriptor(LAYERS[name], staged.digest, staged.size, name)


def _with_left_out(report: Report, bundle: Bundle) -> Report:
    strangers = [name for name in bundle.left_out if not name.startswith(".")]
    if not strangers:
        return report
    warning = f"not stored: {', '.join(strangers)}"
    if any(name.startswith(("tokenizer", "added_tokens")) for name in strangers):
        warning += " (the base's own tokenizer is used)"
    return replace(report, warnings=(*report.warnings, warning))
