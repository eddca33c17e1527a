"""Under which licence a base is, by what lies beside its weights."""

from __future__ import annotations

from pathlib import Path

import yaml

# Licences under which adapters may be published and used without asking (SPDX, lower case).
OPEN = frozenset({"apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "unlicense"})
_FENCE = "---"


# Of bases that come without files of their own that say it, by where they come from.
_KNOWN = {"smollm2-135m": "apache-2.0"}


def licence_of(folder: Path, source: str = "") -> str | None:
    """The SPDX name in the card's front matter or of the licence's text; None where none says."""
    return _KNOWN.get(source) or _written(folder)


def _written(folder: Path) -> str | None:
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return _by_text(folder)
    return _front_matter(text) or _by_text(folder)


def _front_matter(text: str) -> str | None:
    if not text.startswith(f"{_FENCE}\n"):
        return None
    head, fence, _ = text[len(_FENCE) + 1 :].partition(f"\n{_FENCE}")
    try:
        values = yaml.safe_load(head) if fence else None
    except yaml.YAMLError:
        return None
    name = values.get("license") if isinstance(values, dict) else None
    return name.lower() if isinstance(name, str) else None


def _by_text(folder: Path) -> str | None:
    """Told by the first lines of a licence file."""
    for path in sorted(folder.glob("LICENSE*")):
        start = path.read_text(encoding="utf-8", errors="replace")[:400].lower()
        if "apache license" in start and "version 2.0" in start:
            return "apache-2.0"
        if "mit license" in start:
            return "mit"
    return None
